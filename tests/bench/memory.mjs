#!/usr/bin/env node
// Memory of the plugin: wasm, external and heap after a collection, above a process that makes the same events without
// a handler and has used fetch. Idle, and after a million events that all arrived. They come as fast as the process takes
// them, tens of thousands a second, so all queues are at their bounds. Busy gateways have some hundred a
// second, which the rate sets: `node tests/bench/memory.mjs [events] [a second]`
import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gatewayStream } from "./lib/events.mjs";
import { report } from "./lib/figures.mjs";
import { memories } from "./lib/memories.mjs";
import { startPlugin } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

const MB = 2 ** 20;
const EVENTS = Number(process.argv[2] ?? 1_000_000);
/** Events a second; as fast as possible without it. */
const RATE = Number(process.argv[3] ?? Number.POSITIVE_INFINITY);
/** Events between two pauses for deferred work. */
const BURST = 100;

/** Versions of Node differ in whether external memory includes wasm. */
function countsWasm() {
  const before = process.memoryUsage().external;
  const probe = new WebAssembly.Memory({ initial: 512 });
  return process.memoryUsage().external - before > 16 * MB && probe.buffer.byteLength > 0;
}

/** Memory in MB. Freed memory counts until several collections have run. @param {boolean} isWasmExternal */
async function used(isWasmExternal) {
  let [heap, external] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let round = 0; round < 8; round += 1) {
    /** @type {any} */ (globalThis).gc();
    await sleep(50);
    const usage = process.memoryUsage();
    heap = Math.min(heap, usage.heapUsed);
    external = Math.min(external, usage.external);
  }
  const wasm = memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
  if (isWasmExternal) external -= wasm;
  return { heap: heap / MB, external: external / MB, wasm: wasm / MB };
}

/** @param {string} way @param {string} url @param {number} events @param {number} rate */
async function measure(way, url, events, rate) {
  const isWasmExternal = countsWasm();
  await fetch(url).then((response) => response.text());
  const plugin = way === "plugin" ? await startPlugin({ url }) : undefined;
  const stream = gatewayStream();
  for (let told = 0; told < 142; told += 1) plugin?.handle(stream.next());
  await sleep(4_000);
  const idle = await used(isWasmExternal);
  let calls = 0;
  const begun = performance.now();
  for (let told = 0; told < events; told += 1) {
    const event = stream.next();
    calls += event.calls;
    plugin?.handle(event);
    if (told % BURST !== BURST - 1) continue;
    // The control has no receiver.
    const early = way === "plugin" ? (told / rate) * 1_000 - (performance.now() - begun) : 0;
    await sleep(Math.max(1, early));
  }
  const told = events / ((performance.now() - begun) / 1_000);
  await sleep(way === "plugin" ? 6_000 : 500);
  const after = await used(isWasmExternal);
  const status = plugin?.status();
  process.send?.({ idle, after, calls, told, waiting: status?.waiting, dropped: status?.dropped });
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
  const control = await inProcess("none", sink.url);
  await sink.count();
  const ours = await inProcess("plugin", sink.url);
  const { calls } = await sink.count();
  if (calls < ours.calls || ours.waiting > 0)
    console.log(
      `of ${ours.calls} calls ${calls} arrived, ${ours.waiting} wait, dropped ${JSON.stringify(ours.dropped)}`,
    );
  sink.close();
  /** @type {import("./lib/figures.mjs").Figures} */
  const figures = {};
  const count = EVENTS === 1_000_000 ? "a million" : String(EVENTS);
  for (const [name, when] of /** @type {const} */ ([
    ["idle", "idle"],
    [`after ${count} events`, "after"],
  ])) {
    const parts = /** @type {const} */ (["heap", "external", "wasm"]);
    const above = parts.map((part) => ours[when][part] - control[when][part]);
    figures[`${name}, above the control`] = [above.reduce((a, b) => a + b, 0), "MB"];
    parts.forEach((part, index) => {
      figures[`${name}, ${part}`] = [above[index] ?? 0, "MB"];
    });
  }
  figures["events told"] = [ours.told, "/s"];
  report(figures);
}

if (process.argv[2] === "child") {
  const [, , , way = "", url = "", events = "0", rate = "0"] = process.argv;
  await measure(way, url, Number(events), Number(rate));
} else await main();
