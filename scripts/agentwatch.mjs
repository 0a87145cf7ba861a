#!/usr/bin/env node
// Runs the plugin against AgentWatch's own server, from a checkout of https://github.com/maxdraki/AgentWatch:
//
//   node scripts/agentwatch.mjs <checkout>                       a gateway, some turns, and the page until Ctrl-C
//   node scripts/agentwatch.mjs <checkout> --screenshot <file>   the same, and a PNG of its Models tab
//   node scripts/agentwatch.mjs <checkout> --test                the tests that play against AgentWatch 0.1.0
//
// AGENTWATCH_TGZ names a packed plugin; without it the plugin is built and packed. The page uses emoji: the picture needs a
// font that has them (Debian: fonts-noto-color-emoji).
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { checkCheckout, startAgentwatch } from "./lib/agentwatch.mjs";
import { chromium } from "./lib/chromium.mjs";
import { npmDependencies } from "./lib/npm-dependencies.mjs";
import { packPlugin } from "./lib/package.mjs";
import { SetupError, say } from "./lib/run.mjs";
import { nodeRuntime, OPENCLAW_VERSIONS } from "./setup.mjs";

const TESTS = fileURLToPath(new URL("../tests/e2e/", import.meta.url));
/** Both start a stock server by `tests/e2e/stock-server.mjs`. */
const STOCK_TESTS = ["stock.test.mjs", "durability.test.mjs"];
const USAGE =
  "usage: node scripts/agentwatch.mjs <checkout of AgentWatch> [--screenshot <file.png> | --test]";
/** The picture is committed, so it has to be small. */
const BYTES_MAX = 200_000;
const [OLDEST = ""] = OPENCLAW_VERSIONS;
const { AGENTWATCH_TGZ, OPENCLAW_VERSIONS: versions = OLDEST } = process.env;

/**
 * The Models tab as AgentWatch shows it.
 *
 * @param {string} url AgentWatch's address.
 * @param {string} file
 */
async function takePicture(url, file) {
  const executablePath = await chromium();
  const { chromium: driver } = await import("playwright-core");
  const browser = await driver.launch({ executablePath, args: ["--disable-gpu"], chromiumSandbox: false });
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 540 }, deviceScaleFactor: 1.25 });
    await page.goto(`${url}/models`);
    // The page writes the time of its last reading once a second.
    await page.getByText(/^Updated /).waitFor();
    const bytes = await page.screenshot({ type: "png" });
    if (bytes.length > BYTES_MAX)
      throw new SetupError(`the picture has ${bytes.length} bytes, more than ${BYTES_MAX}`);
    await writeFile(file, bytes);
    say(`${file}: ${Math.round(bytes.length / 1000)} KB`);
  } finally {
    await browser.close();
  }
}

/** @param {string} checkout @param {string} tgz @param {string | undefined} picture */
async function show(checkout, tgz, picture) {
  const { startWorld, waitForTotals } = await import("../tests/e2e/harness.mjs");
  const { TURNS } = await import("../examples/gateway/turns.mjs");
  const version = versions.split(",")[0] ?? OLDEST;
  say(`start AgentWatch from ${checkout}, and OpenClaw ${version} with the plugin`);
  const world = await startWorld({ version, tgz, receiver: () => startAgentwatch({ checkout }) });
  try {
    for (const [what, turn] of TURNS) {
      say(what);
      await turn(world.gateway);
    }
    await waitForTotals(world.provider, world.receiver);
    say("AgentWatch shows what the provider sent");
    if (picture) return await takePicture(world.receiver.url, picture);
    say(`Models tab: ${world.receiver.url}/models, until Ctrl-C`);
    await new Promise((resolve) => process.once("SIGINT", resolve).once("SIGTERM", resolve));
  } finally {
    await world.close();
  }
}

/** @param {string} checkout @param {string} tgz @returns {Promise<number>} The exit status of Node's test runner. */
async function test(checkout, tgz) {
  const files = STOCK_TESTS.map((file) => join(TESTS, file));
  const env = {
    ...process.env,
    AGENTWATCH_STOCK_SERVER: checkout,
    AGENTWATCH_TGZ: tgz,
    OPENCLAW_VERSIONS: versions,
    RECEIVERS: "stock",
  };
  const flags = ["--test", "--test-concurrency=1", "--test-reporter=spec"];
  const child = spawn(await nodeRuntime(24), [...flags, ...files], { env, stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.on("error", reject).on("close", (code) => resolve(code ?? 1));
  });
}

async function main() {
  const options = /** @type {const} */ ({ screenshot: { type: "string" }, test: { type: "boolean" } });
  const { positionals, values } = parseArgs({ options, allowPositionals: true });
  const [folder] = positionals;
  if (positionals.length !== 1 || !folder || (values.test && values.screenshot)) throw new SetupError(USAGE);
  const checkout = resolve(folder);
  await checkCheckout(checkout);
  await npmDependencies();
  const packed = await mkdtemp(join(tmpdir(), "agentwatch-package-"));
  try {
    const tgz = AGENTWATCH_TGZ ? resolve(AGENTWATCH_TGZ) : await packPlugin(packed);
    if (values.test) process.exitCode = await test(checkout, tgz);
    else await show(checkout, tgz, values.screenshot && resolve(values.screenshot));
  } finally {
    await rm(packed, { recursive: true, force: true });
  }
}

main().catch((error) => {
  const isUsage = error.code?.startsWith("ERR_PARSE_ARGS");
  say(isUsage ? `${error.message}\n${USAGE}` : error instanceof SetupError ? error.message : error.stack);
  process.exitCode = 1;
});
