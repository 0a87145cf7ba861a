import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { run, SetupError, which, withProgress } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** Inputs that were found to be worth keeping, and those that failed; not part of the project. */
const WORK = join(PROJECT, "target", "fuzz");
const SEEDS = "seeds";

/** What can be fuzzed. @type {string[]} */
export const FUZZ_TARGETS = readdirSync(join(PROJECT, "fuzz", "targets"))
  .map((name) => name.replace(/\.rs$/, ""))
  .filter((name) => name !== SEEDS)
  .sort();

/**
 * libFuzzer's instrumentation by the stable compiler's own flags: no nightly is needed. AddressSanitizer would take one,
 * and would find nothing, as no line of the core is unsafe.
 */
const FLAGS = [
  "-Cpasses=sancov-module",
  ...["level=4", "inline-8bit-counters", "pc-table", "trace-compares"].map(
    (what) => `-Cllvm-args=-sanitizer-coverage-${what}`,
  ),
  "--cfg",
  "fuzzing",
];

/** @typedef {{ folder: string, seeds: string }} Fuzzers The folder of the built targets, and what they begin with. */

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
  // With a target named, the flags are for what is fuzzed and not for what builds it.
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
 * Fuzzes one target for a while.
 *
 * @param {Fuzzers} built
 * @param {string} target
 * @param {{ seconds: number, runs: number, seed: number }} how
 * @returns {Promise<{ text: string, failure?: string }>} How much was tried; what failed and how to see it again.
 */
export async function fuzz({ folder, seeds }, target, { seconds, runs: most, seed: random }) {
  const [corpus, failures, seed] = [
    join(WORK, random ? "seeded" : "corpus", target),
    join(WORK, "failures", target),
    join(seeds, target),
  ];
  if (random) await rm(corpus, { recursive: true, force: true });
  for (const path of [corpus, failures]) await mkdir(path, { recursive: true });
  const args = [
    corpus,
    ...(existsSync(seed) ? [seed] : []),
    `-dict=${join(PROJECT, "fuzz", "words.dict")}`,
    `-max_total_time=${seconds}`,
    `-runs=${most}`,
    `-seed=${random}`,
    `-artifact_prefix=${failures}/`,
    // A single input that takes as long or as much hangs a gateway.
    "-timeout=10",
    "-rss_limit_mb=1024",
    "-print_final_stats=1",
  ];
  const program = join(folder, target);
  const [command = program, ...before] = [...(await samePlaces()), program];
  const { code, output } = await ended(command, [...before, ...args]);
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
 * What starts a program at the same addresses each time, since libFuzzer's choices hang on them too; nothing where this
 * machine does not allow it, and a seed then tries others of the same kind.
 *
 * @returns {Promise<string[]>}
 */
async function samePlaces() {
  const command = ["setarch", "--addr-no-randomize"];
  const works = await run("setarch", ["--addr-no-randomize", "true"]).then(
    () => true,
    () => false,
  );
  return works ? command : [];
}

/**
 * @param {string} command
 * @param {string[]} args
 * @returns {Promise<{ code: number | null, output: string }>}
 */
function ended(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: PROJECT, stdio: ["ignore", "ignore", "pipe"] });
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
