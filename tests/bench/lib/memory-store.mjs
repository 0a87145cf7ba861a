// A session store of one transcript in memory, for the module that reads stores: what the disk takes is left out.

/** @param {Uint8Array} bytes */
const storeOf = (bytes) => ({
  names: (/** @type {string} */ folder) =>
    folder.endsWith("/agents") ? ["main"] : folder.endsWith("/sessions") ? ["s.jsonl"] : [],
  realPath: (/** @type {string} */ path) => path,
  stat: (/** @type {string} */ path) =>
    path.endsWith(".jsonl") ? { bytes: bytes.length, modifiedMs: 0 } : undefined,
  open: () => ({
    read: (/** @type {number} */ from, /** @type {Uint8Array} */ into) => {
      const part = bytes.subarray(from, from + into.length);
      into.set(part);
      return part.length;
    },
    close() {},
  }),
  query: () => [],
  close() {},
});

/** Reads a transcript; `stepped` is told after each step. @param {any} io @param {Uint8Array} bytes @param {() => void} [stepped] */
export function readMemory(io, bytes, stepped) {
  const reader = new io.StoreReader(storeOf(bytes), "/state", undefined, []);
  while (reader.step() !== undefined) stepped?.();
  reader.free();
}
