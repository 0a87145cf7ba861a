#!/usr/bin/env node
// Speed of the receiver's ingest and of its answers, with many calls in its database:
// node tests/bench/receiver.mjs [--calls 100000,1000000,10000000] [--models 100] [--json]
import { mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium as driver } from "playwright-core";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { chromium } from "../../scripts/lib/chromium.mjs";
import { run } from "../../scripts/lib/run.mjs";
import { report } from "./lib/figures.mjs";
import { costOf, inBatches, sampleCalls, sampleErrors } from "./receiver-calls.mjs";

/** Calls of a batch, each with a cost and a usage, as the plugin sends them after an outage. */
const BATCH = 250;
/** Batches that are made in advance, so that making them is not measured. */
const READY = 40;
const CONNECTIONS = 2;
const ASKED = 15;
const PAINTED = 5;
/** Bytes on disk for a call, the database's log included. */
const BYTES_A_CALL = 2_000;
const PAGES = ["/models?hours=24", "/models?hours=720", "/models?hours=720&trigger=user"];

const { values } = parseArgs({
  options: {
    calls: { type: "string", default: "100000,1000000,10000000" },
    models: { type: "string", default: "100" },
    json: { type: "boolean", default: false },
  },
});

/** @param {Agent} agent @param {string} url @param {string} [body] @returns {Promise<{ status: number, bytes: number }>} */
function ask(agent, url, body) {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? "GET" : "POST";
    const sent = request(
      url,
      { agent, method, headers: { "content-type": "application/json" } },
      (answer) => {
        let bytes = 0;
        answer.on("data", (chunk) => {
          bytes += chunk.length;
        });
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, bytes }));
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

/** @param {number[]} all */
const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? 0;

/** CPU time so far, in µs, which other processes affect less than the clock. @param {number | undefined} pid */
function processorTime(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    // In ticks of 10 ms.
    return (Number(fields[11]) + Number(fields[12])) * 10_000;
  } catch {
    // Not Linux.
    return Number.NaN;
  }
}

/** Sends all calls. Returns records a second. @param {string} url @param {number} calls @param {number} models */
async function fill(url, calls, models) {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  let [seconds, records] = [0, 0];
  const ready = inBatches(sampleCalls({ calls, models }), BATCH);
  for (const some of inBatches(ready, READY)) {
    const bodies = some.map((usage) => JSON.stringify({ costs: usage.map(costOf), model_usage: usage }));
    const begun = performance.now();
    const send = async () => {
      for (let body = bodies.pop(); body !== undefined; body = bodies.pop()) {
        const { status } = await ask(agent, `${url}/api/v1/ingest/batch`, body);
        if (status !== 200) throw new Error(`a batch was answered ${status}`);
      }
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, send));
    seconds += (performance.now() - begun) / 1000;
    records += some.reduce((sum, batch) => sum + 2 * batch.length, 0);
  }
  for (const some of inBatches(sampleErrors({ calls: Math.ceil(calls / 200) }), 500))
    await ask(agent, `${url}/api/v1/ingest/metrics`, JSON.stringify(some));
  agent.destroy();
  return Math.round(records / seconds);
}

/** Median time of an answer in ms, and its size. @param {string} url */
async function answerOf(url) {
  const agent = new Agent({ keepAlive: true });
  const times = [];
  let size = 0;
  for (let index = 0; index < ASKED; index++) {
    const begun = performance.now();
    const { status, bytes } = await ask(agent, url);
    if (status !== 200) throw new Error(`${url} was answered ${status}`);
    times.push(performance.now() - begun);
    size = bytes;
  }
  agent.destroy();
  return { ms: Math.round(median(times) * 10) / 10, bytes: size };
}

/** Median time from the navigation to the first contentful paint, in ms. @param {string[]} urls */
async function paintOf(urls) {
  const browser = await driver.launch({
    executablePath: await chromium(),
    args: ["--disable-gpu", "--disable-background-networking"],
    chromiumSandbox: false,
  });
  /** @type {number[]} */
  const medians = [];
  try {
    // One page without measuring: a browser's first page is its slowest.
    await (await browser.newPage()).goto(urls[0] ?? "");
    for (const url of urls) {
      const times = [];
      for (let index = 0; index < PAINTED; index++) {
        const page = await browser.newPage();
        await page.goto(url, { waitUntil: "load" });
        const paint = await page.evaluate(
          `new Promise((resolve) => new PerformanceObserver((list) => {
            const found = list.getEntriesByName("first-contentful-paint")[0];
            if (found) resolve(found.startTime);
          }).observe({ type: "paint", buffered: true }))`,
        );
        times.push(Number(paint));
        await page.close();
      }
      medians.push(Math.round(median(times)));
    }
  } finally {
    await browser.close();
  }
  return medians;
}

