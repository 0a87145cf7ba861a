import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { nodeRuntime } from "./node-runtime.mjs";
import { pathWith, run } from "./run.mjs";
import { wasmToolchain } from "./wasm-toolchain.mjs";
import { wasmTools } from "./wasm-tools.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Runs the core's tests as WebAssembly, on a Node that the package supports: the machine's may be older. By cargo and
 * wasm-bindgen's runner, since `wasm-pack test` compiles all native tests as well, whichever is asked for.
 *
 * @returns {Promise<string>} What the tests printed.
 */
export async function wasmTest() {
  const { cargoEnv } = await wasmToolchain();
  const { wasmBindgen } = await wasmTools();
  const env = {
    ...cargoEnv,
    PATH: pathWith(dirname(await nodeRuntime(24))),
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: join(dirname(wasmBindgen), "wasm-bindgen-test-runner"),
    WASM_BINDGEN_TEST_ONLY_NODE: "1",
  };
  const args = [
    "test",
    "--locked",
    "-p",
    "agentwatch-openclaw",
    "--target",
    "wasm32-unknown-unknown",
    "--test",
    "wasm",
  ];
  const printed = await run("cargo", args, { cwd: PROJECT, env });
  process.stdout.write(printed);
  return printed;
}
