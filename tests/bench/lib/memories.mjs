// The memories of all modules that are instantiated after this file is loaded, in order.

/** @type {WebAssembly.Memory[]} */
export const memories = [];

const RealInstance = WebAssembly.Instance;
WebAssembly.Instance = /** @type {any} */ (
  class {
    /** @param {WebAssembly.Module} module @param {WebAssembly.Imports} imports */
    constructor(module, imports) {
      const { exports } = new RealInstance(module, imports);
      memories.push(/** @type {any} */ (exports.memory));
      Object.assign(this, { exports });
    }
  }
);
