import { join } from "node:path";
import { LOCKS, npmPackages } from "./locks.mjs";
import { nodeRuntime } from "./node-runtime.mjs";
import { exists, run, SetupError } from "./run.mjs";

/** The tested versions, one of each generation. */
export const VERSIONS = ["2026.3.13", "2026.5.28", "2026.6.11", "2026.7.1", "2026.8.2", "2026.9.6"];

/**
 * The Node for a version of OpenClaw: from 2026.6 on 24.16 or later, before that 22.16 or later.
 *
 * @param {string} version
 * @returns {22 | 24}
 */
export function nodeFor(version) {
  const [year = 0, month = 0] = version.split(".").map(Number);
  return year > 2026 || (year === 2026 && month >= 6) ? 24 : 22;
}

/**
 * @param {string} version For example `2026.9.6`.
 * @returns {Promise<string>} Path of `openclaw.mjs`.
 */
export async function openclaw(version) {
  const lock = `openclaw-${version}`;
  if (!(await exists(join(LOCKS, lock))))
    throw new SetupError(`OpenClaw ${version} has no lock in scripts/locks: see scripts/lock.mjs`);
  const node = await nodeRuntime(nodeFor(version));
  const what = `install OpenClaw ${version}`;
  const folder = await npmPackages(lock, `openclaw/${version}`, what, (folder) => complete(node, folder));
  return join(folder, "node_modules", "openclaw", "openclaw.mjs");
}

/**
 * Runs OpenClaw's own install script, the only one that runs. From 2026.8 on OpenClaw would run it at its first start: in
 * the middle of a test, and for each of several gateways. The variable stops it from fetching more and from removing files
 * of older versions.
 *
 * @param {string} node
 * @param {string} folder
 */
async function complete(node, folder) {
  const root = join(folder, "node_modules", "openclaw");
  if (!(await exists(join(root, ".openclaw-lifecycle-pending")))) return;
  await run(node, [join(root, "scripts", "postinstall-bundled-plugins.mjs")], {
    env: { OPENCLAW_DISABLE_BUNDLED_PLUGIN_POSTINSTALL: "1" },
  });
}
