#!/usr/bin/env node
// Memory of the plugin: resident memory of the whole process, which includes the plugin's thread, above a process that
// makes the same events without a handler and has used fetch. Idle, and after a million events that all arrived.
// Events come at a rate that a very busy gateway has: `node tests/bench/memory.mjs [events] [a second]`
import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gatewayStream } from "./lib/events.mjs";
import { median, report } from "./lib/figures.mjs";
import { startPlugin } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

const MB = 2 ** 20;
const EVENTS = Number(process.argv[2] ?? 1_000_000);
const RATE = Number(process.argv[3] ?? 10_000);
/** Events between two pauses for deferred work. */
const BURST = 100;
/** The first events of the stream, before the idle memory is measured. */
const FIRST = 142;
/** Processes of each kind: the resident memory of equal processes differs by some MB. */
const RUNS = 3;

/** Resident memory in MB, after collections of the main thread. */
async function used() {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 8; round += 1) {
    /** @type {any} */ (globalThis).gc();
    await sleep(50);
    least = Math.min(least, process.memoryUsage.rss());
  }
  return least / MB;
}

/** @param {string} way @param {string} url @param {number} events @param {number} rate */
async function measure(way, url, events, rate) {
  await fetch(url).then((response) => response.text());
  const plugin = way === "plugin" ? await startPlugin({ url }) : undefined;
  const stream = gatewayStream();
  for (let sent = 0; sent < FIRST; sent += 1) plugin?.handle(stream.next());
  await sleep(4_000);
  const idle = await used();
  let calls = 0;
  const begun = performance.now();
  for (let sent = 0; sent < events; sent += 1) {
    const event = stream.next();
    calls += event.calls;
    plugin?.handle(event);
    if (sent % BURST !== BURST - 1) continue;
    await sleep(Math.max(1, (sent / rate) * 1_000 - (performance.now() - begun)));
  }
  const sent = events / ((performance.now() - begun) / 1_000);
  await plugin?.settle();
  const after = await used();
  const status = await plugin?.status();
  process.send?.({ idle, after, calls, sent, dropped: status?.dropped });
  await plugin?.stop();
  plugin?.remove();
  process.disconnect();
}

/** @param {string} way @param {string} url */
async function inProcess(way, url) {
  const child = fork(fileURLToPath(import.meta.url), ["child", way, url, String(EVENTS), String(RATE)], {
    execArgv: ["--expose-gc"],
  });
  const [found] = await once(child, "message");
  await once(child, "exit");
  return found;
}

async function main() {
  const sink = await startSink();
  /** @type {{ idle: number, after: number, sent: number }[]} */
  const above = [];
  for (let run = 0; run < RUNS; run += 1) {
    const control = await inProcess("none", sink.url);
    await sink.count();
    const ours = await inProcess("plugin", sink.url);
    const { calls } = await sink.count();
    if (calls < ours.calls)
      console.log(`of ${ours.calls} calls ${calls} arrived, dropped ${JSON.stringify(ours.dropped)}`);
    above.push({ idle: ours.idle - control.idle, after: ours.after - control.after, sent: ours.sent });
  }
  sink.close();
  const count = EVENTS === 1_000_000 ? "a million" : String(EVENTS);
  report({
    "idle, above the control": [median(above.map(({ idle }) => idle)), "MB"],
    [`after ${count} events, above the control`]: [median(above.map(({ after }) => after)), "MB"],
    "events sent": [median(above.map(({ sent }) => sent)), "/s"],
  });
}

if (process.argv[2] === "child") {
  const [, , , way = "", url = "", events = "0", rate = "0"] = process.argv;
  await measure(way, url, Number(events), Number(rate));
} else await main();
