import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));

/**
 * Starts `agentwatch-openclaw sync` of the built shim, as a user does.
 *
 * @param {string} stateDir
 * @param {string} url The receiver's address.
 * @param {...string} args
 */
export function startSync(stateDir, url, ...args) {
  return start(["--state-dir", stateDir, ...args], { HOME: stateDir, AGENTWATCH_URL: url });
}

/**
 * Starts `sync --gateway`.
 *
 * @param {string} ownDir The folder of its files.
 * @param {{ url: string, token: string }} gateway
 * @param {string} url The receiver's address.
 * @param {...string} args
 */
export function startRemoteSync(ownDir, gateway, url, ...args) {
  const address = gateway.url.replace(/^http/, "ws");
  const env = { HOME: ownDir, AGENTWATCH_URL: url, OPENCLAW_GATEWAY_TOKEN: gateway.token };
  return start(["--gateway", address, "--state-dir", ownDir, ...args], env);
}

/** @param {string[]} args @param {Record<string, string>} env */
function start(args, env) {
  const child = spawn(process.execPath, [CLI, "sync", ...args], {
    env: { PATH: process.env.PATH ?? "", ...env },
  });
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
