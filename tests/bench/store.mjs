#!/usr/bin/env node
// Speed of the built shim on a large store, and the longest time that it blocks the thread: node tests/bench/store.mjs [MB]
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { readMemory } from "./lib/memory-store.mjs";
import { makeStore } from "./store-sample.mjs";

const dist = (/** @type {string} */ file) => import(new URL(`../../dist/${file}`, import.meta.url).href);
const [{ readStore }, { instantiate }] = await Promise.all([dist("store.js"), dist("base.js")]);
const MB = 1024 * 1024;

const stateDir = mkdtempSync(join(tmpdir(), "agentwatch-bench-"));
try {
  const made = makeStore(stateDir, Number(process.argv[2] ?? 200));
  console.log(`store: ${(made.bytes / MB).toFixed(0)} MB, ${made.calls} calls`);
  alone(instantiate());
  await whole(instantiate(), made);
} finally {
  rmSync(stateDir, { recursive: true, force: true });
}

/** The module alone, on bytes in memory. @param {any} io */
function alone(io) {
  const folder = join(stateDir, "agents", "main", "sessions");
  const bytes = Buffer.concat(
    readdirSync(folder)
      .slice(0, 20)
      .map((name) => readFileSync(join(folder, name))),
  );
  for (let round = 0; round < 3; round += 1) {
    let longest = 0;
    const begun = performance.now();
    let before = begun;
    readMemory(io, bytes, () => {
      longest = Math.max(longest, performance.now() - before);
      before = performance.now();
    });
    const seconds = (performance.now() - begun) / 1000;
    console.log(
      `module: ${(bytes.length / MB / seconds).toFixed(0)} MB/s, longest step ${longest.toFixed(2)} ms`,
    );
  }
}

/** From files to facts, with a measurement of the event loop's delay. @param {any} io @param {{ bytes: number, calls: number, tokens: number }} made */
async function whole(io, made) {
  const pauses = watchPauses();
  const [begun, cpu] = [performance.now(), process.cpuUsage()];
  const bookmarks = new Map();
  let [calls, tokens] = [0, 0];
  for await (const { file, bookmark, rows } of readStore(stateDir, bookmarks, { io })) {
    bookmarks.set(file, bookmark);
    for (const row of rows) tokens += row[2];
    calls += rows.length;
  }
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  if (calls !== made.calls || tokens !== made.tokens)
    throw new Error(`${calls} of ${made.calls} calls were read`);
  const memory = Math.round(process.memoryUsage().rss / MB);
  console.log(
    `store: ${(made.bytes / MB / seconds).toFixed(0)} MB/s, ${Math.round(calls / seconds)} calls/s`,
  );
  console.log(`CPU ${((user + system) / 1e6).toFixed(2)} s of ${seconds.toFixed(2)} s, RSS ${memory} MB`);
  console.log(`pauses of the event loop: ${pauses()}`);
  const again = performance.now();
  for await (const { rows } of readStore(stateDir, bookmarks, { io })) calls += rows.length;
  console.log(`a second look at ${bookmarks.size} sessions: ${(performance.now() - again).toFixed(1)} ms`);
}

/** Measures the event loop's longest turn. Returns a function that ends the measurement. */
function watchPauses() {
  const turns = /** @type {number[]} */ ([]);
  let last = performance.now();
  let isOn = true;
  const turn = () => {
    turns.push(performance.now() - last);
    last = performance.now();
    if (isOn) setImmediate(turn);
  };
  setImmediate(turn);
  return () => {
    isOn = false;
    turns.sort((a, b) => a - b);
    const at = (/** @type {number} */ share) =>
      (turns[Math.floor((turns.length - 1) * share)] ?? 0).toFixed(2);
    return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, p99.9 ${at(0.999)} ms, longest ${at(1)} ms`;
  };
}
