#!/usr/bin/env node
// Measures plugin, receiver and proxy on each Node, several times each, and compares with the committed figures:
// `npm run bench`, or by name: `npm run bench -- hook cost`.
//
//   --list            the benchmarks
//   --runs <n>        number of runs of each (default: its own number)
//   --node <22|24>    on one Node only
//   --against <dist>  measures another build alternately with this one
//   --write           writes the figures to docs/benchmarks.md and tests/bench/results.json
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { budgets } from "../tests/bench/budgets.mjs";
import { inWords, quantile } from "../tests/bench/lib/figures.mjs";
import { nodeRuntime } from "./lib/node-runtime.mjs";
import { run, SetupError, say } from "./lib/run.mjs";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const FOLDER = join(PROJECT, "tests", "bench");
const RESULTS = join(FOLDER, "results.json");
const PAGE = join(PROJECT, "docs", "benchmarks.md");
/** The line of the page behind which its text is written by hand. */
const BY_HAND = "<!-- Written by hand from here on. -->";

/**
 * @typedef {object} Bench
 * @property {string} name Its file is `tests/bench/<name>.mjs`.
 * @property {string} about
 * @property {readonly (22 | 24)[]} nodes
 * @property {number} runs
 * @property {string[]} [args]
 * @property {string} [note] Explanation of its figures.
 *
 * @typedef {{ value: number, least: number, most: number, unit: string }} Figure The median of several runs, with the least and the most.
 * @typedef {Record<string, Figure>} Figures
 * @typedef {{ bench: string, node: string, machine: string, date: string, runs: number, load: number, pace?: number, figures: Figures }} Result
 *   `pace`: µs for a fixed piece of work, as measured by `tests/bench/lib/pace.mjs`.
 * @typedef {{ results: Result[] }} Results
 */

/** @type {Bench[]} */
const BENCHES = [
  {
    name: "hook",
    about: "time and memory inside the handlers",
    nodes: [22, 24],
    runs: 3,
    note: `A text "not yet looked at" is a string that a program has just concatenated. V8 copies it into one piece at the first read
of a character, by any code and in any way (slice, charCodeAt, a pattern, an encoder: each 0.2 to 0.8 ms a MB). A gateway,
which stores and sends its messages, causes this copy anyway. The handler needs the first characters to recognize noise.`,
  },
  {
    name: "cost",
    about: "CPU of an event on all threads, compared with others",
    nodes: [22, 24],
    runs: 3,
    note: `\`plugin\` is this project, \`old\` the hook that it replaces, \`otel\` OpenTelemetry's SDK with a span for each message and
each call and nothing on disk. \`gateway\` are the events of 2026.9.6 (some eight for each call), \`messages\` are received and
sent messages in turn, the only events that the old hook handles. 0.1.0 is the first version of this project, which did all
its work on the main thread.`,
  },
  { name: "gate", about: "the check before a call, through the worker thread", nodes: [22, 24], runs: 3 },
  { name: "start", about: "loading the plugin and starting its worker; sizes", nodes: [22, 24], runs: 3 },
  { name: "journalled", about: "the time from an event to its record on disk", nodes: [22, 24], runs: 1 },
  { name: "stall", about: "the event loop while the disk stalls", nodes: [24], runs: 1 },
  { name: "memory", about: "memory, idle and after a million events", nodes: [22, 24], runs: 1 },
  { name: "core", about: "the core alone, native and wasm, with reference speeds", nodes: [22, 24], runs: 3 },
  {
    name: "gateway",
    about: "a real gateway under load, with the plugin, with idle plugins, and without",
    nodes: [24],
    runs: 1,
    note: `One of two equal gateways may be 10 to 20 % slower for as long as both run. So compare the difference between the plugin
and a plugin that does nothing with the difference between that one and no plugin. The plugin's own time comes from the profile.`,
  },
  { name: "proxy", about: "the time that the proxy adds to a stream", nodes: [24], runs: 1 },
  { name: "backfill", about: "the speed of counting a store's history", nodes: [24], runs: 1, args: ["256"] },
  { name: "receiver", about: "the receiver: records in, statistics out", nodes: [24], runs: 1 },
  {
    name: "receiver-names",
    about: "the receiver: a million names, and large requests",
    nodes: [24],
    runs: 1,
  },
];

