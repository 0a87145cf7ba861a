#!/usr/bin/env node
// A real gateway under load, with the packed plugin and without it: many sessions at once against the scripted provider.
// Two gateways take blocks of turns in turn, so that what the machine does besides meets both. The main thread's time is
// CPU; what of it is the plugin's is told by a profile: samples with one of its files in their stack. What Node does
// for it beneath (sockets, collecting garbage) is in no such stack; the difference of the pairs has it, and their noise.
// `node tests/bench/gateway.mjs [versions…]`
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startGateway } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { median, quantile, report } from "./lib/figures.mjs";
import { DIST } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const VERSIONS = ["2026.9.6", "2026.3.13"];
const SESSIONS = 8;
const TURNS = 32;
const ROUNDS = 3;
/** Until all that a block put off is done. */
const TAIL_MS = 3_500;
/** The plugin's own files, wherever a gateway put them. */
const OURS = /\/agentwatch[^/]*\/dist\/[\w-]+\.js$/;

/** The plugin as it would be published, of the build that is measured. @param {string} folder */
function pack(folder) {
  const stage = join(folder, "package");
  mkdirSync(stage);
  for (const file of ["package.json", "openclaw.plugin.json", "README.md", "LICENSE"])
    cpSync(join(PROJECT, file), join(stage, file));
  cpSync(DIST, join(stage, "dist"), { recursive: true });
  execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder], { cwd: stage });
  return join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "");
}

/** CPU of a process's main thread, in ms. @param {number} pid */
function threadMs(pid) {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
}

/**
 * @typedef {{ name: string, gateway: import("../../examples/gateway/gateway.mjs").Gateway, turns: number[], cpu: number[], times: number[] }} Side
 */

let block = 0;

/** One block of turns, many at once. @param {Side} side @param {number} [count] */
async function run(side, count = TURNS) {
  block += 1;
  const before = threadMs(side.gateway.pid ?? 0);
  let next = 0;
  const times = /** @type {number[]} */ ([]);
  const session = async (/** @type {number} */ number) => {
    while (next < count) {
      next += 1;
      const begun = performance.now();
      await side.gateway.agentTurn({ session: `bench-${number}`, message: `turn ${next} of block ${block}` });
      times.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: SESSIONS }, (_, number) => session(number)));
  await sleep(TAIL_MS);
  side.cpu.push((threadMs(side.gateway.pid ?? 0) - before) / count);
  side.turns.push(median(times));
  side.times.push(...times);
}

/** The profile of some blocks: ms of the main thread a turn, and those that are the plugin's. @param {Side} side @param {string} file */
async function profiled(side, file) {
  writeFileSync(`${file}.begin`, "");
  await sleep(1_500);
  await run(side, TURNS);
  await run(side, TURNS);
  writeFileSync(`${file}.end`, "");
  for (const until = performance.now() + 60_000; !existsSync(file); await sleep(200))
    if (performance.now() > until) throw new Error("the gateway wrote no profile");
  const { cpuUs, profile } = JSON.parse(readFileSync(`${file}.new`, "utf8"));
  /** @type {Map<number, { isOurs: boolean, isIdle: boolean }>} */
  const kinds = new Map();
  const byId = new Map(profile.nodes.map((/** @type {any} */ node) => [node.id, node]));
  const mark = (/** @type {any} */ node, /** @type {boolean} */ isWithin) => {
    const { url, functionName } = node.callFrame;
    const isOurs = isWithin || OURS.test(url);
    kinds.set(node.id, { isOurs, isIdle: functionName === "(idle)" });
    for (const child of node.children ?? []) mark(byId.get(child), isOurs);
  };
  mark(profile.nodes[0], false);
  let [ours, busy] = [0, 0];
  profile.samples.forEach((/** @type {number} */ id, /** @type {number} */ index) => {
    const { isOurs = false, isIdle = true } = kinds.get(id) ?? {};
    if (isIdle) return;
    busy += profile.timeDeltas[index];
    if (isOurs) ours += profile.timeDeltas[index];
  });
  // By the clock a sample may hold time in which another process had the core: shares hold, sums do not.
  return { own: ((ours / busy) * cpuUs) / 1_000 / (2 * TURNS), share: (ours / busy) * 100 };
}

