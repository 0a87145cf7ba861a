#!/usr/bin/env node
// Builds the npm package's `dist/`: the WebAssembly modules, their glue and the TypeScript shim.
import { createHash } from "node:crypto";
import { appendFile, cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, delimiter, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { cacheRoot } from "./lib/cache.mjs";
import { thirdPartyLicences } from "./lib/licences.mjs";
import { pickersOf } from "./lib/pickers.mjs";
import { remapped } from "./lib/remap.mjs";
import { run, SetupError, say, withProgress } from "./lib/run.mjs";
import { joinScripts } from "./lib/scripts.mjs";
import { npmDependencies, wasmToolchain, wasmTools } from "./setup.mjs";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const DIST = join(PROJECT, "dist");
const WASM_OUT = join(PROJECT, "target", "wasm-package");
/** What is built replaces `dist/` only when it is whole. */
const NEW = join(PROJECT, "target", "dist");
/** The scripts before they are joined. */
const APART = join(PROJECT, "target", "scripts");

/** What the package may weigh at most, in bytes. */
export const MOST = 2 * 1024 * 1024;

/** How large a module's stack is, in bytes. */
export const STACK = 256 * 1024;

/** The modules, by the crate's feature that each is: `core` counts, `io` meets the network and foreign formats. */
const MODULES = /** @type {const} */ ({ core: "counting", io: "io" });
/** What makes glue for one more instance of each: these stand in one file. */
const GLUE = { core: "makeCoreGlue", io: "makeIoGlue" };

/** @param {keyof typeof MODULES} name */
async function compileModule(name) {
  const { cargoEnv } = await wasmToolchain();
  const { path, wasmPack } = await wasmTools();
  const flags = [
    // A module has its whole stack from the start; the compiler's own size is four times this, which is thirty times
    // what the counting module uses (`tests/unit/stack.test.mjs`).
    `-Clink-arg=-zstack-size=${STACK}`,
    ...remapped({ [cacheRoot()]: "cache", [PROJECT]: "" }),
  ];
  const env = { ...cargoEnv, RUSTFLAGS: flags.join(" "), PATH: [path, process.env.PATH].join(delimiter) };
  // no-modules: its glue is a plain script, which can be wrapped into a function that makes as many instances
  // as wanted. The glue of the other targets makes one for ever, and an instance that trapped is dead.
  const kind = ["--target", "no-modules", "--no-pack", "--mode", "no-install", "--profile", "wasm"];
  const output = ["--out-dir", WASM_OUT, "--out-name", name];
  const features = ["--no-default-features", "--features", MODULES[name]];
  // A target folder of its own: other builds with other flags would throw this one's work away.
  const cargo = ["--target-dir", join(PROJECT, "target", "wasm")];
  await withProgress(`compile ${name} to WebAssembly`, () =>
    run(wasmPack, ["build", "crate", ...kind, ...output, "--", "--locked", ...cargo, ...features], {
      cwd: PROJECT,
      env,
    }),
  );
  await cp(join(WASM_OUT, `${name}_bg.wasm`), join(NEW, `${name}.wasm`));
}

/** @param {keyof typeof MODULES} name */
async function wrapGlue(name) {
  const glue = await readFile(join(WASM_OUT, `${name}.js`), "utf8");
  if (!glue.startsWith("let wasm_bindgen")) throw new SetupError("wasm-bindgen's glue has a new shape");
  const text = `// Made by wasm-bindgen; each call makes glue for one more instance of the module.
export function ${GLUE[name]}() {
// An instance is given up whole. A finalizer would call into one that trapped, and throw where nobody catches.
const FinalizationRegistry = undefined;
${glue}
return wasm_bindgen;
}
`;
  await writeFile(join(APART, `${name}.js`), text);
}

/** The built-in table of list prices, a fifth of its size: it is read once a process, and only for what it prices. */
async function packPrices() {
  const table = await readFile(join(PROJECT, "crate", "src", "prices", "table.txt"));
  await writeFile(join(NEW, "prices.br"), brotliCompressSync(table));
}

/** The code that copies events' fields: its table stands in the module. */
async function makePickers() {
  const { makeCoreGlue } = await import(pathToFileURL(join(APART, "core.js")).href);
  const glue = makeCoreGlue();
  glue.initSync({ module: new WebAssembly.Module(await readFile(join(NEW, "core.wasm"))) });
  await writeFile(join(APART, "pickers.js"), pickersOf(glue.sources()));
}

/** Names the build by all that is in it, so that parts of two builds know each other as such. @param {string[]} scripts */
async function nameBuild(scripts) {
  const hash = createHash("sha256");
  for (const name of [...scripts].sort()) hash.update(await readFile(join(APART, name)));
  for (const name of Object.keys(MODULES)) hash.update(await readFile(join(NEW, `${name}.wasm`)));
  await appendFile(join(APART, "pickers.js"), `export const BUILD = "${hash.digest("hex").slice(0, 16)}";\n`);
}

async function compileShim() {
  const tsc = join(PROJECT, "node_modules", "typescript", "bin", "tsc");
  await run(process.execPath, [tsc, "-p", "tsconfig.json", "--outDir", APART], { cwd: PROJECT });
  const files = (await readdir(APART)).filter((name) => name.endsWith(".js"));
  await nameBuild(files);
  await joinScripts(files.map((name) => basename(name, ".js")).sort(), APART, NEW);
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
  for (const folder of [NEW, APART]) {
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
  }
  for (const name of /** @type {(keyof typeof MODULES)[]} */ (Object.keys(MODULES))) {
    await compileModule(name);
    await wrapGlue(name);
  }
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
