#!/usr/bin/env node
// The whole cost of an event, deferred work included: CPU of the main thread and of the whole process, from the
// handler to a live receiver in another process, at several rates; beside the same with an allowance that stops, version
// 0.1.0, the hook that this plugin replaces, and OpenTelemetry's SDK. The cost of a process that makes the same events without a
// handler is subtracted: the mean of one before the others and one behind them. `node tests/bench/cost.mjs [way, stream or
// rate…]`; `BENCH_PROFILE` names a folder for CPU profiles.
import { fork } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { firstVersion } from "../fixtures/upgrade/first-version.mjs";
import { streamOf } from "./lib/events.mjs";
import { report } from "./lib/figures.mjs";
import { startOldHook } from "./lib/old-hook.mjs";
import { startPlugin } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

/** Events a second, and seconds of the measurement. */
const RATES = [
  { rate: 10, seconds: 30 },
  { rate: 1_000, seconds: 20 },
  { rate: 10_000, seconds: 10 },
];
/** Events that are due within this time come together, in ms: to wake up for each costs more than to handle it. */
const TOGETHER_MS = 10;
/**
 * Events come at the same rate for so long before, so that as much was put off before the measuring begins as when it ends:
 * a turn waits ten seconds for what may belong to it, spans of OpenTelemetry five. A pause instead of it would measure how
 * V8 uses pauses: it collects all garbage, and forgets compiled code. What is sent more slowly than it comes is waited
 * for, and that is part of its cost.
 */
const LEAD_MS = 13_000;
/** Lowest rate at which the event loop's delay is measured: the measurement itself wakes the loop a thousand times a second. */
const TOO_FEW_FOR_DELAY = 100;
/** The old hook defers nothing, and cannot send at this rate. */
const TOO_MANY_FOR_OLD = 10_000;
const STREAMS = { gateway: ["plugin", "0.1.0", "stop", "otel"], messages: ["plugin", "old", "otel"] };
/** The ways that are measured where no argument names one. */
const WAYS = [...new Set(Object.values(STREAMS).flat())];
/** `stop` is the plugin with an allowance that stops, without the checks before calls, which `gate.mjs` measures. */
const ALLOWANCE = [{ usd: 1_000_000, per: "month", then: "stop" }];

/**
 * @typedef {object} Spent
 * @property {number} thread CPU of the main thread, in µs.
 * @property {number} process CPU of all threads, in µs.
 * @property {number | undefined} delayP99 Delay of the event loop, in ms; undefined at low rates.
 * @property {number} late Delay of the last event, in ms.
 */

/** @param {string} way @param {string} url @returns {Promise<{ handle: (told: import("./lib/events.mjs").Told) => void, settle?: () => Promise<unknown>, stop: () => Promise<unknown>, remove?: () => void, counts?: { failed: number } }>} */
async function startWay(way, url) {
  if (way === "plugin" || way === "0.1.0") return startPlugin({ url });
  if (way === "stop") return startPlugin({ url, allowance: ALLOWANCE });
  if (way === "old") return startOldHook(url);
  if (way === "otel") return (await import("./lib/otel.mjs")).startOtel(url);
  return { handle: () => {}, stop: async () => {} };
}

/** Sends events at their times. @param {() => void} tell @param {number} rate @param {number} count */
async function drive(tell, rate, count) {
  const begun = performance.now();
  for (let told = 0; told < count; ) {
    const due = Math.min(count, Math.floor(((performance.now() - begun) * rate) / 1_000));
    for (; told < due; told += 1) tell();
    if (told < count)
      await sleep(Math.max(TOGETHER_MS, ((told + 1) * 1_000) / rate - (performance.now() - begun)));
  }
  return performance.now() - begun - (count * 1_000) / rate;
}

/** Begins a profile where `BENCH_PROFILE` is set. Returns a function that ends it. @param {string} name */
async function startProfile(name) {
  const { BENCH_PROFILE } = process.env;
  if (!BENCH_PROFILE) return undefined;
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.setSamplingInterval", { interval: 100 });
  await session.post("Profiler.start");
  return async () => {
    const { profile } = await session.post("Profiler.stop");
    writeFileSync(join(BENCH_PROFILE, `${name}.cpuprofile`), JSON.stringify(profile));
  };
}

/** @param {string[]} args */
async function measure([way = "", events = "", rate = "", count = "", url = ""]) {
  const stream = streamOf(events);
  const { handle, settle, stop, remove, counts } = await startWay(way, url);
  let calls = 0;
  const tell = () => {
    const told = stream.next();
    calls += told.calls;
    handle(told);
  };
  // Warms up: code is compiled, connections are open, late timers have run.
  await drive(tell, 2_000, 10_000);
  const hasLead = way !== "old" || Number(rate) < TOO_MANY_FOR_OLD;
  if (hasLead) await drive(tell, Number(rate), (Number(rate) * LEAD_MS) / 1_000);
  await settle?.();
  process.send?.("ready");
  await once(process, "message");
  const profiled = await startProfile(`${way}-${events}-${rate}`);
  const delay = Number(rate) < TOO_FEW_FOR_DELAY ? undefined : monitorEventLoopDelay({ resolution: 1 });
  delay?.enable();
  const [thread, all] = [process.threadCpuUsage(), process.cpuUsage()];
  const late = await drive(tell, Number(rate), Number(count));
  delay?.disable();
  await settle?.();
  const [threadSpent, spent] = [process.threadCpuUsage(thread), process.cpuUsage(all)];
  /** @type {Spent} */
  const found = {
    thread: threadSpent.user + threadSpent.system,
    process: spent.user + spent.system,
    delayP99: delay && delay.percentile(99) / 1e6,
    late,
  };
  await profiled?.();
  process.send?.(found);
  await once(process, "message");
  await stop();
  process.send?.(calls);
  remove?.();
  if (counts && counts.failed > 0) console.log(`${counts.failed} POSTs of the old hook failed`);
  process.disconnect();
}

