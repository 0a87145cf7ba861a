#!/usr/bin/env node
// The event loop of a gateway whose disk stalls for ten seconds at each write: delay of the loop with the plugin, and
// of the same process without it. `node tests/bench/stall.mjs`
import { fork } from "node:child_process";
import { once } from "node:events";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gatewayStream } from "./lib/events.mjs";
import { report } from "./lib/figures.mjs";
import { startPlugin } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

const STALL_MS = 10_000;
const SECONDS = 30;
const RATE = 1_000;
const SLOW_DISK = new URL("lib/slow-disk.mjs", import.meta.url).href;

/** @param {string} way @param {string} url */
async function measure(way, url) {
  const plugin = way === "plugin" ? await startPlugin({ url }) : undefined;
  const stream = gatewayStream();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const begun = performance.now();
  for (let sent = 0; sent < SECONDS * RATE; ) {
    const due = Math.floor(((performance.now() - begun) * RATE) / 1_000);
    for (; sent < due; sent += 1) plugin?.handle(stream.next());
    await sleep(1);
  }
  delay.disable();
  process.send?.({ p99: delay.percentile(99) / 1e6, most: delay.max / 1e6 });
  await once(process, "message");
  // The disk still stalls, and what waits for it is of no interest.
  process.exit();
}

/** @param {string} way @param {string} url @param {number} stallMs */
async function inProcess(way, url, stallMs) {
  const child = fork(fileURLToPath(import.meta.url), ["child", way, url], {
    // The plugin's files are made before the disk stalls: the folders of this process, and of the benchmark.
    execArgv: stallMs > 0 ? ["--import", SLOW_DISK] : [],
    env: { ...process.env, BENCH_STALL_MS: String(stallMs) },
  });
  const [found] = /** @type {[{ p99: number, most: number }]} */ (await once(child, "message"));
  child.kill("SIGKILL");
  await once(child, "exit");
  return found;
}

async function main() {
  const sink = await startSink();
  const none = await inProcess("none", sink.url, STALL_MS);
  const healthy = await inProcess("plugin", sink.url, 0);
  const stalled = await inProcess("plugin", sink.url, STALL_MS);
  sink.close();
  report({
    "no plugin, event loop delay p99": [none.p99, "ms"],
    "plugin, healthy disk, event loop delay p99": [healthy.p99, "ms"],
    "plugin, stalled disk, event loop delay p99": [stalled.p99, "ms"],
    "plugin, stalled disk, of the delay without the plugin": [stalled.p99 / none.p99, "×"],
  });
}

if (process.argv[2] === "child") await measure(process.argv[3] ?? "", process.argv[4] ?? "");
else await main();
