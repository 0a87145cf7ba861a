import { delimiter, dirname, join } from "node:path";
import { cargoTool, lockedCargoTools } from "./cargo-tool.mjs";

/**
 * `wasm-pack`, and `wasm-bindgen` in exactly the version of the crate, which wasm-pack takes from PATH. Built here,
 * since their npm packages download binaries at installation.
 *
 * @returns {Promise<{ path: string, wasmPack: string, wasmBindgen: string }>} `path` belongs before PATH.
 */
export async function wasmTools() {
  const bindgen = await lockedCargoTools("wasm-bindgen-cli");
  const wasmPack = await cargoTool("wasm-pack", "0.15.1");
  const path = [dirname(wasmPack), bindgen].join(delimiter);
  return { path, wasmPack, wasmBindgen: join(bindgen, "wasm-bindgen") };
}
