import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "../build.mjs";
import { run, SetupError, withProgress } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Builds the plugin and packs it as for publishing.
 *
 * @param {string} folder The folder for the package.
 * @returns {Promise<string>} Its path.
 */
export async function packPlugin(folder) {
  await build();
  await mkdir(folder, { recursive: true });
  await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: PROJECT });
  const file = (await readdir(folder)).find((name) => name.endsWith(".tgz"));
  if (!file) throw new SetupError(`npm pack left no package in ${folder}`);
  return join(folder, file);
}

/**
 * Builds the receiver without optimization, which takes much less time and is fast enough for demonstrations and tests.
 *
 * @returns {Promise<string>} Path of the program.
 */
export async function buildReceiver() {
  await withProgress("build the receiver (cargo build -p agentwatch-receiver)", () =>
    run("cargo", ["build", "--locked", "-p", "agentwatch-receiver"], { cwd: PROJECT }),
  );
  return join(process.env.CARGO_TARGET_DIR ?? join(PROJECT, "target"), "debug", "agentwatch-receiver");
}
