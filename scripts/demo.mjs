#!/usr/bin/env node
// Prepares what the demonstration needs, then runs examples/gateway/demo.mjs on a Node of its own: the machine's may
// be older than what OpenClaw wants. `--once` ends after the first table.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildReceiver, packPlugin } from "./lib/package.mjs";
import { SetupError, say, which } from "./lib/run.mjs";
import { nodeRuntime, npmDependencies, OPENCLAW_VERSIONS, openclaw } from "./setup.mjs";

const DEMO = fileURLToPath(new URL("../examples/gateway/demo.mjs", import.meta.url));
const VERSION = OPENCLAW_VERSIONS.at(-1) ?? "";

const TOOLS = {
  npm: "Node.js with npm (https://nodejs.org)",
  cargo: "Rust with rustup (https://rustup.rs)",
  rustup: "Rust with rustup (https://rustup.rs)",
  cc: "a C compiler (Debian: apt-get install build-essential; macOS: xcode-select --install)",
};

/** Everything that is missing at once, rather than one thing a try. */
async function checkTools() {
  const missing = [];
  for (const [tool, mend] of Object.entries(TOOLS)) {
    if (!(await which(tool))) missing.push(`${tool} not found: install ${mend}`);
  }
  if (Number(process.versions.node.split(".")[0]) < 20)
    missing.push(`this is Node ${process.versions.node}: Node 20 or later is needed`);
  if (missing.length > 0) throw new SetupError(missing.join("\n"));
}

/**
 * The demonstration itself. Ctrl-C reaches it from the terminal; what only this process gets is handed on.
 *
 * @param {string} node
 * @param {string[]} args
 * @returns {Promise<number>} Its exit status.
 */
function demonstrate(node, args) {
  const child = spawn(node, [DEMO, ...args], { stdio: "inherit" });
  const handOn = (/** @type {NodeJS.Signals} */ signal) => child.kill(signal);
  process.on("SIGINT", handOn).on("SIGTERM", handOn);
  return new Promise((resolve, reject) => {
    child.on("error", (error) => reject(new SetupError(`${node} did not start: ${error.message}`)));
    child.on("close", (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? "SIGTERM"]));
  });
}

async function main() {
  await checkTools();
  say("what is missing is fetched and built; a first run takes some minutes, later ones less than one");
  const folder = await mkdtemp(join(tmpdir(), "agentwatch-demo-"));
  try {
    await npmDependencies();
    const node = await nodeRuntime(24);
    await openclaw(VERSION);
    const receiver = await buildReceiver();
    const tgz = await packPlugin(folder);
    const once = process.argv.includes("--once") ? ["--once"] : [];
    process.exitCode = await demonstrate(node, [VERSION, tgz, receiver, folder, ...once]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

main().catch((error) => {
  say(error instanceof SetupError ? error.message : error.stack);
  process.exitCode = 1;
});
