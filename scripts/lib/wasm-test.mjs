import { delimiter } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./run.mjs";
import { wasmToolchain } from "./wasm-toolchain.mjs";
import { wasmTools } from "./wasm-tools.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Runs the core's tests as WebAssembly under this Node. The other tests of the crate are native.
 *
 * @returns {Promise<string>} What the tests printed.
 */
export async function wasmTest() {
  const { cargoEnv } = await wasmToolchain();
  const { path, wasmPack } = await wasmTools();
  const env = { ...cargoEnv, PATH: [path, process.env.PATH].join(delimiter) };
  // no-install: the tools are those of `wasmTools`, and none is downloaded.
  const args = ["test", "--node", "--mode", "no-install", "crate", "--test", "wasm"];
  const printed = await run(wasmPack, args, { cwd: PROJECT, env });
  process.stdout.write(printed);
  return printed;
}
