import { join } from "node:path";
import { fromLock } from "./locks.mjs";
import { run, SetupError } from "./run.mjs";

/**
 * A Python environment with the packages of a lock. pip compares each with the lock's hashes; it takes wheels alone,
 * since a source package runs a script of its own while it is installed.
 *
 * @param {string} lock Name of a folder of `scripts/locks`.
 * @param {string} what Text for the progress lines.
 * @returns {Promise<string>} The folder of its programs.
 */
export async function pythonPrograms(lock, what) {
  const folder = await fromLock(lock, `python/${lock}`, what, async (folder, source) => {
    try {
      await run("python3", ["-m", "venv", folder]);
    } catch (error) {
      const why = /** @type {Error} */ (error).message;
      throw new SetupError(`python3 with its module venv is missing: apt-get install python3-venv (${why})`);
    }
    const flags = ["--quiet", "--no-input", "--no-compile", "--require-hashes", "--only-binary=:all:"];
    await run(join(folder, "bin", "pip"), ["install", ...flags, "-r", join(source, "requirements.txt")]);
  });
  return join(folder, "bin");
}
