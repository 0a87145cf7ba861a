import { delimiter, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { nodeRuntime } from "./node-runtime.mjs";
import { run } from "./run.mjs";
import { wasmToolchain } from "./wasm-toolchain.mjs";
import { wasmTools } from "./wasm-tools.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Runs the core's tests as WebAssembly, on a Node that the package supports: the machine's may be older. The other tests
 * of the crate are native, yet wasm-pack compiles them too.
 *
 * @returns {Promise<string>} What the tests printed.
 */
export async function wasmTest() {
  const { cargoEnv } = await wasmToolchain();
  const { path, wasmPack } = await wasmTools();
  const node = dirname(await nodeRuntime(24));
  const env = { ...cargoEnv, PATH: [path, node, process.env.PATH].join(delimiter) };
  // no-install: the tools are those of `wasmTools`, and none is downloaded.
  const args = ["test", "--node", "--mode", "no-install", "crate", "--test", "wasm"];
  const printed = await run(wasmPack, args, { cwd: PROJECT, env });
  process.stdout.write(printed);
  return printed;
}
