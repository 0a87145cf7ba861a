#!/usr/bin/env node
// Start-up time of the plugin: loading scripts, compiling the module, recording the first event. Each figure
// is from a process as warm as a gateway (files in the page cache, fetch used once). `node tests/bench/start.mjs`
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { median, report } from "./lib/figures.mjs";
import { DIST, shim } from "./lib/plugin.mjs";

const PROCESSES = 9;
/** Files that are packed beside `dist/`. */
const BESIDE = ["package.json", "openclaw.plugin.json", "README.md", "LICENSE"];

/** ms of the clock and of the CPU, all threads. @template T @param {() => T | Promise<T>} work */
async function timed(work) {
  const [begun, cpu] = [performance.now(), process.threadCpuUsage()];
  const made = await work();
  const { user, system } = process.threadCpuUsage(cpu);
  return { made, ms: performance.now() - begun, cpu: (user + system) / 1_000 };
}

async function measure() {
  // Modules that every gateway has loaded before the plugin.
  for (const name of ["crypto", "fs", "fs/promises", "os", "path", "zlib"]) await import(`node:${name}`);
  await fetch("data:,").then((response) => response.text());
  const stateDir = mkdtempSync(join(tmpdir(), "agentwatch-bench-"));
  const settings = { url: "http://127.0.0.1:9", identityKey: "00".repeat(16), installation: "bench" };
  const scripts = await timed(shim);
  const { Pipeline, instantiate, instantiateIo, priceTable } = scripts.made;
  const module = await timed(() => instantiate());
  const log = { info() {}, warn() {} };
  const [wall, mono] = [() => Date.now(), () => performance.now()];
  const host = {
    instantiate,
    instantiateIo,
    priceTable,
    log,
    wall,
    mono,
    folder: join(stateDir, "agentwatch"),
  };
  const pipeline = new Pipeline(host, settings);
  const usage = { input: 1, output: 1, cost: { total: 0.1 } };
  const message = { role: "assistant", provider: "p", model: "m", stopReason: "stop", usage };
  const first = await timed(() =>
    pipeline.accept("before_message_write", [{ message }, { agentId: "main", sessionKey: "agent:main:s" }]),
  );
  const opened = await timed(() => pipeline.open());
  const io = await timed(() => instantiateIo());
  const journalled = await timed(() => pipeline.journalled());
  await pipeline.close();
  rmSync(stateDir, { recursive: true, force: true });
  const steps = { scripts, module, first, opened, io, journalled };
  process.send?.(Object.fromEntries(Object.entries(steps).map(([name, { ms, cpu }]) => [name, { ms, cpu }])));
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

const NAMES = {
  scripts: "load the scripts",
  module: "compile the module",
  first: "take the first event",
  opened: "take the journal over",
  io: "make the instance that sends",
  journalled: "first event on disk, waits included",
};

async function main() {
  /** @type {Record<string, { ms: number, cpu: number }>[]} */
  const runs = [];
  for (let run = 0; run < PROCESSES; run += 1) {
    const child = fork(fileURLToPath(import.meta.url), ["child"]);
    const [figures] = await once(child, "message");
    runs.push(figures);
    await once(child, "exit");
  }
  /** @type {import("./lib/figures.mjs").Figures} */
  const figures = {};
  const of = (/** @type {string[]} */ steps, /** @type {"ms" | "cpu"} */ what) =>
    median(runs.map((run) => steps.reduce((sum, step) => sum + (run[step]?.[what] ?? 0), 0)));
  for (const [step, name] of Object.entries(NAMES)) figures[name] = [of([step], "ms"), "ms"];
  figures["load, compile and first event"] = [of(["scripts", "module", "first"], "ms"), "ms"];
  figures["load, compile and first event, CPU of the main thread"] = [
    of(["scripts", "module", "first"], "cpu"),
    "ms",
  ];
  const { wasm, all } = sizes();
  figures["WebAssembly"] = [wasm / 1024, "KB"];
  figures["package unpacked"] = [all / 1024, "KB"];
  report(figures);
}

if (process.argv[2] === "child") await measure();
else await main();
