#!/usr/bin/env node
// Fetches and builds the demonstration's parts, then runs examples/gateway/demo.mjs on a fetched Node: the machine's may
// be too old for OpenClaw. `--once` ends after the first table.
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

/** Reports all missing tools at once. */
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
 * Runs the demonstration. Ctrl-C reaches it from the terminal; other signals to this process are passed on.
 *
 * @param {string} node
 * @param {string[]} args
 * @returns {Promise<number>} Its exit status.
 */
function demonstrate(node, args) {
  const child = spawn(node, [DEMO, ...args], { stdio: "inherit" });
  const passOn = (/** @type {NodeJS.Signals} */ signal) => child.kill(signal);
  process.on("SIGINT", passOn).on("SIGTERM", passOn);
  return new Promise((resolve, reject) => {
    child.on("error", (error) => reject(new SetupError(`${node} did not start: ${error.message}`)));
    child.on("close", (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? "SIGTERM"]));
  });
}

/**
 * Fetches and builds side by side: a download waits for its network while others compute, and the two builds have target
 * folders of their own. The first failure is thrown at once.
 *
 * @param {string} folder The folder for the package.
 */
async function prepare(folder) {
  // The build needs them, and a fresh clone has none.
  await npmDependencies();
  const gateway = async () => {
    const node = await nodeRuntime(24);
    await openclaw(VERSION);
    return node;
  };
  const [node, receiver, tgz] = await Promise.all([gateway(), buildReceiver(), packPlugin(folder)]);
  return { node, receiver, tgz };
}

async function main() {
  await checkTools();
  say("missing tools are fetched and built; the first run takes some minutes, later ones less than one");
  const folder = await mkdtemp(join(tmpdir(), "agentwatch-demo-"));
  try {
    const { node, receiver, tgz } = await prepare(folder);
    const once = process.argv.includes("--once") ? ["--once"] : [];
    const begun = String(performance.timeOrigin);
    process.exitCode = await demonstrate(node, [VERSION, tgz, receiver, folder, begun, ...once]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

main().catch((error) => {
  say(error instanceof SetupError ? error.message : error.stack);
  // What is still fetched or built beside it ends too.
  process.exit(1);
});
