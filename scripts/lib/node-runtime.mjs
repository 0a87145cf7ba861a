import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "./cache.mjs";
import { run, SetupError, which } from "./run.mjs";

/**
 * A Node of its own for each OpenClaw generation, whatever Node the machine has: the npm package `node` is a binary.
 *
 * @param {22 | 24} major
 * @returns {Promise<string>} Path of the `node` binary.
 */
export async function nodeRuntime(major) {
  const binary = (/** @type {string} */ folder) => join(folder, "node_modules", "node", "bin", "node");
  const folder = await cached(
    `node/${major}`,
    `install Node ${major} (npm node@${major})`,
    async (folder) => {
      await npmInstall(folder, { node: String(major) });
      await isMajor(binary(folder), major);
    },
    (folder) => isMajor(binary(folder), major),
  );
  return binary(folder);
}

/**
 * @param {string} binary
 * @param {number} major
 */
async function isMajor(binary, major) {
  const version = (await run(binary, ["--version"])).trim();
  if (!version.startsWith(`v${major}.`)) throw new SetupError(`${binary} is ${version}, not Node ${major}`);
  return true;
}

/**
 * Runs a script again on a Node that the gateways' clients take, where the one at hand is older.
 *
 * @param {string} script
 * @param {string[]} args
 * @returns {Promise<boolean>} Whether it did: then there is nothing left to do.
 */
export async function onNewNode(script, args) {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > 22 || (major === 22 && minor >= 16)) return false;
  const child = spawn(await nodeRuntime(24), [script, ...args], { stdio: "inherit" });
  process.exitCode = await new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
  return true;
}

/**
 * `npm install` of some packages into a folder of their own.
 *
 * @param {string} folder
 * @param {Record<string, string>} dependencies
 * @param {{ overrides?: Record<string, string>, env?: Record<string, string> }} [options]
 */
export async function npmInstall(folder, dependencies, { overrides, env } = {}) {
  if (!(await which("npm")))
    throw new SetupError("npm not found: install Node.js with npm (https://nodejs.org)");
  const manifest = { private: true, dependencies, ...(overrides ? { overrides } : {}) };
  await writeFile(join(folder, "package.json"), JSON.stringify(manifest, null, 2));
  const flags = ["--no-audit", "--no-fund", "--omit=dev", "--loglevel=error"];
  await run("npm", ["install", ...flags], { cwd: folder, env, log: join(folder, "install.log") });
}
