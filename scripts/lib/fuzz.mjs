import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { run, SetupError, which, withProgress } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** The corpus and failed inputs; not part of the project. */
const WORK = join(PROJECT, "target", "fuzz");
const SEEDS = "seeds";
const SAME_PLACES = "--addr-no-randomize";

/** The names of the fuzz targets. @type {string[]} */
export const FUZZ_TARGETS = readdirSync(join(PROJECT, "fuzz", "targets"))
  .map((name) => name.replace(/\.rs$/, ""))
  .filter((name) => name !== SEEDS)
  .sort();

/**
 * libFuzzer's instrumentation by flags of the stable compiler. AddressSanitizer needs a nightly compiler and would find
 * nothing, since the core has no unsafe code.
 */
const FLAGS = [
  "-Cpasses=sancov-module",
  ...["level=4", "inline-8bit-counters", "pc-table", "trace-compares"].map(
    (what) => `-Cllvm-args=-sanitizer-coverage-${what}`,
  ),
  "--cfg",
  "fuzzing",
];

/** @typedef {{ folder: string, seeds: string }} Fuzzers The folders of the built targets and of their seeds. */

/**
 * Builds all targets and writes their seeds.
 *
 * @returns {Promise<Fuzzers>}
 */
export async function fuzzers() {
  if (!(await which("c++"))) throw new SetupError("c++ not found: libFuzzer is built by a C++ compiler");
  const host = /host: (\S+)/.exec(await run("rustc", ["-vV"]))?.[1];
  if (!host) throw new SetupError("rustc -vV names no host");
  const manifest = join(PROJECT, "fuzz", "Cargo.toml");
  // With `--target` the flags do not apply to build scripts.
  const where = ["--manifest-path", manifest, "--target", host, "--target-dir", WORK];
  const args = ["build", "--locked", "--release", ...where];
  await withProgress("build the fuzz targets", () =>
    run("cargo", args, { cwd: PROJECT, env: { RUSTFLAGS: FLAGS.join(" ") } }),
  );
  const [folder, seeds] = [join(WORK, host, "release"), join(WORK, "seeds")];
  await run(join(folder, SEEDS), ["-runs=1"], { env: { FUZZ_SEEDS: seeds } });
  return { folder, seeds };
}

/**
 * Fuzzes one target.
 *
 * @param {Fuzzers} built
 * @param {string} target
 * @param {{ seconds: number, runs: number, seed: number }} how
 * @returns {Promise<{ text: string, failure?: string }>} The numbers of executions and places; the failure and the command that repeats it.
 */
export async function fuzz({ folder, seeds }, target, { seconds, runs: most, seed: random }) {
  const [corpus, failures, seed] = [
    join(WORK, random ? "seeded" : "corpus", target),
    join(WORK, "failures", target),
    join(seeds, target),
  ];
  // By name: a folder's own order may be another one on each disk.
  const first = existsSync(seed) ? (await readdir(seed)).sort().map((name) => join(seed, name)) : [];
  if (random) await rm(corpus, { recursive: true, force: true });
  for (const path of [corpus, failures]) await mkdir(path, { recursive: true });
  const args = [
    corpus,
    ...(first.length > 0 ? [`-seed_inputs=${first.join(",")}`] : []),
    `-dict=${join(PROJECT, "fuzz", "words.dict")}`,
    `-max_total_time=${seconds}`,
    `-runs=${most}`,
    `-seed=${random}`,
    // Otherwise it reads the corpus again each second, which depends on the machine's pace.
    ...(random ? ["-reload=0"] : []),
    `-artifact_prefix=${failures}/`,
    // Bounds for a single input: more would block a gateway.
    "-timeout=10",
    "-rss_limit_mb=1024",
    "-print_final_stats=1",
  ];
  const program = join(folder, target);
  const [command = program, ...before] = [...(await samePlaces()), program];
  // The environment moves the stack, and thus the places of what stands there.
  const { code, output } = await ended(command, [...before, ...args], random ? {} : process.env);
  const [, runs = "0"] = /stat::number_of_executed_units: (\d+)/.exec(output) ?? [];
  const [, covered = "?"] = [...output.matchAll(/cov: (\d+)/g)].pop() ?? [];
  const text = `${runs} executions, ${covered} places reached`;
  if (code === 0) return { text };
  const why = /panicked at [^]*?(?=\nstack backtrace|\nnote:|\n==)/.exec(output)?.[0] ?? output.slice(-2000);
  const input = /Test unit written to (\S+)/.exec(output)?.[1] ?? "";
  const again = [program, input].map((path) => relative(PROJECT, path)).join(" ");
  return { text, failure: `${target} ${why}\n  again: ${again}` };
}

/**
 * The command that starts a program at the same addresses each time, since libFuzzer's choices depend on them; empty where
 * this machine does not allow it, and a seed then gives other inputs.
 *
 * @returns {Promise<string[]>}
 */
async function samePlaces() {
  const command = await which("setarch");
  if (!command) return [];
  const works = await run(command, [SAME_PLACES, "true"]).then(
    () => true,
    () => false,
  );
  return works ? [command, SAME_PLACES] : [];
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {Record<string, string | undefined>} env
 * @returns {Promise<{ code: number | null, output: string }>}
 */
function ended(command, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: PROJECT, env, stdio: ["ignore", "ignore", "pipe"] });
    const sweep = () => child.kill("SIGTERM");
    process.once("exit", sweep);
    let output = "";
    child.stderr.setEncoding("utf8").on("data", (/** @type {string} */ text) => {
      output = (output + text).slice(-100_000);
    });
    child.on("error", (error) => reject(new SetupError(`${command} did not start: ${error.message}`)));
    child.on("close", (code) => {
      process.off("exit", sweep);
      resolve({ code, output });
    });
  });
}