/** @param {string} version @param {string} folder @param {string} tgz @param {import("./lib/figures.mjs").Figures} figures */
async function measure(version, folder, tgz, figures) {
  const sink = await startSink();
  const provider = await createProvider({ delayMs: 50 });
  const probe = new URL("lib/probe.mjs", import.meta.url).href;
  const file = join(folder, `profile-${version}.json`);
  const config = { agents: { defaults: { maxConcurrent: SESSIONS } } };
  const env = { NODE_OPTIONS: `--import=${probe}` };
  const options = { version, providerUrl: provider.baseUrl, config };
  const side = (/** @type {string} */ name, /** @type {Side["gateway"]} */ gateway) => {
    return { name, gateway, turns: [], cpu: [], times: [] };
  };
  /** @type {Side[]} */
  const sides = [];
  try {
    const plugins = [{ id: "agentwatch", tgz, config: { url: sink.url } }];
    const ourEnv = { ...env, BENCH_PROBE: file };
    sides.push(side("with", await startGateway({ ...options, plugins, env: ourEnv })));
    sides.push(
      side("without", await startGateway({ ...options, env: { ...env, BENCH_PROBE: `${file}.none` } })),
    );
    for (const { gateway } of sides) await gateway.warmUp();
    // Compiled, and each session begun.
    for (const one of sides) await run(one);
    for (const one of sides) Object.assign(one, { turns: [], cpu: [], times: [] });
    await sink.count();
    const [ours, bare] = /** @type {[Side, Side]} */ (/** @type {unknown} */ (sides));
    for (let round = 0; round < ROUNDS; round += 1)
      for (const one of round % 2 ? [bare, ours] : [ours, bare]) await run(one);
    const { calls } = await sink.count();
    const told = TURNS * ROUNDS;
    if (calls < told) console.log(`${version}: of ${told} calls ${calls} had arrived`);
    const paired = (/** @type {"cpu" | "turns"} */ what) =>
      ours[what].map((value, index) => [value, bare[what][index] ?? Number.NaN]);
    const apart = paired("cpu").map(([a = 0, b = 0]) => a - b);
    const ratios = paired("turns").map(([a = 0, b = 0]) => a / b);
    const add = (/** @type {string} */ name, /** @type {number} */ value, unit = "ms") => {
      figures[`${version}, ${name}`] = [value, unit];
    };
    for (const one of sides) {
      add(`main thread a turn, ${one.name} the plugin`, median(one.cpu));
      add(`turn, ${one.name} the plugin, p50`, median(one.times));
      add(`turn, ${one.name} the plugin, p95`, quantile(one.times, 0.95));
    }
    add("main thread a turn, difference of pairs, median", median(apart));
    add("main thread a turn, difference of pairs, least", Math.min(...apart));
    add("main thread a turn, difference of pairs, most", Math.max(...apart));
    add("turn, ratio of pairs, median", median(ratios), "×");
    add("turn, ratio of pairs, least", Math.min(...ratios), "×");
    add("turn, ratio of pairs, most", Math.max(...ratios), "×");
    const { own, share } = await profiled(ours, file);
    add("main thread a turn that is the plugin's", own);
    add("main thread, share that is the plugin's", share, "%");
  } finally {
    for (const { gateway } of sides) await gateway.stop();
    await provider.close();
    sink.close();
  }
}

const folder = mkdtempSync(join(tmpdir(), "agentwatch-bench-"));
const asked = process.argv.slice(2);
try {
  const tgz = pack(folder);
  /** @type {import("./lib/figures.mjs").Figures} */
  const figures = {};
  for (const version of asked.length > 0 ? asked : VERSIONS) await measure(version, folder, tgz, figures);
  report(figures);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
