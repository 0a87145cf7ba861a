#!/usr/bin/env node
// Fuzzes the core: `npm run fuzz`, `npm run fuzz -- --seconds 3600 journal recovery`. Needs a C++ compiler, for libFuzzer.
import { FUZZ_TARGETS, fuzz, fuzzers } from "./lib/fuzz.mjs";
import { SetupError, say } from "./lib/run.mjs";

const USAGE = `usage: npm run fuzz -- [--seconds N] [target…]
  --seconds N  for each target (default 60)
  targets      ${FUZZ_TARGETS.join(", ")}; default all`;

/** @param {string[]} args @returns {{ seconds: number, targets: string[] } | undefined} */
function read(args) {
  const targets = [...args];
  let seconds = 60;
  const at = targets.indexOf("--seconds");
  if (at !== -1) seconds = Number(targets.splice(at, 2)[1]);
  const isGood =
    Number.isInteger(seconds) && seconds > 0 && targets.every((name) => FUZZ_TARGETS.includes(name));
  return isGood ? { seconds, targets: targets.length > 0 ? targets : FUZZ_TARGETS } : undefined;
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
    const result = await fuzz(built, target, wanted.seconds);
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
