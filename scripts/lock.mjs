#!/usr/bin/env node
// Writes lock files of the set-up's tools again: node scripts/lock.mjs openclaw-2026.9.6 litellm
//
// Each folder of scripts/locks has the required versions in package.json, Cargo.toml or requirements.in. For a new version
// of OpenClaw copy a folder and change the version in it.
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LOCKS } from "./lib/locks.mjs";
import { exists, run, SetupError, say, which } from "./lib/run.mjs";

/** Fields of a package that npm writes and no installation reads. */
const UNREAD = ["deprecated", "engines", "funding", "license"];

/** @param {string} folder */
async function lockNpm(folder) {
  const lock = join(folder, "package-lock.json");
  await rm(lock, { force: true });
  // Without the registry's address, so that mirrors can be used: the integrity identifies the package.
  const flags = [
    "--package-lock-only",
    "--ignore-scripts",
    "--omit-lockfile-registry-resolved",
    "--no-audit",
  ];
  await run("npm", ["install", ...flags], { cwd: folder });
  const { packages, ...rest } = JSON.parse(await readFile(lock, "utf8"));
  // One line for each package: npm writes twelve for each of OpenClaw's hundreds.
  const lines = Object.entries(packages).map(([path, entry]) => {
    for (const name of UNREAD) delete entry[name];
    return `    ${JSON.stringify(path)}: ${JSON.stringify(entry)}`;
  });
  const head = Object.entries(rest).map(
    ([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)},`,
  );
  await writeFile(lock, `{\n${head.join("\n")}\n  "packages": {\n${lines.join(",\n")}\n  }\n}\n`);
}

/** @param {string} folder */
async function lockCargo(folder) {
  await rm(join(folder, "Cargo.lock"), { force: true });
  await run("cargo", ["generate-lockfile"], { cwd: folder });
}

/** For all platforms and versions of Python, which pip cannot do. @param {string} folder */
async function lockPython(folder) {
  if (!(await which("uv"))) throw new SetupError("uv not found: install it (pip install uv)");
  const needed = join(folder, ".python-version");
  const python = (await exists(needed)) ? (await readFile(needed, "utf8")).trim() : "3.11";
  await compile(folder, "requirements", ["--universal", "--only-binary=:all:", `--python-version=${python}`]);
  // A package without a wheel. Those that it imports are in the first file.
  if (await exists(join(folder, "source.in"))) await compile(folder, "source", ["--no-deps"]);
}

/** @param {string} folder @param {string} name @param {string[]} flags */
async function compile(folder, name, flags) {
  const all = ["pip", "compile", ...flags, "--generate-hashes", "--no-header", "--no-annotate", `${name}.in`];
  const printed = await run("uv", all, { cwd: folder });
  // One line for each package.
  await writeFile(join(folder, `${name}.txt`), printed.replace(/ \\\n\s+/g, " "));
}

const MANIFESTS = { "package.json": lockNpm, "Cargo.toml": lockCargo, "requirements.in": lockPython };

/** @param {string} name */
async function lock(name) {
  for (const [manifest, work] of Object.entries(MANIFESTS)) {
    if (!(await exists(join(LOCKS, name, manifest)))) continue;
    say(`lock ${name}`);
    return work(join(LOCKS, name));
  }
  throw new SetupError(`scripts/locks/${name} has none of ${Object.keys(MANIFESTS).join(", ")}`);
}

try {
  for (const name of process.argv.slice(2)) await lock(name);
} catch (error) {
  say(error instanceof SetupError ? error.message : String(error));
  process.exitCode = 1;
}
