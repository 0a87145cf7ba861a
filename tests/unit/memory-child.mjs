// Memory of a pipeline while its receiver is down, above a process that has only used fetch once. Run with
// --expose-gc; prints its figures as one line of JSON.
import { readdirSync, statSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { memories } from "../bench/lib/memories.mjs";
import { Clock, FaultyReceiver, Run, sleep, until } from "./faulty-receiver.mjs";

const [folder = "", what = "", count = "0", max = "64"] = process.argv.slice(2);
const CALLS = Number(count);
/** Calls between two turns of the event loop. */
const BATCH = 500;

/** Heap and external memory after a garbage collection, and wasm memory. */
async function used() {
  for (let times = 0; times < 4; times += 1) {
    /** @type {any} */ (globalThis).gc();
    await sleep(20);
  }
  const { heapUsed, external } = process.memoryUsage();
  const wasm = memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
  // Versions of Node differ in whether external memory includes wasm.
  return { heap: heapUsed, external: external - (countsWasm ? wasm : 0), wasm };
}

/** Whether external memory includes wasm on this Node. */
const before = process.memoryUsage().external;
const probe = new WebAssembly.Memory({ initial: 512 });
const countsWasm = process.memoryUsage().external - before > 16 * 2 ** 20 && probe.buffer.byteLength > 0;

const faulty = await FaultyReceiver.open("ids");
faulty.keepsRecords = false;
await fetch(`${faulty.url}/api/v1/ingest/capabilities`).then((response) => response.text());
const control = await used();
const clock = new Clock();
const run = new Run(folder, faulty.url, { clock, settings: { journalMaxMb: Number(max) } });
await run.pipeline.open();

const onDisk = () =>
  readdirSync(`${folder}/journal`).reduce((sum, name) => sum + statSync(`${folder}/journal/${name}`).size, 0);

/** @param {number} calls @param {number} from */
async function bring(calls, from, pause = 1_500) {
  for (let tokens = from; tokens < from + calls; tokens += 1) {
    run.call(tokens);
    if (tokens % BATCH !== 0) continue;
    await turn();
    clock.pass(pause);
    // These calls come faster than the disk writes them.
    await run.pipeline.journalled();
  }
  await run.pipeline.journalled();
}

if (what === "down") {
  faulty.fault = "refuse";
  await bring(CALLS, 1);
  clock.pass(2_000);
  await run.pipeline.stop(50);
  await run.pipeline.journalled();
  const down = await used();
  const { status } = run;
  const bytes = onDisk();
  // The receiver answers again: a new call does not wait for all old ones.
  faulty.fault = "well";
  clock.pass(400_000);
  let newAt = -1;
  let isCalled = false;
  await until(() => {
    clock.pass(1_000);
    void run.pipeline.reduceBacklog(0, 500);
    if (!isCalled && faulty.counted.size > 0) {
      isCalled = true;
      run.call(CALLS + 1);
    }
    if (newAt < 0 && faulty.counted.has(CALLS + 1)) newAt = faulty.counted.size;
    return isCalled && run.status.waiting + run.status.open === 0;
  }, 600_000);
  const dropped = run.status.dropped?.disk_full ?? 0;
  const twice = [...faulty.counted.values()].filter((times) => times > 1).length;
  const figures = { control, used: down, bytes, dropped, counted: faulty.counted.size, twice, newAt };
  console.log(JSON.stringify({ ...figures, journalled: status.journalled, waiting: status.waiting }));
} else {
  /** @type {{ heap: number, external: number, wasm: number } | undefined} */
  let first;
  for (let turns = 0; turns < CALLS; turns += 500) {
    // State of turns is removed by age, so turns take time here.
    await bring(500, turns + 1, 600_000);
    await run.pipeline.reduceBacklog(0, 5_000);
    if (turns + 500 === 1_000) first = await used();
  }
  await run.settle();
  console.log(JSON.stringify({ control, first, used: await used(), counted: faulty.counted.size }));
}
await run.end();
faulty.close();
