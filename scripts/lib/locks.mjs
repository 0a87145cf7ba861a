import { createHash } from "node:crypto";
import { cp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cached } from "./cache.mjs";
import { run, SetupError, which } from "./run.mjs";

/** A folder for each program that the set-up fetches, with a lock file of the program and its dependencies. */
export const LOCKS = fileURLToPath(new URL("../locks/", import.meta.url));

/**
 * A folder of the cache that is filled from a lock, and filled again when the lock has changed.
 *
 * @param {string} lock Name of a folder of `scripts/locks`.
 * @param {string} name Path below the cache root.
 * @param {string} what Text for the progress lines.
 * @param {(folder: string, lock: string) => Promise<void>} fill
 */
export async function fromLock(lock, name, what, fill) {
  const folder = join(LOCKS, lock);
  return cached(name, what, (into) => fill(into, folder), await digest(folder));
}

/** @param {string} folder */
async function digest(folder) {
  const hash = createHash("sha256");
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  for (const file of files.sort()) hash.update(await readFile(file)).update("\0");
  return hash.digest("hex");
}

/**
 * Installs npm packages from their lock. npm compares each with the lock's integrity. Install scripts do not run, since
 * they could fetch files that are in no lock.
 *
 * @param {string} lock
 * @param {string} name
 * @param {string} what
 * @param {(folder: string) => Promise<void>} [then] Further work after the installation.
 */
export function npmPackages(lock, name, what, then) {
  return fromLock(lock, name, what, async (folder, source) => {
    if (!(await which("npm")))
      throw new SetupError("npm not found: install Node.js with npm (https://nodejs.org)");
    await cp(source, folder, { recursive: true });
    const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    await run("npm", ["ci", ...flags], { cwd: folder, log: join(folder, "install.log") });
    await then?.(folder);
  });
}
