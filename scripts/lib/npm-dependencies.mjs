import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { locked } from "./cache.mjs";
import { exists, run, SetupError, which, withProgress } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/** The project's own `node_modules`, as `package-lock.json` has them. @returns {Promise<string>} Their folder. */
export async function npmDependencies() {
  const modules = join(PROJECT, "node_modules");
  const stamp = join(modules, ".agentwatch-complete");
  const wanted = createHash("sha256")
    .update(await readFile(join(PROJECT, "package-lock.json")))
    .digest("hex");
  const current = async () => (await exists(stamp)) && (await readFile(stamp, "utf8")) === wanted;
  if (await current()) return modules;
  if (!(await which("npm")))
    throw new SetupError("npm not found: install Node.js with npm (https://nodejs.org)");
  await locked(modules, async () => {
    if (await current()) return;
    // Not `npm ci`: it insists on lock entries of every platform's optional binaries, which not every
    // registry serves. `npm install` follows the lock file as well, and `--no-save` leaves it as it is.
    const flags = ["--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
    await withProgress("npm install", () => run("npm", ["install", ...flags], { cwd: PROJECT }));
    await writeFile(stamp, wanted);
  });
  return modules;
}
