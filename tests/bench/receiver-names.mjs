#!/usr/bin/env node
// Time and memory of the receiver with many names, and for large requests:
// node tests/bench/receiver-names.mjs [--names 1000000] [--pages 8] [--json]
// AGENTWATCH_RECEIVER=<binary> measures another build.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { run } from "../../scripts/lib/run.mjs";
import { report } from "./lib/figures.mjs";

const { values } = parseArgs({
  options: {
    names: { type: "string", default: "1000000" },
    pages: { type: "string", default: "8" },
    json: { type: "boolean", default: false },
  },
});
const NAMES = Number(values.names);
const PAGES = Number(values.pages);
const BATCH = 1_000;
const SPANS = 200_000;
const GATEWAYS = 2_000;
/** Time limit of an answer, in ms. */
const PATIENCE_MS = 180_000;

/** Peak of resident memory in MB. @param {number | undefined} pid */
const peak = (pid) => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;

/** @typedef {Awaited<ReturnType<typeof startReceiver>>} Receiver */

/** A receiver on a database of its own. @template T @param {string} binary @param {(receiver: Receiver) => Promise<T>} work */
async function fresh(binary, work) {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-bench-names-"));
  const receiver = await startReceiver({ binary, args: ["--db", join(folder, "records.db")] });
  try {
    return await work(receiver);
  } finally {
    await receiver.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {string} url @param {unknown} [body] */
async function ask(url, body) {
  const begun = performance.now();
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const post = { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body) };
  const headers = { "content-type": "application/json" };
  try {
    const answer = await fetch(url, { signal, headers, ...(body !== undefined && post) });
    const text = await answer.text();
    return { status: answer.status, ms: performance.now() - begun, bytes: text.length, text };
  } catch {
    return { status: 0, ms: PATIENCE_MS, bytes: 0, text: "" };
  }
}

/**
 * One call each of many models, of which one in a hundred failed; with `own`, also of as many agents, channels and others.
 * @param {string} binary @param {number} count @param {boolean} own
 */
function names(binary, count, own) {
  return fresh(binary, async ({ url, pid }) => {
    for (let from = 0; from < count; from += BATCH) {
      const records = Array.from({ length: Math.min(BATCH, count - from) }, (_, index) => {
        const number = from + index;
        const others = ["agent_name", "channel", "job", "cost_source", "gateway"];
        return {
          id: `call-${number}`,
          model: `openrouter/vendor-${number % 977}/model-${number}`,
          agent_name: "main",
          prompt_tokens: 100 + (number % 5000),
          completion_tokens: number % 700,
          cost_usd: (number % 9973) / 1e6,
          latency_ms: 200 + (number % 9000),
          gateway: "g",
          trigger: "user",
          cost_source: "openclaw",
          outcome: number % 100 === 0 ? "failed" : "completed",
          ...(own && Object.fromEntries(others.map((name) => [name, `${name}-${number}`]))),
          ...(own && { prompt_stats: { system_prompt: 1, messages: 1, cost_usd: number / 1e9 } }),
        };
      });
      const { status } = await ask(`${url}/api/v1/ingest/model_usage`, records);
      if (status !== 200) throw new Error(`a batch was answered ${status}`);
    }
    const stored = peak(pid);
    const one = await ask(`${url}/models?hours=24`);
    /** @param {(place: number) => string} path */
    const all = (path) =>
      Promise.all(Array.from({ length: PAGES }, (_, place) => ask(`${url}${path(place)}`)));
    const slowest = (/** @type {{ ms: number }[]} */ answers) => Math.max(...answers.map(({ ms }) => ms));
    // Each is different, so that none counts as reported twice.
    const pages = await all((place) => `/models?hours=${24 + place}`);
    const filtered = await all((place) => `/models?hours=${24 + place}&trigger=user`);
    const used = peak(pid);
    const stats = await ask(`${url}/api/model-stats?hours=24`);
    const bill = await ask(`${url}/api/prompt-bill?hours=24`);
    return {
      stored_peak_mb: stored,
      page_ms: one.ms,
      page_kb: one.bytes / 1000,
      pages_ms: slowest(pages),
      filtered_ms: slowest(filtered),
      stats_ms: stats.ms,
      stats_kb: stats.bytes / 1000,
      bill_ms: bill.ms,
      bill_kb: bill.bytes / 1000,
      pages_peak_mb: used,
      peak_mb: peak(pid),
    };
  });
}

/** A trace of many spans, all of them failed calls of a model. @param {string} binary */
function spans(binary) {
  return fresh(binary, async ({ url, pid }) => {
    const most = 5_000;
    let status = 0;
    const begun = Date.now() - 60_000;
    for (let from = 0; from < SPANS; from += most) {
      const spans = Array.from({ length: most }, (_, index) => ({
        id: `s${from + index}`,
        name: `chat p/m${(from + index) % 3}`,
        status: (from + index) % 2 ? "failed" : "completed",
        started_at: begun + (from + index) / 10,
      }));
      ({ status } = await ask(`${url}/api/v1/ingest/traces`, { id: "t", name: "turn", spans }));
      if (status !== 200) throw new Error(`spans were answered ${status}`);
    }
    const page = await ask(`${url}/models`);
    return { page_ms: page.ms, peak_mb: peak(pid) };
  });
}

/** Gateways that all report the same call at the same time, with other calls in between. @param {string} binary */
function gateways(binary) {
  return fresh(binary, async ({ url, pid }) => {
    const at = new Date().toISOString();
    for (let from = 0; from < GATEWAYS; from += BATCH) {
      const records = Array.from({ length: BATCH }, (_, index) => ({
        id: `g-${from + index}`,
        model: "p/m",
        gateway: `g-${from + index}`,
        prompt_tokens: 100,
        completion_tokens: 10,
        timestamp: at,
      }));
      await ask(`${url}/api/v1/ingest/model_usage`, records);
    }
    const asked = Array.from({ length: 16 }, () => ask(`${url}/api/v1/ingest/capabilities`));
    await sleep(100);
    const call = await ask(`${url}/api/v1/ingest/model_usage`, { model: "p/m" });
    const answers = await Promise.all(asked);
    return {
      capabilities_ms: Math.max(...answers.map(({ ms }) => ms)),
      ingest_ms: call.ms,
      peak_mb: peak(pid),
    };
  });
}

/** A batch of 8 MiB. @param {string} binary */
function records(binary) {
  return fresh(binary, async ({ url, pid }) => {
    const { status, ms } = await ask(`${url}/api/v1/ingest/logs`, `[${"{},".repeat(2_790_000)}{}]`);
    return { status, ms, peak_mb: peak(pid) };
  });
}

/** Another process holds the database's write lock during calls and a request for a page. @param {string} binary */
async function locked(binary) {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-bench-locked-"));
  const file = join(folder, "records.db");
  const receiver = await startReceiver({ binary, args: ["--db", file] });
  try {
    const { DatabaseSync } = await import("node:sqlite");
    await ask(`${receiver.url}/api/v1/ingest/model_usage`, { model: "p/m" });
    const other = new DatabaseSync(file);
    other.exec("BEGIN IMMEDIATE");
    const calls = Array.from({ length: 40 }, () =>
      ask(`${receiver.url}/api/v1/ingest/model_usage`, { model: "p/m" }),
    );
    await sleep(200);
    const page = ask(`${receiver.url}/models`);
    const shown = await Promise.race([page, sleep(25_000, undefined)]);
    other.exec("COMMIT");
    other.close();
    const { ms } = shown ?? (await page);
    await Promise.all(calls);
    return { page_ms: ms };
  } finally {
    await receiver.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

const project = fileURLToPath(new URL("../..", import.meta.url));
let binary = process.env.AGENTWATCH_RECEIVER;
if (!binary) {
  await run("cargo", ["build", "--locked", "--release", "-p", "agentwatch-receiver"], { cwd: project });
  binary = join(process.env.CARGO_TARGET_DIR ?? join(project, "target"), "release", "agentwatch-receiver");
}
// Nothing is measured where there is no /proc.
if (spawnSync("test", ["-r", "/proc/self/status"]).status !== 0) {
  console.log("memory is measured on Linux alone");
  process.exit(0);
}
const measured = {
  names: await names(binary, NAMES, false),
  own: await names(binary, NAMES / 5, true),
  spans: await spans(binary),
  gateways: await gateways(binary),
  records: await records(binary),
  locked: await locked(binary),
};
if (values.json) console.log(JSON.stringify(measured, null, 2));
const of = `${NAMES.toLocaleString("en-GB")} names`;
const few = (NAMES / 5).toLocaleString("en-GB");
const { names: many, own, spans: trace, gateways: twice, records: short, locked: lock } = measured;
if (!values.json || process.env.BENCH_OUT)
  report({
    [`memory while ${of} are stored, peak`]: [many.stored_peak_mb, "MB"],
    [`a page of ${of}`]: [many.page_ms, "ms"],
    [`a page of ${of}, size`]: [many.page_kb, "KB"],
    [`${PAGES} pages at once of ${of}, the slowest`]: [many.pages_ms, "ms"],
    [`${PAGES} pages at once of ${of} with a filter, the slowest`]: [many.filtered_ms, "ms"],
    [`memory with ${PAGES} pages at once of ${of}, peak`]: [many.pages_peak_mb, "MB"],
    [`model-stats of ${of}`]: [many.stats_ms, "ms"],
    [`model-stats of ${of}, size`]: [many.stats_kb, "KB"],
    [`memory with all of it, peak`]: [many.peak_mb, "MB"],
    [`a page of ${few} names of each kind`]: [own.page_ms, "ms"],
    [`${PAGES} pages at once of these, the slowest`]: [own.pages_ms, "ms"],
    "prompt-bill of these": [own.bill_ms, "ms"],
    "prompt-bill of these, size": [own.bill_kb, "KB"],
    "memory with all of it, peak, of these": [own.peak_mb, "MB"],
    "a page beside a trace of 200,000 spans": [trace.page_ms, "ms"],
    "16 times capabilities of 2,000 gateways, the slowest": [twice.capabilities_ms, "ms"],
    "a call that is stored meanwhile": [twice.ingest_ms, "ms"],
    "8 MiB of empty records, answer": [short.status, ""],
    "8 MiB of empty records": [short.ms, "ms"],
    "memory with 8 MiB of empty records, peak": [short.peak_mb, "MB"],
    "a page while the database is locked for 25 s": [lock.page_ms, "ms"],
  });
