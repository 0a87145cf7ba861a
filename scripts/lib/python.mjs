import { existsSync } from "node:fs";
import { join } from "node:path";
import { fromLock } from "./locks.mjs";
import { run, SetupError, which } from "./run.mjs";

/** Flags of every installation: pip compares each package with the lock's hashes. */
const FLAGS = ["--quiet", "--no-input", "--no-compile", "--require-hashes"];

/**
 * A Python environment with the packages of a lock. pip takes wheels alone, since a source package runs a script of its
 * own while it is installed. Only the packages of `source.txt` run one: they have no wheel, and what builds them is in the
 * lock.
 *
 * @param {string} lock Name of a folder of `scripts/locks`.
 * @param {string} what Text for the progress lines.
 * @param {number} [least] The oldest version of Python that the packages run on: 12 for 3.12.
 * @returns {Promise<string>} The folder of its programs.
 */
export async function pythonPrograms(lock, what, least = 0) {
  const folder = await fromLock(lock, `python/${lock}`, what, async (folder, source) => {
    const python = await interpreter(least);
    try {
      await run(python, ["-m", "venv", folder]);
    } catch (error) {
      const why = /** @type {Error} */ (error).message;
      throw new SetupError(`python3 with its module venv is missing: apt-get install python3-venv (${why})`);
    }
    const pip = join(folder, "bin", "pip");
    await run(pip, ["install", ...FLAGS, "--only-binary=:all:", "-r", join(source, "requirements.txt")]);
    const built = join(source, "source.txt");
    const build = ["--no-deps", "--no-build-isolation", "--no-binary=:all:"];
    if (existsSync(built)) await run(pip, ["install", ...FLAGS, ...build, "-r", built]);
  });
  return join(folder, "bin");
}

/**
 * The machine's Python, or where that is too old a newer one beside it: `python3.13` on the path, or one of pyenv's.
 *
 * @param {number} least
 */
async function interpreter(least) {
  if (least === 0) return "python3";
  const names = ["python3"];
  for (let minor = least + 3; minor >= least; minor -= 1) names.push(`python3.${minor}`);
  if (await which("pyenv")) {
    const root = (await run("pyenv", ["root"])).trim();
    const versions = (await run("pyenv", ["versions", "--bare"])).trim().split("\n");
    names.push(...versions.map((version) => join(root, "versions", version, "bin", "python3")));
  }
  for (const name of names) {
    // A shim of pyenv's is on the path also where it runs nothing.
    const minor = await run(name, ["-c", "import sys; print(sys.version_info[1])"]).catch(() => "-1");
    if (Number(minor) >= least) return name;
  }
  throw new SetupError(`Python 3.${least} or later not found: there is none under ${names.join(", ")}`);
}
