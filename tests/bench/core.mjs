#!/usr/bin/env node
// The core alone, native and as WebAssembly: events read, matched, journalled, made into records; streams and stored
// transcripts in MB/s, beside a copy, JSON.parse and serde_json on the same bytes. By CPU time, natively by the
// clock; the best of several. `node tests/bench/core.mjs`, with cargo.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gatewayStream } from "./lib/events.mjs";
import { report } from "./lib/figures.mjs";
import { readMemory } from "./lib/memory-store.mjs";
import { shim } from "./lib/plugin.mjs";
import { makeStore } from "./store-sample.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const EVENTS = 20_000;
const STORE_MB = 24;
/** Size of a chunk, as in the shim. */
const CHUNK = 128 * 1024;
/** Number of events after which due work runs. */
const BATCH = 20;

// Earlier builds, which `--against` measures, call it `give`.
const { give, passToEngine = give, instantiate, instantiateIo, Pack, SOURCES } = await shim();

/** CPU seconds of the main thread, the best of five. @param {() => void} work */
function best(work) {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 5; round += 1) {
    const begun = process.threadCpuUsage();
    work();
    const { user, system } = process.threadCpuUsage(begun);
    least = Math.min(least, (user + system) / 1e6);
  }
  return least;
}

/** @typedef {import("../../js-shim/src/base/inbox.js").QueuedEvent} QueuedEvent */

/** The packed events of a number of events. @returns {QueuedEvent[]} */
function makeEvents() {
  let wall = 1_795_000_000_000;
  const stream = gatewayStream(undefined, () => wall);
  const pack = new Pack();
  /** @type {QueuedEvent[]} */
  const events = [];
  while (events.length < EVENTS) {
    const { hook, event, ctx } = stream.next();
    const mono = wall - 1_790_000_000_000;
    for (const { pick } of SOURCES[hook ?? event.type] ?? [])
      if (pick(event, ctx, pack, wall, mono)) events.push({ ...pack.copy(), wall, mono });
    wall += 1;
  }
  return events;
}

/** A host that accepts every write and stores nothing. */
const NO_DISK = {
  list: () => [],
  read() {},
  append() {},
  rename() {},
  remove() {},
};

/** Counting, step by step. @param {QueuedEvent[]} facts @returns {import("./lib/figures.mjs").Figures} */
function counting(facts) {
  const instance = instantiate();
  const mono = 1_790_000_000_000;
  const settings = { url: "http://receiver.test", identityKey: "00".repeat(16), installation: "bench" };
  const reply = (/** @type {{ body: Uint8Array | undefined }} */ { body }) => {
    const isTaken = body !== undefined;
    return { status: 200, answer: { isTaken, knowsIds: !isTaken } };
  };
  const spent = { observe: 0, advance: 0, writes: 0, records: 0, all: Number.POSITIVE_INFINITY };
  let records = 0;
  const timed = (
    /** @type {"observe" | "advance" | "writes" | "records"} */ step,
    /** @type {() => any} */ work,
  ) => {
    const begun = performance.now();
    const made = work();
    spent[step] += performance.now() - begun;
    return made;
  };
  const run = (/** @type {typeof timed} */ step) => {
    const core = new instance.Engine(settings, 1, 2);
    core.expectDiagnostics(true);
    core.open(NO_DISK, facts[0]?.wall ?? 0, (facts[0]?.wall ?? mono) - mono);
    records = 0;
    for (let at = 0; at < facts.length; at += BATCH) {
      const batch = facts.slice(at, at + BATCH);
      const wall = batch.at(-1)?.wall ?? 0;
      step("observe", () => {
        passToEngine(core, batch, 0);
        batch.forEach(() => core.observe());
      });
      step("advance", () => core.advance(wall, wall - mono));
      step("writes", () => core.flush(wall, wall - mono));
      let order = step("records", () => core.begin(wall, wall - mono, false));
      while (order) {
        records +=
          Buffer.from(order.body ?? "")
            .toString()
            .split('"latency_ms"').length - 1;
        order = core.answered(reply(order), wall, wall - mono);
      }
    }
    core.free?.();
  };
  // Shares by the clock, which resolves single steps; the sum by CPU time.
  spent.all = best(() => run((_, work) => work()));
  run(timed);
  const sum = spent.observe + spent.advance + spent.writes + spent.records;
  const share = (/** @type {number} */ part) => (part / sum) * spent.all;
  return {
    "events taken in, wasm": [facts.length / share(spent.observe), "/s"],
    "events settled, wasm": [facts.length / share(spent.advance), "/s"],
    "events journalled, wasm": [facts.length / share(spent.writes), "/s"],
    "records made, wasm": [records / share(spent.records), "/s"],
    "events in all, wasm": [facts.length / spent.all, "/s"],
  };
}