/** @param {number} calls @param {number} models @param {string} binary */
async function measure(calls, models, binary) {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-bench-receiver-"));
  const receiver = await startReceiver({ binary, args: ["--db", join(folder, "records.db")] });
  try {
    const before = processorTime(receiver.pid);
    const recordsPerSecond = await fill(receiver.url, calls, models);
    const processor = processorTime(receiver.pid) - before;
    const stats = {
      "24 h": await answerOf(`${receiver.url}/api/model-stats?hours=24`),
      "30 d": await answerOf(`${receiver.url}/api/model-stats?hours=720`),
    };
    const paints = await paintOf(PAGES.map((page) => receiver.url + page));
    const pages = [];
    for (const [index, page] of PAGES.entries())
      pages.push({ page, ...(await answerOf(receiver.url + page)), first_paint_ms: paints[index] });
    // A stopped receiver has one file, which includes the log.
    await receiver.stop();
    const disk = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    return {
      calls,
      models,
      records_per_second: recordsPerSecond,
      cpu_us_per_record: Math.round(processor / calls / 0.2) / 10,
      model_stats_ms: { hours_24: stats["24 h"].ms, hours_720: stats["30 d"].ms },
      pages,
      disk_bytes_per_call: Math.round(disk / calls),
    };
  } finally {
    await receiver.stop().catch(() => {});
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {Awaited<ReturnType<typeof measure>>} measured */
function print(measured) {
  const line = (/** @type {string} */ what, /** @type {string} */ figure) =>
    console.log(`  ${what.padEnd(42)} ${figure.padStart(16)}`);
  console.log(`${measured.calls.toLocaleString("en-GB")} calls of ${measured.models} models over 30 days`);
  line("records in (a cost and a usage a call)", `${measured.records_per_second.toLocaleString("en-GB")}/s`);
  line("the receiver's time for a record", `${measured.cpu_us_per_record} µs of a core`);
  line("/api/model-stats?hours=24", `${measured.model_stats_ms.hours_24} ms`);
  line("/api/model-stats?hours=720", `${measured.model_stats_ms.hours_720} ms`);
  for (const { page, ms, bytes, first_paint_ms } of measured.pages)
    line(page, `${ms} ms, ${(bytes / 1000).toFixed(1)} KB, painted at ${first_paint_ms} ms`);
  line("disk", `${measured.disk_bytes_per_call} bytes a call`);
}

/** @param {Awaited<ReturnType<typeof measure>>} measured @returns {import("./lib/figures.mjs").Figures} */
function figuresOf(measured) {
  const isLarge = measured.calls === 1_000_000;
  const of = isLarge ? "a million calls" : `${measured.calls.toLocaleString("en-GB")} calls`;
  const { model_stats_ms: stats } = measured;
  /** @type {import("./lib/figures.mjs").Figures} */
  const figures = {
    [isLarge ? "records taken in" : `records taken in, ${of}`]: [measured.records_per_second, "/s"],
    [`CPU a record, ${of}`]: [measured.cpu_us_per_record, "µs"],
    [`model-stats of ${of}`]: [Math.max(stats.hours_24, stats.hours_720), "ms"],
    [`disk a call, ${of}`]: [measured.disk_bytes_per_call, "B"],
  };
  for (const { page, ms, bytes, first_paint_ms } of measured.pages) {
    figures[`${page} of ${of}`] = [ms, "ms"];
    figures[`${page} of ${of}, painted`] = [Number(first_paint_ms), "ms"];
    figures[`${page} of ${of}, size`] = [bytes / 1000, "KB"];
  }
  return figures;
}

const project = fileURLToPath(new URL("../..", import.meta.url));
let binary = process.env.AGENTWATCH_RECEIVER;
if (!binary) {
  await run("cargo", ["build", "--locked", "--release", "-p", "agentwatch-receiver"], { cwd: project });
  binary = join(process.env.CARGO_TARGET_DIR ?? join(project, "target"), "release", "agentwatch-receiver");
}
const all = [];
for (const calls of values.calls.split(",").map(Number)) {
  const { bavail, bsize } = statfsSync(tmpdir());
  if (bavail * bsize < calls * BYTES_A_CALL) {
    console.log(`${calls} calls are left out: ${tmpdir()} has no ${(calls * BYTES_A_CALL) / 1e9} GB left`);
    continue;
  }
  const measured = await measure(calls, Number(values.models), binary);
  all.push(measured);
  if (!values.json) print(measured);
  if (process.env.BENCH_OUT) report(figuresOf(measured));
}
if (values.json) console.log(JSON.stringify(all, null, 2));
