#!/usr/bin/env node
// Makes the README's pictures of the Models page: fills a receiver through its API with generated calls of the last 30
// days, and writes Chromium's pictures to docs/images/.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "./lib/chromium.mjs";
import { npmDependencies } from "./lib/npm-dependencies.mjs";
import { buildReceiver } from "./lib/package.mjs";
import { SetupError, say } from "./lib/run.mjs";

const FOLDER = fileURLToPath(new URL("../docs/images", import.meta.url));
const CALLS = 24_000;
/** Largest picture, in bytes: pictures are committed. */
const BYTES_MAX = 80_000;
const WIDTH = 1200;

/** @typedef {{ name: string, query: string, scheme: "light" | "dark", until: string }} Picture */

/** `until` selects the last element in the picture. @type {Picture[]} */
const PICTURES = [
  { name: "models-light", query: "hours=168", scheme: "light", until: "#charts" },
  { name: "models-dark", query: "hours=168", scheme: "dark", until: "#charts" },
  { name: "spending-light", query: "hours=168", scheme: "light", until: ".spending" },
  { name: "breakdowns-light", query: "hours=168", scheme: "light", until: "section:has(> #errors-head)" },
];
/** Selectors of the first element of pictures that do not begin at the top of the page. @type {Record<string, string>} */
const FROM = { "spending-light": ".spending", "breakdowns-light": ".cards:not(.spending)" };

/** @param {string} url @param {string} kind @param {unknown} body */
async function post(url, kind, body) {
  const answer = await fetch(`${url}/api/v1/ingest/${kind}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${kind}: ${answer.status} ${await answer.text()}`);
}

/** Sends calls, failures, and a few turns with a fallback model. @param {string} url */
async function fill(url) {
  const { inBatches, sampleCalls, sampleErrors } = await import("../tests/bench/receiver-calls.mjs");
  for (const calls of inBatches(sampleCalls({ calls: CALLS }), 500)) await post(url, "model_usage", calls);
  await post(url, "metrics", [...sampleErrors({ calls: CALLS / 150 })]);
  const spans = (/** @type {number} */ turn) => {
    const at = Date.now() - turn * 7_200_000;
    const span = (
      /** @type {string} */ id,
      /** @type {string} */ model,
      /** @type {string} */ status,
      late = 0,
    ) => ({
      id: `turn-${turn}.${id}`,
      name: `chat ${model}`,
      status,
      started_at: new Date(at + late).toISOString(),
    });
    const answered = turn % 3 === 0 ? "google/gemini-3-pro" : "openai/gpt-5.2";
    return [span("a", "anthropic/claude-opus-4-6", "failed"), span("b", answered, "completed", 4000)];
  };
  const turns = Array.from({ length: 9 }, (_, turn) => ({
    id: `turn-${turn}`,
    name: "turn",
    spans: spans(turn),
  }));
  await post(url, "traces", turns);
  const spending = await import("../tests/browser/spending.mjs");
  await post(url, "model_usage", spending.turns());
  await post(url, "logs", spending.incidents("coder", 0.138));
  await post(url, "metrics", spending.allowances("20.00 USD a day", 20));
}

/** @param {import("playwright-core").Browser} browser @param {string} url @param {Picture} picture */
async function take(browser, url, { name, query, scheme, until }) {
  const page = await browser.newPage({
    viewport: { width: WIDTH, height: 900 },
    colorScheme: scheme,
    deviceScaleFactor: 1.25,
  });
  await page.goto(`${url}/models?${query}`);
  const end = await page.locator(until).last().boundingBox();
  const begin = FROM[name] ? await page.locator(FROM[name]).boundingBox() : undefined;
  const top = begin ? begin.y - 20 : 0;
  const height = (end ? end.y + end.height : 900) + 10 - top;
  // By the debugger, which can write WebP, half the size of PNG.
  const debug = await page.context().newCDPSession(page);
  const clip = { x: 0, y: top, width: WIDTH, height, scale: 1 };
  /** The picture in the best quality that is small enough. @type {Buffer | undefined} */
  let bytes;
  for (let quality = 90; quality >= 50 && !bytes; quality -= 4) {
    const options = /** @type {const} */ ({ format: "webp", quality, captureBeyondViewport: true, clip });
    const { data } = await debug.send("Page.captureScreenshot", options);
    const taken = Buffer.from(data, "base64");
    if (taken.length <= BYTES_MAX) bytes = taken;
  }
  if (!bytes) throw new Error(`${name} has more than ${BYTES_MAX} bytes, however it is written`);
  await writeFile(join(FOLDER, `${name}.webp`), bytes);
  say(`docs/images/${name}.webp: ${Math.round(bytes.length / 1000)} KB`);
  await page.close();
}

async function main() {
  await npmDependencies();
  const executablePath = await chromium();
  const binary = await buildReceiver();
  const { chromium: driver } = await import("playwright-core");
  const { startReceiver } = await import("../examples/gateway/receiver.mjs");
  const receiver = await startReceiver({ binary });
  const browser = await driver.launch({ executablePath, args: ["--disable-gpu"], chromiumSandbox: false });
  try {
    await fill(receiver.url);
    await mkdir(FOLDER, { recursive: true });
    for (const picture of PICTURES) await take(browser, receiver.url, picture);
  } finally {
    await browser.close();
    await receiver.stop();
  }
}

main().catch((error) => {
  say(error instanceof SetupError ? error.message : error.stack);
  process.exitCode = 1;
});
