#!/usr/bin/env node
// A real gateway under load with the packed plugin, beside three others: without a plugin, with a plugin that does nothing, and
// with one that has the same hooks and does nothing in them. The four take blocks of turns alternately, so that other load of the
// machine is shared by all. They are restarted some times, since one of two equal gateways may be a fifth slower for as long
// as both run. The main thread's time is CPU. The plugin's part of it comes from a profile: samples with one of the plugin's
// files in their stack. Work of Node for the plugin outside such stacks (sockets, garbage collection) is in the difference
// of the pairs only, which also has their noise.
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
import { packIdle } from "./lib/idle-plugin.mjs";
import { DIST } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const VERSIONS = ["2026.9.6", "2026.3.13"];
const SESSIONS = 8;
const TURNS = 32;
/** Number of starts of all gateways. */
const GENERATIONS = 3;
/** Blocks of turns of each gateway in one start. */
const ROUNDS = 3;
const [OWN, BARE] = ["with the plugin", "without the plugin"];
/** Time for a block's deferred work, in ms. */
const TAIL_MS = 3_500;
/** Matches the plugin's files, also in the copy that 2026.9.6 runs. */
const OURS = /\/(?:agentwatch[^/]*|plugin-captures\/.+)\/dist\/[\w-]+\.js$/;

/** Packs the measured build. @param {string} folder */
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
 * @typedef {{ name: string, probe: string, gateway: import("../../examples/gateway/gateway.mjs").Gateway }} Side
 *
 * @typedef {object} Block
 * @property {number} cpu CPU of the main thread a turn, in ms.
 * @property {number} turn The median of its turns, in ms.
 * @property {number[]} times Of all its turns, in ms.
 */

let block = 0;

/** One block of turns, many at once. @param {Side} side @returns {Promise<Block>} */
async function run(side) {
  block += 1;
  const before = threadMs(side.gateway.pid ?? 0);
  let next = 0;
  const times = /** @type {number[]} */ ([]);
  const session = async (/** @type {number} */ number) => {
    while (next < TURNS) {
      next += 1;
      const begun = performance.now();
      await side.gateway.agentTurn({ session: `bench-${number}`, message: `turn ${next} of block ${block}` });
      times.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: SESSIONS }, (_, number) => session(number)));
  await sleep(TAIL_MS);
  const cpu = (threadMs(side.gateway.pid ?? 0) - before) / TURNS;
  return { cpu, turn: median(times), times };
}

/** The owner of a sample, by the frames of its stack. @typedef {"ours" | "gc" | "node" | "others" | "idle"} Whose */

/** The owner of each node of a profile. @param {any} profile @returns {Map<number, Whose>} */
function owners(profile) {
  /** @type {Map<number, Whose>} */
  const found = new Map();
  const byId = new Map(profile.nodes.map((/** @type {any} */ node) => [node.id, node]));
  const mark = (/** @type {any} */ node, /** @type {Whose} */ above) => {
    const { url, functionName } = node.callFrame;
    /** @type {Whose} */
    let whose = above;
    if (functionName === "(idle)") whose = "idle";
    else if (functionName === "(garbage collector)") whose = "gc";
    else if (OURS.test(url)) whose = "ours";
    else if (above === "node" && url !== "" && !url.startsWith("node:")) whose = "others";
    found.set(node.id, whose);
    for (const child of node.children ?? []) mark(byId.get(child), whose);
  };
  mark(profile.nodes[0], "node");
  return found;
}

/** The profile of some blocks: ms of the main thread a turn, by owner. @param {Side} side */
async function profiled(side) {
  const { probe: file } = side;
  writeFileSync(`${file}.begin`, "");
  await sleep(1_500);
  await run(side);
  await run(side);
  writeFileSync(`${file}.end`, "");
  const written = `${file}.${side.gateway.pid}`;
  for (const until = performance.now() + 60_000; !existsSync(written); await sleep(200))
    if (performance.now() > until) throw new Error("the gateway wrote no profile");
  const { cpuUs, profile } = JSON.parse(readFileSync(written, "utf8"));
  const whose = owners(profile);
  /** @type {Record<Whose, number>} */
  const times = { ours: 0, gc: 0, node: 0, others: 0, idle: 0 };
  let count = 0;
  profile.samples.forEach((/** @type {number} */ id, /** @type {number} */ index) => {
    const one = whose.get(id) ?? "idle";
    times[one] += profile.timeDeltas[index];
    count += Number(one !== "idle");
  });
  const { idle: _, ...busy } = times;
  const sum = Object.values(busy).reduce((all, one) => all + one, 0);
  // A sample's time may include time of other processes: shares are right, sums are not.
  const msATurn = (/** @type {number} */ time) => ((time / sum) * cpuUs) / 1_000 / (2 * TURNS);
  const told = Object.entries(busy).map(([name, time]) => `${name} ${msATurn(time).toFixed(2)}`);
  // On a busy machine the sampler is delayed too: a few samples mean nothing.
  console.log(`${side.name}, by stacks, ms a turn: ${told.join(", ")} (${count} samples)`);
  return { own: msATurn(busy.ours), share: (busy.ours / sum) * 100 };
}

