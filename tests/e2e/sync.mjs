import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));

/**
 * Starts `agentwatch-openclaw sync` of the built shim, as a user does.
 *
 * @param {string} stateDir
 * @param {string} url Of the receiver.
 * @param {...string} args
 */
export function startSync(stateDir, url, ...args) {
  const env = { PATH: process.env.PATH ?? "", HOME: stateDir, AGENTWATCH_URL: url };
  const child = spawn(process.execPath, [CLI, "sync", "--state-dir", stateDir, ...args], { env });
  const said = { text: "" };
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => {
      said.text += text;
    });
  const ended = once(child, "close").then(([status]) => ({ status, said: said.text }));
  return {
    ended,
    said: () => said.text,
    stop: () => {
      child.kill("SIGTERM");
      return ended;
    },
    kill: () => {
      child.kill("SIGKILL");
      return ended;
    },
  };
}
