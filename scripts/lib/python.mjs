import { join } from "node:path";
import { cached } from "./cache.mjs";
import { run, SetupError } from "./run.mjs";

/**
 * A Python environment with some packages in it, in the cache.
 *
 * @param {string} name Path below the cache's `python/`, different for each version.
 * @param {string} what What the person reads while it is made.
 * @param {string[]} packages As pip names them, pinned.
 * @returns {Promise<string>} The folder of its programs.
 */
export async function pythonPrograms(name, what, packages) {
  const folder = await cached(`python/${name}`, what, async (folder) => {
    try {
      await run("python3", ["-m", "venv", folder]);
    } catch (error) {
      const why = /** @type {Error} */ (error).message;
      throw new SetupError(`python3 with its module venv is missing: apt-get install python3-venv (${why})`);
    }
    const flags = ["install", "--quiet", "--no-input", "--no-compile"];
    await run(join(folder, "bin", "pip"), [...flags, ...packages]);
  });
  return join(folder, "bin");
}
