// Loaded into the process of ending-gateway.mjs (`--import`) and so into its worker: once the file `BLOCK_WHEN` exists, the
// worker is blocked for `BLOCK_MS` behind the next call of a function of node:fs on such a path, as by a disk that stalls.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { isMainThread } from "node:worker_threads";

const { BLOCK_AT = "", BLOCK_MS, BLOCK_WHEN = "", BLOCKED = "" } = process.env;
const [name = "", part = ""] = BLOCK_AT.split(" ");

if (!isMainThread) {
  const functions = /** @type {Record<string, (...args: any[]) => unknown>} */ (/** @type {unknown} */ (fs));
  const { [name]: real, existsSync, readlinkSync, writeFileSync } = functions;
  const isThere = (/** @type {unknown} */ file) =>
    `${typeof file === "number" ? readlinkSync?.(`/proc/self/fd/${file}`) : file}`.includes(part);
  functions[name] = (...args) => {
    try {
      return real?.(...args);
    } finally {
      if (existsSync?.(BLOCK_WHEN) && !existsSync(BLOCKED) && isThere(args[0])) {
        writeFileSync?.(BLOCKED, "");
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(BLOCK_MS));
      }
    }
  };
  syncBuiltinESMExports();
}
