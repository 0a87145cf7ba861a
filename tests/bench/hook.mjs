#!/usr/bin/env node
// The time inside the plugin's handlers, event by event, one in each turn of the event loop, with
// short messages and with 1 MB; and their allocations. Deferred work is in `cost.mjs`. `node tests/bench/hook.mjs`
import { fork } from "node:child_process";
import { once } from "node:events";
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { streamOf } from "./lib/events.mjs";
import { quantile, report } from "./lib/figures.mjs";
import { startOldHook } from "./lib/old-hook.mjs";
import { startPlugin } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

const MB = 2 ** 20;
const WARM_UP = 4_000;
const EVENTS = 10_000;
/** Size of the heap while allocations are counted, so that no garbage is collected. */
const ROOMY = ["--max-semi-space-size=256", "--min-semi-space-size=256"];

/** @typedef {(told: import("./lib/events.mjs").Told) => void} Handle */

/** The texts of the messages, by size. @type {Record<string, () => string>} */
const CONTENTS = {
  small: () => "Could you look at the build again?",
  // One piece of memory, as from a parser.
  large: () => JSON.parse(`"${"a word and another, ".repeat(MB / 20)}"`),
  // A concatenated string: V8 copies it at the first access.
  joined: () => "a word and another, ".repeat(MB / 20),
};

/** @param {string} url @param {string} way @returns {Promise<{ handle: Handle, stop: () => Promise<unknown>, remove?: () => void }>} */
async function startWay(url, way) {
  if (way === "plugin") return startPlugin({ url });
  if (way === "old") return startOldHook(url);
  return { handle: () => {}, stop: async () => {} };
}

/** One process's work. @param {string[]} args */
async function measure([url = "", way = "", events = "", size = "", what = ""]) {
  const content = CONTENTS[size]?.() ?? "";
  const stream = streamOf(events, content);
  const { handle, stop, remove } = await startWay(url, way);
  // Pauses for the receiver, as on a gateway that is not saturated.
  const pace = async (/** @type {number} */ index) => {
    await turn();
    if (index % 500 === 0) await sleep(100);
  };
  for (let index = 0; index < WARM_UP; index += 1) {
    handle(stream.next());
    await pace(index);
  }
  await sleep(1_500);
  const figures =
    what === "times" ? await times(stream, handle, size, pace) : await allocations(stream, handle);
  await stop();
  remove?.();
  process.send?.(figures);
  process.disconnect();
}

/** @param {import("./lib/events.mjs").Stream} stream @param {Handle} handle @param {string} size @param {(index: number) => Promise<void>} pace */
async function times(stream, handle, size, pace) {
  const [micros, kinds] = [new Float64Array(EVENTS), /** @type {string[]} */ ([])];
  for (let index = 0; index < EVENTS; index += 1) {
    const told = stream.next();
    if (size === "joined") join(told);
    const begun = performance.now();
    handle(told);
    micros[index] = (performance.now() - begun) * 1_000;
    kinds.push(told.hook ?? told.event.type);
    await pace(index);
  }
  const slowest = [...new Set(kinds)].map((kind) => {
    const own = micros.filter((_, index) => kinds[index] === kind);
    return { kind, p50: quantile(own, 0.5), p99: quantile(own, 0.99) };
  });
  return { p50: quantile(micros, 0.5), p99: quantile(micros, 0.99), p999: quantile(micros, 0.999), slowest };
}

/** A text in several pieces, which V8 has not copied yet. @param {import("./lib/events.mjs").Told} told */
function join({ event }) {
  const fresh = () => "a word and another, ".repeat(MB / 40) + "and what comes behind it. ".repeat(MB / 52);
  if (typeof event.content === "string") event.content = fresh();
  if (event.message?.content) event.message.content[0].text = fresh();
}

/** Bytes of the JavaScript heap an event: inside the handlers, and with deferred work. @param {import("./lib/events.mjs").Stream} stream @param {Handle} handle */
async function allocations(stream, handle) {
  let [collections, begun] = [0, 0];
  const observer = new PerformanceObserver((list) => {
    collections += list.getEntries().filter(({ startTime }) => startTime >= begun).length;
  });
  observer.observe({ entryTypes: ["gc"] });
  const grown = async (/** @type {() => Promise<void>} */ work) => {
    /** @type {any} */ (globalThis).gc();
    await sleep(200);
    [collections, begun] = [0, performance.now()];
    const before = process.memoryUsage().heapUsed;
    await work();
    const bytes = process.memoryUsage().heapUsed - before;
    await sleep(50);
    return collections === 0 ? bytes / EVENTS : Number.NaN;
  };
  const inside = await grown(async () => {
    for (let index = 0; index < EVENTS; index += 1) handle(stream.next());
  });
  await sleep(2_500);
  const all = await grown(async () => {
    for (let index = 0; index < EVENTS; index += 1) {
      handle(stream.next());
      if (index % 10 === 9) await sleep(10);
    }
    await sleep(1_500);
  });
  return { inside, all };
}

/** @param {string[]} args @param {string[]} [flags] @returns {Promise<any>} */
async function inProcess(args, flags = []) {
  const execArgv = ["--expose-gc", ...flags];
  const child = fork(fileURLToPath(import.meta.url), ["child", ...args], { execArgv });
  const [figures] = await Promise.race([
    once(child, "message"),
    once(child, "exit").then(([code]) => {
      throw new Error(`it ended with ${code}`);
    }),
  ]);
  return figures;
}

async function main() {
  const sink = await startSink();
  /** @type {import("./lib/figures.mjs").Figures} */
  const figures = {};
  const time = async (/** @type {string} */ name, /** @type {string[]} */ ...args) => {
    const { p50, p99, p999, slowest } = await inProcess([sink.url, ...args, "times"]);
    figures[`${name}, p50`] = [p50, "µs"];
    figures[`${name}, p99`] = [p99, "µs"];
    figures[`${name}, p99.9`] = [p999, "µs"];
    if (args[0] !== "plugin") return;
    const line = ({ kind = "", p50 = 0, p99 = 0 }) => `  ${kind} ${p50.toFixed(1)} / ${p99.toFixed(1)}`;
    console.log(`${name}, p50 / p99 in µs:\n${slowest.map(line).join("\n")}`);
  };
  await time("clock alone", "none", "gateway", "small");
  await time("handler, short messages", "plugin", "gateway", "small");
  await time("handler, 1 MB messages", "plugin", "gateway", "large");
  await time("handler, 1 MB messages not yet looked at", "plugin", "gateway", "joined");
  await time("message handler", "plugin", "messages", "small");
  await time("message handler, 1 MB", "plugin", "messages", "large");
  await time("message handler of the old hook", "old", "messages", "small");
  const control = await inProcess([sink.url, "none", "gateway", "small", "allocations"], ROOMY);
  const ours = await inProcess([sink.url, "plugin", "gateway", "small", "allocations"], ROOMY);
  const allocated = { "in the handler": ours.inside - control.inside, "in all": ours.all - control.all };
  for (const [where, bytes] of Object.entries(allocated)) {
    // A run with a garbage collection has no figure; the other runs have.
    if (Number.isFinite(bytes)) figures[`allocated ${where}, an event`] = [bytes, "bytes"];
    else console.log(`what is allocated ${where} is not known: some of it was collected meanwhile`);
  }
  report(figures);
  sink.close();
}

if (process.argv[2] === "child") await measure(process.argv.slice(3));
else await main();
