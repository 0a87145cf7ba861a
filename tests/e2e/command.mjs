import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { environment, TIDIES_UP } from "../../examples/gateway/gateway.mjs";
import { nodeRuntime } from "../../scripts/lib/node-runtime.mjs";
import { nodeFor, openclaw } from "../../scripts/lib/openclaw.mjs";

/** @typedef {{ version: string, stateDir: string, token: string }} Place */

/**
 * Runs `openclaw …` on a gateway's state directory, and again where OpenClaw refuses it for a while. Returns the exit status and
 * both outputs.
 *
 * @param {Place} gateway
 * @param {string[]} words
 * @param {Record<string, string>} [env]
 */
export async function openclawCommand(gateway, words, env = {}) {
  for (let tries = 1; ; tries += 1) {
    const ended = await commandOnce(gateway, words, env);
    if (tries === 15 || ended.code === 0 || !TIDIES_UP.test(ended.all)) return ended;
    await sleep(2_000);
  }
}

/** @param {Place} gateway @param {string[]} words @param {Record<string, string>} env */
async function commandOnce({ version, stateDir, token }, words, env) {
  const node = await nodeRuntime(nodeFor(version));
  const known = environment(node, stateDir, join(stateDir, "openclaw.json"), token);
  const child = spawn(node, [await openclaw(version), ...words], {
    env: { ...known, ...env },
    cwd: stateDir,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said = { stdout: "", stderr: "" };
  for (const name of /** @type {const} */ (["stdout", "stderr"]))
    child[name].setEncoding("utf8").on("data", (text) => {
      said[name] += text;
    });
  const [code] = await once(child, "close");
  return { code: /** @type {number} */ (code), ...said, all: said.stdout + said.stderr };
}
