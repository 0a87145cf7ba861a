#!/usr/bin/env node
// Speed of `sync` on a large store's history, beside other readers of the same files: node tests/bench/backfill.mjs [MB]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { pathToFileURL } from "node:url";
import { npmPackages } from "../../scripts/lib/locks.mjs";
import { Receiver } from "../unit/world.mjs";
import { report as tell } from "./lib/figures.mjs";
import { DIST } from "./lib/plugin.mjs";
import { makeStore } from "./store-sample.mjs";

const MB = 1024 * 1024;
const CLI = join(DIST, "cli.js");
const STORE_READER = `
  const [, stateDir] = process.argv;
  const { readStore } = await import(${JSON.stringify(pathToFileURL(join(DIST, "store.js")).href)});
  const { instantiate, instantiateIo = instantiate } = await import(${JSON.stringify(pathToFileURL(join(DIST, "base.js")).href)});
  let calls = 0, tokens = 0;
  for await (const { rows } of readStore(stateDir, new Map(), { io: instantiateIo() })) {
    calls += rows.length;
    // The usage is pairs of a count's number and its figure, the input's first.
    for (const [, , [, input]] of rows) tokens += input;
  }
  console.log(JSON.stringify({ calls, tokens }));`;

/**
 * @typedef {object} Ran
 * @property {number} seconds
 * @property {number} cpu CPU time, in s.
 * @property {number} peak Peak memory, in MB.
 * @property {string} out
 */

/** Runs a program to its end. @param {string} file @param {string[]} args @param {Record<string, string>} env @returns {Promise<Ran>} */
async function measure(file, args, env = {}) {
  const begun = performance.now();
  const child = spawn(file, args, { env: { PATH: process.env.PATH ?? "", HOME: folder, ...env } });
  let [out, error, peak, cpu] = ["", "", 0, 0];
  child.stdout.setEncoding("utf8").on("data", (text) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    error += text;
  });
  const look = () => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
      const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
      cpu = (Number(fields[11]) + Number(fields[12])) / 100;
    } catch {
      // The process has ended, or this is not Linux: there is no figure.
    }
  };
  const timer = setInterval(look, 20);
  const [status] = await once(child, "close");
  clearInterval(timer);
  if (status !== 0) throw new Error(`${file} ended with ${status}: ${error}`);
  return { seconds: (performance.now() - begun) / 1000, cpu, peak, out };
}

/** @param {string} name @param {Ran} ran @param {{ calls: number, tokens: number }} found */
function report(name, { seconds, cpu, peak }, found) {
  if (found.calls !== made.calls || found.tokens !== made.tokens)
    throw new Error(`${name} found ${JSON.stringify(found)}, made were ${JSON.stringify(made)}`);
  const speed = `${(made.bytes / MB / seconds).toFixed(0)} MB/s, ${(made.calls / seconds).toFixed(0)} calls/s`;
  console.log(
    `${name}: ${seconds.toFixed(1)} s (CPU ${cpu.toFixed(1)} s), ${speed}, peak ${peak.toFixed(0)} MB`,
  );
  const key = name.startsWith("ccusage") ? "ccusage" : name;
  figures[`${key}, speed`] = [made.bytes / MB / seconds, "MB/s"];
  figures[`${key}, CPU`] = [(cpu * 1_000) / (made.bytes / MB), "ms per MB"];
  figures[`${key}, most memory`] = [peak, "MB"];
  return seconds;
}

/** @type {import("./lib/figures.mjs").Figures} */
const figures = {};
const folder = mkdtempSync(join(tmpdir(), "agentwatch-backfill-"));
const stateDir = join(folder, "state");
mkdirSync(stateDir);
const made = makeStore(stateDir, Number(process.argv[2] ?? 1024));
try {
  console.log(`store: ${(made.bytes / MB).toFixed(0)} MB in files, ${made.calls} calls`);
  const reader = ["--input-type=module", "--eval", STORE_READER, stateDir];
  // One run without measuring, after which the files are in the page cache for all readers.
  await measure(process.execPath, reader);
  const read = await measure(process.execPath, reader);
  report("reading alone", read, JSON.parse(read.out));

  const receiver = await Receiver.open();
  const args = [CLI, "sync", "--json", "--state-dir", stateDir];
  const synced = await measure(process.execPath, args, { AGENTWATCH_URL: receiver.url });
  receiver.close();
  const { requests = 0, prompt = 0 } = receiver.totals["anthropic/claude-sonnet-4-5"] ?? {};
  const ours = report("sync, sent and answered", synced, { calls: requests, tokens: prompt / 21 });

  const installed = await npmPackages("ccusage", "tools/ccusage", "install ccusage");
  const ccusage = join(installed, "node_modules", "@ccusage", "ccusage-linux-x64");
  const program = join(ccusage, "bin", "ccusage");
  const { version } = JSON.parse(readFileSync(join(ccusage, "package.json"), "utf8"));
  const name = `ccusage@${version}`;
  // npm packs it as any other file.
  chmodSync(program, 0o755);
  const monthly = ["openclaw", "monthly", "--json", "--offline", "--open-claw-path", stateDir];
  const other = await measure(program, monthly);
  const { inputTokens: tokens, outputTokens } = JSON.parse(other.out).totals;
  const theirs = report(name, other, { calls: outputTokens / 200, tokens });
  console.log(`sync takes ${(ours / theirs).toFixed(1)} times as long as ${name}, which sends nothing`);
  figures["sync, times the time of ccusage"] = [ours / theirs, "×"];
  tell(figures);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