/** Runs one benchmark once. @param {Bench} bench @param {string} node @param {string} dist @returns {Promise<Record<string, [number, string]>>} */
async function once({ name, args = [] }, node, dist) {
  const folder = await mkdtemp(join(tmpdir(), "agentwatch-bench-"));
  const out = join(folder, "figures");
  try {
    await new Promise((done, fail) => {
      const env = { ...process.env, BENCH_OUT: out, BENCH_DIST: dist };
      const child = spawn(node, [join(FOLDER, `${name}.mjs`), ...args], {
        cwd: PROJECT,
        env,
        stdio: ["ignore", "inherit", "inherit"],
      });
      child.on("error", fail);
      child.on("close", (code) =>
        code === 0 ? done(undefined) : fail(new SetupError(`${name} ended with ${code}`)),
      );
    });
    const lines = (await readFile(out, "utf8")).trim().split("\n");
    return Object.assign({}, ...lines.map((line) => JSON.parse(line)));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {Record<string, [number, string]>[]} found @returns {Figures} */
function together(found) {
  const names = [...new Set(found.flatMap(Object.keys))];
  return Object.fromEntries(
    names.map((name) => {
      const all = found.flatMap((figures) => (figures[name] ? [figures[name]] : []));
      const values = all.map(([value]) => value);
      const unit = all[0]?.[1] ?? "";
      const figure = { value: quantile(values, 0.5), least: Math.min(...values), most: Math.max(...values) };
      return [name, { ...figure, unit }];
    }),
  );
}

/** @param {Figure} figure */
function shown({ value, least, most, unit }) {
  const range = least === most ? "" : ` (${inWords(least)} to ${inWords(most)})`;
  return `${inWords(value)}${unit && ` ${unit}`}${range}`;
}

/** Compares with an earlier figure: the ratio, and whether the ranges overlap. @param {Figure} now @param {Figure | undefined} before */
function beside(now, before) {
  if (!before) return "new";
  const ratio = before.value === 0 ? Number.NaN : now.value / before.value;
  const isClear = now.least > before.most || now.most < before.least;
  return `${ratio.toFixed(2)} × ${inWords(before.value)}${isClear ? "" : ", within noise"}`;
}

/** @param {string} bench @param {string} name @param {Figure} figure */
function judged(bench, name, { value }) {
  const budget = budgets.find(({ bench: of, figure }) => of === bench && figure === name);
  if (!budget) return "";
  const { most, least } = budget;
  const isMet = most !== undefined ? value <= most : value >= (least ?? 0);
  return `${most !== undefined ? `≤ ${most}` : `≥ ${least}`} ${isMet ? "met" : "MISSED"}`;
}

/** @param {Result} result @param {Results} last @param {Figures} [other] */
function print({ bench, node, runs, load, pace, figures }, last, other) {
  const earlier = last.results.find((one) => one.bench === bench && major(one.node) === major(node));
  const against = other
    ? "the other build"
    : earlier
      ? `committed on ${earlier.date.slice(0, 10)}`
      : "committed";
  console.log(`\n${bench}, Node ${node}, ${runs} runs, load ${load.toFixed(1)}; beside: ${against}`);
  if (pace && earlier?.pace && !other)
    console.log(
      `  the machine takes ${(pace / earlier.pace).toFixed(2)} × as long as then for one piece of work`,
    );
  for (const [name, figure] of Object.entries(figures)) {
    const than = beside(figure, (other ?? earlier?.figures)?.[name]);
    console.log([`  ${name}`, shown(figure), judged(bench, name, figure), than].filter(Boolean).join(" | "));
  }
}

const major = (/** @type {string} */ version) => version.split(".")[0];

/** @returns {Promise<Results>} */
async function committed() {
  const nothing = { results: [] };
  return existsSync(RESULTS) ? JSON.parse(await readFile(RESULTS, "utf8")) : nothing;
}

/** @param {Results} results */
function page({ results }) {
  const head = `# Benchmarks

What the plugin, the proxy and the receiver cost, with a budget for each important figure. \`npm run bench\` measures and compares
with this page; \`npm run bench -- --write\` writes it.

A figure is the median of its runs, with the least and the most if there are several. CPU figures are above a control process
that makes the same events without a listener; they vary less than times. "Load" is the number of processes that wanted a core
at the beginning (average of a minute). "Pace" is the time of one small fixed piece of work: it shows how fast the shared machine
was on that day. A figure above its budget is marked "missed".
`;
  const tables = BENCHES.flatMap(({ name, about, note }) => {
    const own = results.filter(({ bench }) => bench === name);
    if (own.length === 0) return [];
    const names = [...new Set(own.flatMap(({ figures }) => Object.keys(figures)))];
    const columns = own.map(({ node }) => `Node ${node}`);
    const rows = names.map((figure) => {
      const cells = own.map(({ figures }) => (figures[figure] ? shown(figures[figure]) : ""));
      const budget = own.map(({ figures }) => figures[figure] && judged(name, figure, figures[figure]));
      return `| ${figure} | ${cells.join(" | ")} | ${[...new Set(budget)].filter(Boolean).join("; ")} |`;
    });
    const told = note ? `${note}\n\n` : "";
    const when = own.map(({ date, runs, load, pace, node, machine }) => {
      const paced = pace ? `, pace ${inWords(pace)} µs` : "";
      return `Node ${node}: ${date.slice(0, 10)}, ${machine}; runs: ${runs}, load ${load.toFixed(1)}${paced}`;
    });
    return [
      `## ${name}: ${about}\n\n${told}${when.join(".\n")}.\n\n| figure | ${columns.join(" | ")} | budget |\n|${" --- |".repeat(columns.length + 2)}\n${rows.join("\n")}\n`,
    ];
  });
  return [head, ...tables].join("\n");
}

/** @param {Bench} bench @param {22 | 24} nodeMajor @param {{ runs: number, dists: string[] }} how @returns {Promise<{ result: Result, other: Figures | undefined }>} */
async function measure(bench, nodeMajor, { runs, dists }) {
  const node = await nodeRuntime(nodeMajor);
  const version = (await run(node, ["--version"])).trim().slice(1);
  const load = loadavg()[0] ?? 0;
  const found = dists.map(() => /** @type {Record<string, [number, string]>[]} */ ([]));
  const paced = async () => Number(await run(node, [join(FOLDER, "lib", "pace.mjs")]));
  const paces = [await paced()];
  for (let index = 0; index < runs; index += 1) {
    for (const [which, dist] of dists.entries()) {
      say(
        `${bench.name}, Node ${version}, run ${index + 1} of ${runs}${dists.length > 1 ? `, ${dist}` : ""}`,
      );
      found[which]?.push(await once(bench, node, dist));
    }
    paces.push(await paced());
  }
  const [figures = {}, other] = found.map(together);
  const date = new Date().toISOString();
  return {
    result: {
      bench: bench.name,
      node: version,
      machine: thisMachine(),
      date,
      runs,
      load,
      pace: quantile(paces, 0.5),
      figures,
    },
    other,
  };
}

function thisMachine() {
  const memory = `${Math.round(totalmem() / 2 ** 30)} GB`;
  return `${cpus().length} × ${cpus()[0]?.model.trim()}, ${memory}, ${process.platform} ${release()}`;
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      list: { type: "boolean" },
      write: { type: "boolean" },
      runs: { type: "string" },
      node: { type: "string" },
      against: { type: "string" },
    },
  });
  if (values.list) return BENCHES.forEach(({ name, about }) => console.log(`${name.padEnd(14)} ${about}`));
  const unknown = positionals.filter((name) => !BENCHES.some((bench) => bench.name === name));
  if (unknown.length > 0) throw new SetupError(`there is no benchmark ${unknown.join(", ")}; see --list`);
  const dist = join(PROJECT, "dist");
  if (!existsSync(dist)) throw new SetupError("there is no dist/: npm run build");
  const dists = [dist, ...(values.against ? [resolve(values.against)] : [])];
  const last = await committed();
  const results = [...last.results];
  const failed = [];
  for (const bench of BENCHES) {
    if (positionals.length > 0 && !positionals.includes(bench.name)) continue;
    if (!existsSync(join(FOLDER, `${bench.name}.mjs`))) {
      say(`${bench.name}: there is no tests/bench/${bench.name}.mjs`);
      continue;
    }
    for (const nodeMajor of bench.nodes.filter((one) => !values.node || one === Number(values.node))) {
      try {
        const runs = Number(values.runs ?? bench.runs);
        const { result, other } = await measure(bench, nodeMajor, { runs, dists });
        print(result, last, other);
        const known = results.findIndex(
          (one) => one.bench === bench.name && major(one.node) === major(result.node),
        );
        if (known >= 0) results[known] = result;
        else results.push(result);
        // After each benchmark: a run of all takes long, and may be aborted.
        if (values.write) await write({ results });
      } catch (error) {
        say(`${bench.name} on Node ${nodeMajor}: ${/** @type {Error} */ (error).message}`);
        failed.push(bench.name);
      }
    }
  }
  if (failed.length > 0) process.exitCode = 1;
}

/** @param {Results} results */
async function write(results) {
  await writeFile(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
  const before = await readFile(PAGE, "utf8");
  const at = before.indexOf(BY_HAND);
  await writeFile(PAGE, page(results) + (at < 0 ? "" : `\n${before.slice(at)}`));
}

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

main().catch((error) => {
  say(error instanceof SetupError ? error.message : error.stack);
  process.exitCode = 1;
});
