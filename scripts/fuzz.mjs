#!/usr/bin/env node
// Fuzzes the core: `npm run fuzz`, `npm run fuzz -- --seconds 3600 journal recovery`. Needs a C++ compiler, for libFuzzer.
import { FUZZ_TARGETS, fuzz, fuzzers } from "./lib/fuzz.mjs";
import { SetupError, say } from "./lib/run.mjs";

const USAGE = `usage: npm run fuzz -- [--seconds N] [--runs N] [--seed N] [target…]
  --seconds N  time limit for each target (default 60)
  --runs N     number of inputs for each target, within the time limit (default: no limit)
  --seed N     begins with an empty corpus and repeats the same inputs (default: continues the corpus of earlier runs)
  targets      ${FUZZ_TARGETS.join(", ")}; default all`;

/** @param {string[]} args @returns {{ seconds: number, runs: number, seed: number, targets: string[] } | undefined} */
function read(args) {
  const targets = [...args];
  /** @param {string} name @param {number} usual */
  const number = (name, usual) => {
    const at = targets.indexOf(name);
    return at === -1 ? usual : Number(targets.splice(at, 2)[1]);
  };
  const seconds = number("--seconds", 60);
  // libFuzzer's value for no limit.
  const runs = number("--runs", -1);
  // libFuzzer's value for a random seed.
  const seed = number("--seed", 0);
  const isGood =
    [seconds - 1, runs + 1, seed].every((value) => Number.isInteger(value) && value >= 0) &&
    targets.every((name) => FUZZ_TARGETS.includes(name));
  return isGood ? { seconds, runs, seed, targets: targets.length > 0 ? targets : FUZZ_TARGETS } : undefined;
}

const wanted = read(process.argv.slice(2));
if (!wanted) {
  console.error(USAGE);
  process.exit(2);
}
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
try {
  const built = await fuzzers();
  const failed = [];
  for (const target of wanted.targets) {
    const result = await fuzz(built, target, wanted);
    console.log(`${result.failure ? "FAILED" : "passed"}  ${target.padEnd(12)} ${result.text}`);
    if (result.failure) failed.push(result.failure);
  }
  for (const failure of failed) console.log(`\n${failure}`);
  process.exitCode = failed.length > 0 ? 1 : 0;
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
