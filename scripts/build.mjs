#!/usr/bin/env node
// Builds the npm package's `dist/`: the WebAssembly module, its glue and the TypeScript shim.
import { createHash } from "node:crypto";
import { appendFile, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { cacheRoot } from "./lib/cache.mjs";
import { wrapGlue } from "./lib/glue.mjs";
import { thirdPartyLicences } from "./lib/licences.mjs";
import { pickersOf } from "./lib/pickers.mjs";
import { remapped } from "./lib/remap.mjs";
import { run, SetupError, say, withProgress } from "./lib/run.mjs";
import { joinScripts } from "./lib/scripts.mjs";
import { withoutSections } from "./lib/sections.mjs";
import { npmDependencies, wasmToolchain, wasmTools } from "./setup.mjs";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const DIST = join(PROJECT, "dist");
const WASM_OUT = join(PROJECT, "target", "wasm-package");
/** What is built replaces `dist/` only when it is whole. */
const NEW = join(PROJECT, "target", "dist");
/** The scripts before they are joined. */
const APART = join(PROJECT, "target", "scripts");
/** What the build itself makes of them. */
const GLUE = join(APART, "glue", "glue.js");
const PICKERS = join(APART, "base", "pickers.js");

/** The module, as `js-shim/src/base/wasm.ts` names it. */
const MODULE = "agentwatch.wasm";

/** What the package may weigh at most, in bytes. */
export const MOST = 2.5 * 1024 * 1024;

async function compileModule() {
  const { cargoEnv } = await wasmToolchain();
  // Places of panics are logged, and are not to name this machine's folders.
  const flags = remapped({ [cacheRoot()]: "cache", [PROJECT]: "" });
  const env = { ...cargoEnv, RUSTFLAGS: flags.join(" ") };
  // A target folder of its own: other builds with other flags would throw this one's work away.
  const cargo = ["--target-dir", join(PROJECT, "target", "wasm")];
  const target = ["--release", "--target", "wasm32-unknown-unknown"];
  // The last crate takes one core, so the tools are built meanwhile; wasm-pack then finds it compiled.
  const [{ path, wasmPack }] = await Promise.all([
    wasmTools(),
    withProgress("compile the core to WebAssembly", () =>
      run("cargo", ["build", "--locked", "--lib", ...target, ...cargo], { cwd: join(PROJECT, "crate"), env }),
    ),
  ]);
  const kind = ["--target", "web", "--no-pack", "--mode", "no-install"];
  const output = ["--out-dir", WASM_OUT, "--out-name", "agentwatch"];
  await run(wasmPack, ["build", "crate", ...kind, ...output, "--", "--locked", ...cargo], {
    cwd: PROJECT,
    env: { ...env, PATH: [path, process.env.PATH].join(delimiter) },
  });
  const module = await readFile(join(WASM_OUT, "agentwatch_bg.wasm"));
  await writeFile(join(NEW, MODULE), withoutSections(module, ["name", "producers"]));
  await wrapGlue(join(WASM_OUT, "agentwatch.js"), GLUE);
}

/** The built-in table of list prices, a fifth of its size: it is read once a process, and only for what it prices. */
async function packPrices() {
  const table = await readFile(join(PROJECT, "crate", "src", "pricing", "table.txt"));
  await writeFile(join(NEW, "prices.br"), brotliCompressSync(table));
}

/** The code that copies events' fields: its table stands in the module. */
async function makePickers() {
  const { makeGlue } = await import(pathToFileURL(GLUE).href);
  const glue = makeGlue();
  glue.initSync({ module: new WebAssembly.Module(await readFile(join(NEW, MODULE))) });
  await writeFile(PICKERS, pickersOf(glue.sources()));
}

/** Names the build by all that is in it, so that parts of two builds know each other as such. @param {string[]} scripts */
async function nameBuild(scripts) {
  const hash = createHash("sha256");
  for (const name of scripts) hash.update(await readFile(join(APART, name)));
  hash.update(await readFile(join(NEW, MODULE)));
  await appendFile(PICKERS, `export const BUILD = "${hash.digest("hex").slice(0, 16)}";\n`);
}

async function compileShim() {
  const tsc = join(PROJECT, "node_modules", "typescript", "bin", "tsc");
  await run(process.execPath, [tsc, "-p", "tsconfig.json", "--outDir", APART], { cwd: PROJECT });
  const files = (await readdir(APART, { recursive: true })).filter((name) => name.endsWith(".js")).sort();
  await nameBuild(files);
  await joinScripts(
    files.map((name) => name.slice(0, -".js".length)),
    APART,
    NEW,
  );
}

/** Prints what was built, and refuses what has grown too large. */
async function report() {
  const shown = ["openclaw.plugin.json", "package.json", "README.md", "LICENSE"];
  const dist = (await readdir(DIST)).sort().map((file) => join("dist", file));
  let total = 0;
  for (const file of [...dist, ...shown]) {
    const bytes = await readFile(join(PROJECT, file));
    total += bytes.length;
    const sizes = [bytes.length, gzipSync(bytes, { level: 9 }).length, brotliCompressSync(bytes).length];
    say(`${file.padEnd(28)} ${sizes.map((size) => `${(size / 1024).toFixed(1)} KB`.padStart(10)).join("")}`);
  }
  say(`${"unpacked (raw, gzip, brotli above)".padEnd(28)} ${(total / 1024).toFixed(1)} KB`);
  if (total > MOST) throw new SetupError(`the package has ${total} bytes, more than ${MOST}`);
}

/** Builds everything that `npm pack` then packs. */
export async function build() {
  await npmDependencies();
  for (const folder of [NEW, APART]) await rm(folder, { recursive: true, force: true });
  for (const folder of [NEW, dirname(GLUE), dirname(PICKERS)]) await mkdir(folder, { recursive: true });
  await compileModule();
  await makePickers();
  await packPrices();
  await writeFile(join(NEW, "THIRD-PARTY.txt"), await thirdPartyLicences());
  await compileShim();
  await rm(DIST, { recursive: true, force: true });
  await rename(NEW, DIST);
  await report();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  build().catch((error) => {
    say(error instanceof SetupError ? error.message : error.stack);
    process.exitCode = 1;
  });
}
