import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { locked } from "./cache.mjs";
import { run, SetupError, which, withProgress } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/** Installs the project's `node_modules` from `package-lock.json`. @returns {Promise<string>} Their folder. */
export async function npmDependencies() {
  const modules = join(PROJECT, "node_modules");
  if (await isCurrent(modules)) return modules;
  if (!(await which("npm")))
    throw new SetupError("npm not found: install Node.js with npm (https://nodejs.org)");
  await locked(modules, async () => {
    if (await isCurrent(modules)) return;
    const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    await withProgress("npm ci", () => run("npm", ["ci", ...flags], { cwd: PROJECT }));
  });
  return modules;
}

/**
 * npm writes what it has installed into `node_modules/.package-lock.json`, as its last act. Packages for other
 * platforms (optional ones) are not in it.
 *
 * @param {string} modules
 */
async function isCurrent(modules) {
  const wanted = await packages(join(PROJECT, "package-lock.json"));
  const installed = await packages(join(modules, ".package-lock.json"));
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === "" || optional || installed[path]?.version === version,
  );
}

/**
 * @param {string} lockfile
 * @returns {Promise<Record<string, { version?: string, optional?: boolean }>>}
 */
async function packages(lockfile) {
  return JSON.parse(await readFile(lockfile, "utf8").catch(() => "{}")).packages ?? {};
}
