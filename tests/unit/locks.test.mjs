// The set-up fetches exactly the locked packages: exact versions with their hashes. No
// package's script runs at its installation.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { cached } from "../../scripts/lib/cache.mjs";
import { cargoDeny } from "../../scripts/lib/cargo-deny.mjs";
import { cargoTool } from "../../scripts/lib/cargo-tool.mjs";
import { collector } from "../../scripts/lib/collector.mjs";
import { litellm } from "../../scripts/lib/litellm.mjs";
import { VERSIONS } from "../../scripts/lib/openclaw.mjs";
import { verdaccio } from "../../scripts/lib/verdaccio.mjs";
import { nodeRuntime, OPENCLAW_VERSIONS, openclaw, wasmTools } from "../../scripts/setup.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const LOCKS = join(PROJECT, "scripts", "locks");
const EXACT = /^\d+\.\d+\.\d+[\w.+-]*$/;

/** @param {string} file */
const read = (file) => readFileSync(join(PROJECT, file), "utf8");

/** Files below folders that match a pattern. @param {string[]} folders @param {RegExp} pattern */
function files(folders, pattern) {
  return folders.flatMap((folder) =>
    /** @type {string[]} */ (readdirSync(join(PROJECT, folder), { recursive: true }))
      .map((name) => join(folder, name))
      .filter((name) => pattern.test(name) && !/node_modules|\/target\//.test(name)),
  );
}

/** Source code without comments, which mention commands. @param {string} file */
function code(file) {
  return read(file)
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/^\s*\/\/.*$/gm, "");
}

/** Without this file, which has the commands as texts, and the script that writes the locks. */
const scripts = files(["scripts", "tests", "examples"], /\.m?js$/).filter(
  (file) => !/locks\.test\.mjs$|^scripts\/lock\.mjs$/.test(file),
);
const npmLocks = ["package-lock.json", ...files(["scripts/locks"], /package-lock\.json$/)];

for (const file of npmLocks) {
  test(`${file} has an exact version and an integrity for each package`, () => {
    const { lockfileVersion, packages } = JSON.parse(read(file));
    assert.equal(lockfileVersion, 3);
    assert.ok(Object.keys(packages).length > 1);
    for (const [path, entry] of Object.entries(packages)) {
      assert.doesNotMatch(entry.resolved ?? "", /:/, `${path} comes from wherever the registry is`);
      if (path === "" || entry.link) continue;
      assert.match(entry.version, EXACT, path);
      // A bundled package is inside another package; local packages are in the folder beside the lock.
      const isOurs = !path.includes("node_modules/");
      if (!entry.inBundle && !isOurs) assert.match(entry.integrity ?? "", /^sha512-[\w+/]{86}==$/, path);
    }
  });
}

for (const file of files(["scripts/locks"], /^scripts\/locks\/[^/]+\/package\.json$/)) {
  test(`${file} wants exact versions, and those that are locked`, () => {
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(read(file));
    const { packages } = JSON.parse(read(file.replace("package.json", "package-lock.json")));
    for (const [name, version] of Object.entries({ ...dependencies, ...optionalDependencies })) {
      if (version.startsWith("file:./")) continue;
      assert.match(version, EXACT, name);
      assert.equal(packages[`node_modules/${name}`].version, version, name);
    }
  });
}

