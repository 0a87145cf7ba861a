import type { Glue } from "../base/wasm.js";

/** wasm-bindgen's glue, wrapped by the build: each call makes glue for one more instance. */
export function makeGlue(): Glue;
