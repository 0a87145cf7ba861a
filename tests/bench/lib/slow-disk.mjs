// Loaded before a process's own code and into its threads (`--import`): each write to a file waits for `BENCH_STALL_MS`,
// as on a disk that stalls. A write blocks the thread that makes it, and no other.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const STALL_MS = Number(process.env.BENCH_STALL_MS ?? 0);

if (STALL_MS > 0) {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  const functions = /** @type {Record<string, (...args: unknown[]) => unknown>} */ (
    /** @type {unknown} */ (fs)
  );
  for (const name of [
    "writeSync",
    "writeFileSync",
    "appendFileSync",
    "fsyncSync",
    "renameSync",
    "ftruncateSync",
  ]) {
    const real = functions[name];
    if (!real) throw new Error(`node:fs has no ${name}`);
    functions[name] = (...args) => {
      Atomics.wait(clock, 0, 0, STALL_MS);
      return real(...args);
    };
  }
  syncBuiltinESMExports();
}
