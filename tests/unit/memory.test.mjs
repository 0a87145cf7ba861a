// Memory and disk stay bounded while the receiver is down, and the backlog is sent when it is back. `MILLION=1` runs a
// million calls.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { inFolder } from "./faulty-receiver.mjs";

const CHILD = fileURLToPath(new URL("memory-child.mjs", import.meta.url));
const MIB = 2 ** 20;
/** The bound, above a process that has only used fetch once. */
const MOST_BYTES = 24 * MIB;

/** @typedef {{ heap: number, external: number, wasm: number }} Used */

/** @param {string} folder @param {string[]} args @returns {Promise<any>} */
async function measured(folder, ...args) {
  const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", CHILD, folder, ...args], {
    maxBuffer: MIB,
  });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}

/** @param {Used} now @param {Used} before */
function above(now, before) {
  return now.heap - before.heap + now.external - before.external + now.wasm - before.wasm;
}

/** @param {Used} used */
const inWords = ({ heap, external, wasm }) =>
  `heap ${(heap / MIB).toFixed(1)}, external ${(external / MIB).toFixed(1)}, wasm ${(wasm / MIB).toFixed(1)} MiB`;

test("a receiver that is down for long costs bounded memory and disk, and gets the remaining calls", () =>
  inFolder(async (folder) => {
    const calls = process.env.MILLION ? 1_000_000 : 60_000;
    const maxMb = process.env.MILLION ? 64 : 8;
    const figures = await measured(folder, "down", String(calls), String(maxMb));
    const { control, used, bytes, dropped, counted, twice, newAt, waiting } = figures;
    const grown = above(used, control);
    console.log(
      `${calls} calls: ${inWords(control)} before, ${inWords(used)} then, ${(grown / MIB).toFixed(1)} MiB above;`,
      `${(bytes / MIB).toFixed(1)} MiB on disk, ${waiting} wait, ${(bytes / waiting).toFixed(0)} bytes a call,`,
      `${dropped} dropped; the new call arrived as number ${newAt} of ${counted}`,
    );
    assert.ok(grown < MOST_BYTES, `${(grown / MIB).toFixed(1)} MiB`);
    assert.ok(bytes < (maxMb + 2) * MIB, `${bytes} bytes on disk`);
    assert.equal(counted + dropped, calls + 1, "each call is counted or dropped");
    assert.equal(twice, 0);
    assert.ok(newAt < counted, "what is new does not wait for all that is old");
  }));

test("ten thousand turns: memory does not grow after the first thousand", () =>
  inFolder(async (folder) => {
    const { control, first, used, counted } = await measured(folder, "turns", "10000");
    console.log(`${inWords(control)} before, ${inWords(first)} after 1,000, ${inWords(used)} after 10,000`);
    assert.equal(counted, 10_000);
    assert.ok(above(used, first) < 3 * MIB, `${(above(used, first) / MIB).toFixed(1)} MiB`);
  }));
