// Loaded into the worker's thread (`--import`): its engine traps behind the next call once `workerData.asked` is 1.
import { workerData } from "node:worker_threads";

/** @type {{ asked: Int32Array }} */
const { asked } = workerData;

/** The error of `unreachable`, to which a panic compiles. */
const TRAP = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 116, 0, 0, 10, 5, 1, 3, 0, 0, 11,
]);

/** Calls of a loaded engine. One that traps while it loads is not made again: it would read the same journal. */
const CALLS = /^engine_(give|observe|advance|begin|answered|isKept|flush)$/;

const { Instance: RealInstance, Module } = WebAssembly;

/** The real instance, with an engine that traps on demand. */
WebAssembly.Instance = /** @type {any} */ (
  class {
    /** @param {WebAssembly.Module} module @param {WebAssembly.Imports} imports */
    constructor(module, imports) {
      const real = Object.entries(new RealInstance(module, imports).exports);
      this.exports = Object.fromEntries(real.map(([name, value]) => [name, trapping(name, value)]));
    }
  }
);

/** @param {string} name @param {any} value */
function trapping(name, value) {
  if (!CALLS.test(name)) return value;
  return (/** @type {unknown[]} */ ...args) => {
    const result = value(...args);
    if (Atomics.exchange(asked, 0, 0) === 1)
      /** @type {any} */ (new RealInstance(new Module(TRAP)).exports).t();
    return result;
  };
}
