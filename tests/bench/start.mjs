#!/usr/bin/env node
// Start-up time of the plugin: CPU of the gateway's main thread while the plugin is loaded and its worker starts, and the
// time until the worker is ready. Each process is as warm as a gateway (files in the page cache, fetch used once).
// `node tests/bench/start.mjs`
import { fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gatewayStream } from "./lib/events.mjs";
import { median, report } from "./lib/figures.mjs";
import { DIST, startPlugin } from "./lib/plugin.mjs";

const PROCESSES = 9;
/** Files that are packed beside `dist/`. */
const BESIDE = ["package.json", "openclaw.plugin.json", "README.md", "LICENSE"];

/** ms of the clock, and of CPU of this thread. @template T @param {() => T | Promise<T>} work */
async function timed(work) {
  const [begun, cpu] = [performance.now(), process.threadCpuUsage()];
  const made = await work();
  const { user, system } = process.threadCpuUsage(cpu);
  return { made, ms: performance.now() - begun, cpu: (user + system) / 1_000 };
}

async function measure() {
  // Modules that every gateway has loaded before the plugin.
  for (const name of ["crypto", "fs", "fs/promises", "os", "path", "zlib", "worker_threads"])
    await import(`node:${name}`);
  await fetch("data:,").then((response) => response.text());
  const begun = performance.now();
  const started = await timed(() => startPlugin({ url: "http://127.0.0.1:9" }));
  const plugin = started.made;
  const stream = gatewayStream();
  plugin.handle(stream.next());
  // The worker answers once it is loaded, has taken the journal over and has read what the ring has.
  const answered = await timed(() => plugin.status());
  const ready = performance.now() - begun;
  await plugin.stop();
  plugin.remove();
  process.send?.({ copied: plugin.copiedMs, started: started.ms, cpu: started.cpu + answered.cpu, ready });
  process.disconnect();
}

/** Size of the published files, in bytes. */
function sizes() {
  const bytes = (/** @type {string} */ path) => statSync(path).size;
  const files = readdirSync(DIST).map((name) => join(DIST, name));
  const beside = BESIDE.map((name) => fileURLToPath(new URL(`../../${name}`, import.meta.url)));
  const all = [...files, ...beside].reduce((sum, path) => sum + bytes(path), 0);
  const wasm = files.filter((path) => path.endsWith(".wasm")).reduce((sum, path) => sum + bytes(path), 0);
  return { wasm, all };
}

async function main() {
  /** @type {{ copied: number, started: number, cpu: number, ready: number }[]} */
  const runs = [];
  for (let run = 0; run < PROCESSES; run += 1) {
    const child = fork(fileURLToPath(import.meta.url), ["child"]);
    const [figures] = await once(child, "message");
    runs.push(figures);
    await once(child, "exit");
  }
  const { wasm, all } = sizes();
  report({
    "load the plugin and start the worker, main thread": [
      median(runs.map(({ cpu, copied }) => cpu - copied)),
      "ms",
    ],
    "the worker is ready": [median(runs.map(({ ready, copied }) => ready - copied)), "ms"],
    WebAssembly: [wasm / 1024, "KB"],
    "package unpacked": [all / 1024, "KB"],
  });
}

if (process.argv[2] === "child") await measure();
else await main();