for (const file of files(["scripts/locks"], /(requirements|source)\.txt$/)) {
  test(`${file} has an exact version and hashes for each package`, () => {
    const lines = read(file).trim().split("\n");
    for (const line of lines)
      assert.match(line, /^[\w.-]+(\[[\w,-]+\])?==[\w.]+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+$/);
    const names = lines.map((line) => line.split(/[[=]/)[0]);
    const wanted = read(file.replace(/txt$/, "in")).trim().split("\n");
    for (const line of wanted) assert.ok(names.includes(line.split(/[[=]/)[0]), line);
  });
}

test("one package is built from source, by a builder of its lock", () => {
  assert.deepEqual(files(["scripts/locks"], /source\.txt$/), ["scripts/locks/focus-validator/source.txt"]);
  assert.match(read("scripts/locks/focus-validator/requirements.txt"), /^poetry-core==/m);
  assert.match(read("scripts/lib/python.mjs"), /"--no-deps", "--no-build-isolation", "--no-binary=:all:"/);
});

for (const file of ["Cargo.lock", "fuzz/Cargo.lock", ...files(["scripts/locks"], /Cargo\.lock$/)]) {
  test(`${file} has a checksum for each crate`, () => {
    const crates = read(file).split("[[package]]").slice(1);
    for (const crate of crates) {
      const source = /^source = "(.*)"$/m.exec(crate)?.[1];
      if (source === undefined) continue;
      assert.match(source, /^registry\+/, crate);
      assert.match(crate, /^checksum = "[0-9a-f]{64}"$/m, crate);
    }
  });
}

test("wasm-bindgen's programs have the version of the crate", () => {
  const version = (/** @type {string} */ file, /** @type {string} */ name) =>
    new RegExp(`name = "${name}"\\nversion = "([^"]+)"`).exec(read(file))?.[1];
  assert.equal(
    version("scripts/locks/wasm-bindgen-cli/Cargo.lock", "wasm-bindgen-cli"),
    version("Cargo.lock", "wasm-bindgen"),
  );
});

test("every cargo command that builds or resolves has --locked", () => {
  const resolving = /\[\s*"(bench|build|check|clippy|doc|fetch|install|metadata|run|test|vendor)"[^\]]*\]/g;
  let found = 0;
  for (const file of scripts.filter((file) => /"cargo"|wasmPack/.test(code(file)))) {
    for (const [args] of code(file).matchAll(resolving)) {
      assert.match(args, /"--locked"/, `${file}: ${args}`);
      found += 1;
    }
  }
  assert.ok(found >= 10, `${found} commands`);
});

test("no other script calls npm or pip", () => {
  for (const file of scripts) {
    const text = code(file);
    assert.doesNotMatch(text, /"npm",\s*\[\s*"(install|i|add|update|exec|x|init|rebuild)"/, file);
    assert.doesNotMatch(text, /"(npx|pnpm|yarn|bunx?|uvx|pipx|curl|wget)",/, file);
    const calls = [...text.matchAll(/\[\s*"ci"/g)].length;
    assert.equal(calls, /(locks|npm-dependencies)\.mjs$/.test(file) ? 1 : 0, `${file} calls npm ci`);
  }
  assert.match(read(".npmrc"), /^ignore-scripts=true$/m);
});

/** A program in place of each installer that records its arguments, and fails. */
const RECORDER = `#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/pip"; exit; fi
exit 1
`;

/** @param {(setup: any) => Promise<unknown>} fetch @returns {Promise<string[]>} The recorded calls, with an empty cache. */
async function calls(fetch) {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-locks-"));
  const before = { ...process.env };
  try {
    for (const name of ["cargo", "npm", "python3"])
      writeFileSync(join(folder, name), RECORDER, { mode: 0o755 });
    const log = join(folder, "calls");
    Object.assign(process.env, {
      PATH: `${folder}:${process.env.PATH}`,
      CALLS: log,
      AGENTWATCH_OPENCLAW_CACHE: join(folder, "cache"),
    });
    await assert.rejects(fetch);
    return readFileSync(log, "utf8").trim().split("\n");
  } finally {
    Object.assign(process.env, before);
    if (before.AGENTWATCH_OPENCLAW_CACHE === undefined) delete process.env.AGENTWATCH_OPENCLAW_CACHE;
    rmSync(folder, { recursive: true });
  }
}

test("npm installs from a lock, and runs no script of a package", async () => {
  for (const fetch of [() => nodeRuntime(24), verdaccio]) {
    const [call = "", ...rest] = await calls(fetch);
    assert.deepEqual(rest, []);
    assert.match(call, /^npm ci --ignore-scripts /);
  }
});

test("pip installs from a lock, and runs no script of a package", async () => {
  for (const fetch of [collector, litellm]) {
    const [venv = "", call = "", ...rest] = await calls(fetch);
    assert.deepEqual(rest, []);
    assert.match(venv, /^python3 -m venv /);
    assert.match(call, /^pip install .*--require-hashes --only-binary=:all: -r \S+requirements\.txt$/);
  }
});

test("cargo installs with a lock", async () => {
  for (const fetch of [wasmTools, () => cargoTool("wasm-pack", "0.15.1"), cargoDeny]) {
    const [call = "", ...rest] = await calls(fetch);
    assert.deepEqual(rest, []);
    assert.match(call, /^cargo install --locked .*(--path \S+|--version \d+\.\d+\.\d+)( |$)/);
  }
});

test("a version of OpenClaw without a lock is refused", async () => {
  await assert.rejects(openclaw("2026.1.1"), /OpenClaw 2026\.1\.1 has no lock/);
});

test("a folder of the cache is filled again when its lock has changed", async () => {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-cache-"));
  const before = process.env.AGENTWATCH_OPENCLAW_CACHE;
  process.env.AGENTWATCH_OPENCLAW_CACHE = folder;
  try {
    let filled = 0;
    const fill = async () => {
      filled += 1;
    };
    for (const recipe of ["a", "a", "b", "b"]) await cached("thing", "fill", fill, recipe);
    assert.equal(filled, 2);
    await assert.rejects(
      cached("thing", "fill", () => Promise.reject(new Error("no network")), "c"),
      /no network/,
    );
    await cached("thing", "fill", fill, "b");
    assert.equal(filled, 3, "what was interrupted is made again");
  } finally {
    if (before === undefined) delete process.env.AGENTWATCH_OPENCLAW_CACHE;
    else process.env.AGENTWATCH_OPENCLAW_CACHE = before;
    rmSync(folder, { recursive: true });
  }
});

test("each version of OpenClaw and of Node has its lock", () => {
  const locks = readdirSync(LOCKS);
  for (const version of [...VERSIONS, ...OPENCLAW_VERSIONS]) {
    const { packages } = JSON.parse(
      readFileSync(join(LOCKS, `openclaw-${version}`, "package-lock.json"), "utf8"),
    );
    assert.equal(packages["node_modules/openclaw"].version, version);
  }
  for (const major of [22, 24]) assert.ok(locks.includes(`node-${major}`));
});
