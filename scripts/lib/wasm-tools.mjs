import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cached } from "./cache.mjs";
import { run, SetupError, which } from "./run.mjs";
import { wasmBindgenVersion } from "./wasm-toolchain.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const WASM_PACK = "0.15.1";

/**
 * `wasm-pack`, and `wasm-bindgen` in exactly the version of the crate, which wasm-pack takes from PATH. Built here,
 * since their npm packages download binaries at installation; unoptimized, since that halves the time.
 *
 * @returns {Promise<{ path: string, wasmPack: string, wasmBindgen: string }>} `path` is to be put before PATH.
 */
export async function wasmTools() {
  const version = await wasmBindgenVersion(PROJECT);
  const wasmBindgen = await cargoTool("wasm-bindgen-cli", "wasm-bindgen", version);
  const wasmPack = await cargoTool("wasm-pack", "wasm-pack", WASM_PACK);
  return { path: [dirname(wasmPack), dirname(wasmBindgen)].join(delimiter), wasmPack, wasmBindgen };
}

/**
 * @param {string} crate
 * @param {string} binary
 * @param {string} version
 */
async function cargoTool(crate, binary, version) {
  if (!(await which("cargo")))
    throw new SetupError("cargo not found: install Rust with rustup (https://rustup.rs)");
  const path = (/** @type {string} */ folder) => join(folder, "bin", binary);
  const folder = await cached(
    `tools/${binary}-${version}`,
    `build ${crate} ${version}`,
    async (folder) => {
      // Not --locked: a dependency of that day may not be served any more.
      await run("cargo", ["install", crate, "--version", version, "--root", folder], {
        env: { CARGO_PROFILE_RELEASE_OPT_LEVEL: "0", RUSTUP_TOOLCHAIN: undefined },
        log: join(folder, "build.log"),
      });
      await isVersion(path(folder), version);
    },
    (folder) => isVersion(path(folder), version),
  );
  return path(folder);
}

/** @param {string} binary @param {string} version */
async function isVersion(binary, version) {
  const told = await run(binary, ["--version"]);
  if (!told.includes(version)) throw new SetupError(`${binary} says "${told.trim()}", not ${version}`);
  return true;
}
