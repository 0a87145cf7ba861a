import { spawn } from "node:child_process";
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { npmPackages } from "./locks.mjs";
import { exists, SetupError } from "./run.mjs";

/**
 * A Node of its own for each OpenClaw generation, whatever Node the machine has. Its binary is the npm package of this
 * platform. The package `node` is not taken: its install script fetches that package without a lock.
 *
 * @param {22 | 24} major
 * @returns {Promise<string>} Path of the `node` binary.
 */
export async function nodeRuntime(major) {
  const folder = await npmPackages(
    `node-${major}`,
    `node/${major}`,
    `install Node ${major}`,
    async (folder) => {
      const name = `node-${process.platform}-${process.arch}`;
      // npm silently leaves out packages for other platforms.
      if (!(await exists(join(folder, "node_modules", name))))
        throw new SetupError(
          `scripts/locks/node-${major} has no ${name}: Linux on x64 and arm64 is supported`,
        );
      await symlink(name, join(folder, "node_modules", "node"));
    },
  );
  return join(folder, "node_modules", "node", "bin", "node");
}

/**
 * Runs a script again on Node 24, where the present Node is too old for the gateways' clients.
 *
 * @param {string} script
 * @param {string[]} args
 * @returns {Promise<boolean>} Whether it did; the caller then returns.
 */
export async function onNewNode(script, args) {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > 22 || (major === 22 && minor >= 16)) return false;
  const child = spawn(await nodeRuntime(24), [script, ...args], { stdio: "inherit" });
  process.exitCode = await new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
  return true;
}
