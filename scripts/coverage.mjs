#!/usr/bin/env node
// Coverage of the core by its native tests, by folder, and the files without coverage: `npm run coverage`.
import { readdir, rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { llvmTools } from "./lib/llvm-tools.mjs";
import { run, SetupError, say } from "./lib/run.mjs";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
/** A separate folder: other compiler flags would discard the usual builds. */
const TARGET = join(PROJECT, "target", "coverage");
const RAW = join(TARGET, "raw");
const SOURCES = join(PROJECT, "crate", "src");
/** Files with a lower percentage of covered lines are listed. */
const NAMED_BELOW = 95;

/** @typedef {{ lines: number, run: number }} Count */

/** Runs the tests. @returns {Promise<string[]>} Paths of the test programs. */
async function test() {
  await rm(RAW, { recursive: true, force: true });
  const env = {
    RUSTFLAGS: "-Cinstrument-coverage",
    LLVM_PROFILE_FILE: join(RAW, "%p-%m.profraw"),
    CARGO_TARGET_DIR: TARGET,
  };
  const tests = ["test", "--locked", "-p", "agentwatch-openclaw", "--lib", "--tests"];
  await run("cargo", tests, { cwd: PROJECT, env });
  const built = await run("cargo", [...tests, "--no-run", "--message-format=json"], { cwd: PROJECT, env });
  return built
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .flatMap((line) => JSON.parse(line).executable ?? []);
}

/** @param {string[]} programs @returns {Promise<{ name: string, count: Count }[]>} By file, below `crate/src`. */
async function measure(programs) {
  const { bin, env } = await llvmTools();
  const merged = join(TARGET, "merged.profdata");
  const raw = (await readdir(RAW)).map((name) => join(RAW, name));
  await run(join(bin, "llvm-profdata"), ["merge", "-sparse", ...raw, "-o", merged], { env });
  const objects = programs.flatMap((program) => ["--object", program]);
  const text = await run(
    join(bin, "llvm-cov"),
    ["export", "--summary-only", "--instr-profile", merged, ...objects],
    { env },
  );
  /** @type {{ filename: string, summary: { lines: { count: number, covered: number } } }[]} */
  const files = JSON.parse(text).data[0].files;
  return files
    .filter(({ filename }) => filename.startsWith(`${SOURCES}/`))
    .map(({ filename, summary: { lines } }) => ({
      name: relative(SOURCES, filename),
      count: { lines: lines.count, run: lines.covered },
    }))
    .sort((a, b) => a.name.localeCompare(b.name));
}

/** Source files without a line in a native program. @param {string[]} known */
async function left(known) {
  const names = await readdir(SOURCES, { recursive: true });
  return names.filter((name) => name.endsWith(".rs") && !known.includes(name)).sort();
}

/** @param {string} name @param {Count} count */
function row(name, { lines, run }) {
  const share = lines === 0 ? 100 : (100 * run) / lines;
  return `${name.padEnd(28)} ${String(lines).padStart(6)} ${`${share.toFixed(1)} %`.padStart(8)}`;
}

try {
  const files = await measure(await test());
  /** @type {Map<string, Count>} */
  const folders = new Map();
  for (const { name, count } of files)
    for (const folder of [dirname(name) === "." ? "crate/src" : `crate/src/${dirname(name)}`, "all"]) {
      const { lines, run } = folders.get(folder) ?? { lines: 0, run: 0 };
      folders.set(folder, { lines: lines + count.lines, run: run + count.run });
    }
  const all = folders.get("all") ?? { lines: 0, run: 0 };
  folders.delete("all");
  console.log(`${"folder".padEnd(28)} ${"lines".padStart(6)} ${"run".padStart(8)}`);
  for (const [folder, count] of [...folders].sort()) console.log(row(folder, count));
  console.log(row("all", all));
  console.log(`\nfiles with less than ${NAMED_BELOW} %:`);
  for (const { name, count } of files)
    if (count.run < (count.lines * NAMED_BELOW) / 100) console.log(row(name, count));
  const names = await left(files.map(({ name }) => name));
  console.log(`\nin no native test (the face of the module, declarations alone):\n${names.join("\n")}`);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