/** @param {string} way @param {string} events @param {{ rate: number, seconds: number }} pace */
async function inProcess(way, events, { rate, seconds }) {
  const sink = await startSink();
  const count = rate * seconds;
  const args = ["child", way, events, String(rate), String(count), sink.url];
  const { env } = process;
  const child = fork(fileURLToPath(import.meta.url), args, {
    env: way === "0.1.0" ? { ...env, BENCH_DIST: join(firstVersion(), "dist") } : env,
  });
  const ended = once(child, "exit");
  await once(child, "message");
  const before = await sink.count();
  child.send("go");
  const [spent] = /** @type {[Spent]} */ (await once(child, "message"));
  const counted = await sink.count();
  child.send("end");
  const [calls] = /** @type {[number]} */ (await once(child, "message"));
  await ended;
  const arrived = before.calls + counted.calls + (await sink.count()).calls;
  sink.close();
  if (["plugin", "0.1.0", "stop"].includes(way) && arrived < calls)
    throw new Error(`of ${calls} calls ${arrived} arrived`);
  return { ...spent, counted, count };
}

/** @param {string[]} only */
async function main(only) {
  /** @type {import("./lib/figures.mjs").Figures} */
  const figures = {};
  const wanted = (/** @type {(string | number)[]} */ names) => {
    const named = names.filter((name) => only.includes(String(name)));
    return named.length > 0 ? named : names;
  };
  for (const [events, ways] of Object.entries(STREAMS)) {
    if (!wanted(Object.keys(STREAMS)).includes(events)) continue;
    for (const pace of RATES) {
      if (!wanted(RATES.map(({ rate }) => rate)).includes(pace.rate)) continue;
      const control = await inProcess("none", events, pace);
      /** @type {Record<string, Awaited<ReturnType<typeof inProcess>>>} */
      const measured = {};
      for (const way of ways.filter((name) => wanted(WAYS).includes(name)))
        measured[way] = await inProcess(way, events, pace);
      // The machine may have changed its pace meanwhile: a difference of the controls is the least that a figure is wrong by.
      const again = await inProcess("none", events, pace);
      const without = {
        process: (control.process + again.process) / 2,
        thread: (control.thread + again.thread) / 2,
      };
      figures[`no plugin, ${events} at ${pace.rate}/s, main thread an event, first and last apart`] = [
        Math.abs(again.thread - control.thread) / control.count,
        "µs",
      ];
      const own = /** @type {Record<string, number>} */ ({});
      const main = /** @type {Record<string, number>} */ ({});
      for (const [way, spent] of Object.entries(measured)) {
        const { counted, count } = spent;
        const name = `${way}, ${events} at ${pace.rate}/s`;
        own[way] = (spent.process - without.process) / count;
        main[way] = (spent.thread - without.thread) / count;
        figures[`${name}, main thread an event`] = [main[way], "µs"];
        figures[`${name}, CPU an event`] = [own[way], "µs"];
        figures[`${name}, POSTs per 1,000 events`] = [(counted.posts * 1_000) / count, ""];
        figures[`${name}, POSTs a second`] = [counted.posts / pace.seconds, ""];
        figures[`${name}, KB per 1,000 events`] = [(counted.bytes / 1024 / count) * 1_000, "KB"];
        if (spent.delayP99 !== undefined) figures[`${name}, event loop delay p99`] = [spent.delayP99, "ms"];
        if (["old", "otel"].includes(way) && own.plugin)
          figures[`${name}, times the plugin's CPU`] = [own[way] / own.plugin, "×"];
        if (spent.late > 100) console.log(`${name}: the last event was ${Math.round(spent.late)} ms late`);
      }
      if (main.plugin && main.stop)
        figures[`stop, ${events} at ${pace.rate}/s, main thread, of the plugin's without an allowance`] = [
          main.stop / main.plugin,
          "×",
        ];
      if (own.plugin && own["0.1.0"])
        figures[`plugin, ${events} at ${pace.rate}/s, CPU, of 0.1.0's`] = [own.plugin / own["0.1.0"], "×"];
      if (main.plugin && main.otel)
        figures[`plugin, ${events} at ${pace.rate}/s, main thread, of OpenTelemetry's`] = [
          main.plugin / main.otel,
          "×",
        ];
      if (control.delayP99 !== undefined)
        figures[`no plugin, ${events} at ${pace.rate}/s, event loop delay p99`] = [control.delayP99, "ms"];
    }
  }
  report(figures);
}

if (process.argv[2] === "child") await measure(process.argv.slice(3));
else await main(process.argv.slice(2));