/** The plugins of each kind of gateway. @typedef {Record<string, import("../../examples/gateway/config.mjs").GatewayPlugin[]>} Kinds */

/**
 * Starts a gateway of each kind, runs their blocks, and stops them.
 *
 * @param {string} version @param {string} folder @param {(url: string) => Kinds} kinds
 * @param {number} number From 0 on; the gateways of the last one are profiled.
 * @param {Map<string, Block[]>} blocks Gets those of each kind.
 * @returns the profile of the plugin's gateway, of the last generation
 */
async function generation(version, folder, kinds, number, blocks) {
  const sink = await startSink();
  const provider = await createProvider({ delayMs: 50 });
  const loaded = `--import=${new URL("lib/probe.mjs", import.meta.url).href}`;
  const config = { agents: { defaults: { maxConcurrent: SESSIONS } } };
  const options = { version, providerUrl: provider.baseUrl, config };
  const isLast = number === GENERATIONS - 1;
  /** @type {Side[]} */
  const sides = [];
  try {
    for (const [name, plugins] of Object.entries(kinds(sink.url))) {
      const probe = join(folder, `profile-${version}-${sides.length}.json`);
      const env = isLast ? { NODE_OPTIONS: loaded, BENCH_PROBE: probe } : {};
      const gateway = await startGateway({ ...options, plugins, env });
      sides.push({ name, probe, gateway });
      await gateway.warmUp();
    }
    // Warms up: code is compiled, and each session exists.
    for (const one of sides) await run(one);
    await sink.count();
    for (let round = 0; round < ROUNDS; round += 1) {
      // Over all starts each kind is first equally often.
      const first = (number * ROUNDS + round) % sides.length;
      for (const one of [...sides.slice(first), ...sides.slice(0, first)])
        blocks.set(one.name, [...(blocks.get(one.name) ?? []), await run(one)]);
    }
    const { calls } = await sink.count();
    const told = TURNS * ROUNDS;
    if (calls < told) console.log(`${version}: of ${told} calls ${calls} had arrived`);
    if (!isLast) return undefined;
    for (const side of sides) if (side.name !== OWN) await profiled(side);
    const ours = sides.find(({ name }) => name === OWN);
    return ours && (await profiled(ours));
  } finally {
    for (const { gateway } of sides) await gateway.stop();
    await provider.close();
    sink.close();
  }
}

/** @param {string} version @param {string} folder @param {(url: string) => Kinds} kinds @param {import("./lib/figures.mjs").Figures} figures */
async function measure(version, folder, kinds, figures) {
  /** @type {Map<string, Block[]>} */
  const all = new Map();
  /** @type {Awaited<ReturnType<typeof generation>>} */
  let profile;
  for (let number = 0; number < GENERATIONS; number += 1)
    profile = await generation(version, folder, kinds, number, all);
  const add = (/** @type {string} */ name, /** @type {number} */ value, unit = "ms") => {
    figures[`${version}, ${name}`] = [value, unit];
  };
  const spread = (/** @type {string} */ name, /** @type {number[]} */ values, unit = "ms") => {
    add(`${name}, median`, median(values), unit);
    add(`${name}, least`, Math.min(...values), unit);
    add(`${name}, most`, Math.max(...values), unit);
  };
  for (const [name, blocks] of all) {
    const times = blocks.flatMap((one) => one.times);
    add(`main thread a turn, ${name}`, median(blocks.map(({ cpu }) => cpu)));
    add(`turn, ${name}, p50`, median(times));
    add(`turn, ${name}, p95`, quantile(times, 0.95));
  }
  const [ours, bare] = [all.get(OWN), all.get(BARE)];
  if (!ours || !bare || !profile) throw new Error("there is nothing to compare");
  for (const [name, others] of all) {
    if (name === OWN) continue;
    const apart = ours.map(({ cpu }, index) => cpu - (others[index]?.cpu ?? Number.NaN));
    spread(`main thread a turn, ${name === BARE ? "difference of pairs" : `above one ${name}`}`, apart);
  }
  const ratios = ours.map(({ turn }, index) => turn / (bare[index]?.turn ?? Number.NaN));
  spread("turn, ratio of pairs", ratios, "×");
  if (profile.own === 0) throw new Error("no sample is the plugin's: this gateway loads it from elsewhere");
  add("main thread a turn that is the plugin's", profile.own);
  add("main thread, share that is the plugin's", profile.share, "%");
}

const folder = mkdtempSync(join(tmpdir(), "agentwatch-bench-"));
const asked = process.argv.slice(2);
try {
  const tgz = pack(folder);
  const idle = (/** @type {import("./lib/idle-plugin.mjs").Idle} */ kind) => [
    { id: "idle", tgz: packIdle(folder, kind), config: {} },
  ];
  const [nothing, hooks] = [idle("nothing"), idle("hooks")];
  const kinds = (/** @type {string} */ url) => ({
    [OWN]: [{ id: "agentwatch", tgz, config: { url } }],
    [BARE]: [],
    "with a plugin that does nothing": nothing,
    "with the same hooks without work": hooks,
  });
  /** @type {import("./lib/figures.mjs").Figures} */
  const figures = {};
  for (const version of asked.length > 0 ? asked : VERSIONS) await measure(version, folder, kinds, figures);
  report(figures);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
