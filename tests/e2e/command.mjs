import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { environment } from "../../examples/gateway/gateway.mjs";
import { nodeRuntime } from "../../scripts/lib/node-runtime.mjs";
import { nodeFor, openclaw } from "../../scripts/lib/openclaw.mjs";

/**
 * Runs `openclaw …` on a gateway's state directory. Returns the exit status and both outputs.
 *
 * @param {{ version: string, stateDir: string, token: string }} gateway
 * @param {string[]} words
 * @param {Record<string, string>} [env]
 */
export async function openclawCommand({ version, stateDir, token }, words, env = {}) {
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