/** The crossing alone: the same arrays to a source that reads nothing. @param {[number, unknown[], number][]} facts */
function crossing(facts) {
  const instance = instantiate();
  const core = new instance.Engine({}, 1, 2);
  for (const { numbers } of facts) numbers[0] = 1_000;
  const seconds = best(() => {
    for (let at = 0; at < facts.length; at += BATCH) {
      const batch = facts.slice(at, at + BATCH);
      passToEngine(core, batch, 0);
      batch.forEach(() => core.observe());
    }
  });
  return facts.length / seconds;
}

/** @param {Buffer} bytes @param {(chunk: Buffer) => void} work */
function speed(bytes, work) {
  const seconds = best(() => {
    for (let at = 0; at < bytes.length; at += CHUNK) work(bytes.subarray(at, at + CHUNK));
  });
  return bytes.length / 1e6 / seconds;
}

/** @param {number} times @param {() => void} work */
function repeat(times, work) {
  for (let time = 0; time < times; time += 1) work();
}

/** A provider's stream. @param {number} megabytes */
function makeStream(megabytes) {
  const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "m" };
  const delta = (/** @type {string} */ content) => ({ index: 0, delta: { content }, finish_reason: null });
  const lines = [];
  for (let bytes = 0; bytes < megabytes * 1e6; ) {
    const line = `data: ${JSON.stringify({ ...head, choices: [delta(` a few "words" ${lines.length}`)] })}\n\n`;
    bytes += line.length;
    lines.push(line);
  }
  const usage = { prompt_tokens: 30, completion_tokens: lines.length, total_tokens: 30 + lines.length };
  lines.push(`data: ${JSON.stringify({ ...head, choices: [], usage })}\n\n`, "data: [DONE]\n\n");
  return Buffer.from(lines.join(""));
}

/** @param {Buffer} stored @param {Buffer} streamed @returns {import("./lib/figures.mjs").Figures} */
function bytes(stored, streamed) {
  const io = instantiateIo();
  const copy = Buffer.alloc(CHUNK);
  const lines = stored.toString().split("\n").filter(Boolean);
  const parsed = best(() => lines.forEach((line) => JSON.parse(line)));
  const events = streamed.toString().match(/(?<=data: )\{.*/g) ?? [];
  const eventsParsed = best(() => events.forEach((event) => JSON.parse(event)));
  const transcripts = stored.length / 1e6 / best(() => readMemory(io, stored));
  const reader = new io.AnswerReader("POST", "/v1/chat/completions", 200);
  const streams = speed(streamed, (chunk) => void reader.feed(chunk));
  reader.free();
  return {
    "transcripts, wasm": [transcripts, "MB/s"],
    "transcripts, JSON.parse": [stored.length / 1e6 / parsed, "MB/s"],
    "streams, wasm": [streams, "MB/s"],
    "streams, JSON.parse": [streamed.length / 1e6 / eventsParsed, "MB/s"],
    // One round is too short for the resolution of CPU time.
    "copy of memory, Node": [20 * speed(stored, (chunk) => repeat(20, () => chunk.copy(copy))), "MB/s"],
  };
}

/** @param {string} folder @param {...string} inputs */
function native(folder, ...inputs) {
  const target = process.env.CARGO_TARGET_DIR ?? join(PROJECT, "target");
  const stdio = /** @type {const} */ (["ignore", "inherit", "inherit"]);
  const built = spawnSync("cargo", ["build", "--locked", "--release", "-p", "agentwatch-bench"], {
    cwd: PROJECT,
    stdio,
  });
  if (built.status !== 0) throw new Error("cargo build failed");
  const program = join(target, "release", "agentwatch-bench");
  const ran = spawnSync(
    program,
    inputs.map((name) => join(folder, name)),
    { encoding: "utf8" },
  );
  if (ran.status !== 0) throw new Error(`${program} ended with ${ran.status}: ${ran.stderr}`);
  return JSON.parse(ran.stdout);
}

const folder = mkdtempSync(join(tmpdir(), "agentwatch-bench-"));
try {
  makeStore(folder, STORE_MB);
  const sessions = join(folder, "agents", "main", "sessions");
  const stored = Buffer.concat(readdirSync(sessions).map((name) => readFileSync(join(sessions, name))));
  const streamed = makeStream(STORE_MB);
  const facts = makeEvents();
  const packed = facts.map(({ numbers, texts, wall }) => ({ numbers: [...numbers], texts, wall }));
  writeFileSync(join(folder, "facts.json"), JSON.stringify(packed));
  writeFileSync(join(folder, "stored"), stored);
  writeFileSync(join(folder, "streamed"), streamed);
  report({
    ...counting(facts),
    "facts across the boundary, wasm": [crossing(facts), "/s"],
    ...native(folder, "facts.json", "stored", "streamed"),
    ...bytes(stored, streamed),
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
