/** The worker thread: takes events out of the ring, and counts, journals and sends them. It may block; the gateway does not. */

import { setTimeout as sleep } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { BEAT_MS } from "./beat.js";
import { speakFor } from "./lease.js";
import { BUILD } from "./pickers.js";
import { type Host, type Log, Pipeline } from "./pipeline.js";
import { loadStore, SETTLED_AFTER_MS } from "./reconcile.js";
import { RingReader } from "./ring.js";
import { ALONE_SETTLED_AFTER_MS, type StoreHost } from "./store-watch.js";
import { compiledCore, instantiate, instantiateIo, preload, priceTable } from "./wasm.js";
import {
  type Configuration,
  clockOffset,
  type FromWorker,
  OTHER_BUILD,
  type ToWorker,
  type WorkerStart,
} from "./worker-messages.js";

/** When a gateway looks into its session store first, and how often then, in ms: with the plugin, and with the hook. */
const FIRST_LOOK_MS = 5_000;
const LOOK_EVERY_MS = { plugin: 60_000, hook: 2_000 };
/** How many calls may wait while history and gaps are filled in: a gateway has better things to do. */
const MOST = { history: 2_000, gaps: 100_000 };

const start = workerData as WorkerStart;
// Another version of the package came in the place of the one that the gateway's thread has in memory.
if (start.build !== BUILD) process.exit(OTHER_BUILD);
const port = parentPort as NonNullable<typeof parentPort>;
let { configuration } = start;

function tell(message: FromWorker): void {
  port.postMessage(message);
}

/** What the plugin hears it hears at once, so that the store has time; the hook alone hears of no call. */
function storeOf(stateDir: string): StoreHost {
  const hears = () => configuration.hasPlugin;
  return {
    stateDir,
    sessionStore: () => configuration.sessionStore,
    begins: true,
    settledAfterMs: () => (hears() ? SETTLED_AFTER_MS : ALONE_SETTLED_AFTER_MS),
    firstMs: FIRST_LOOK_MS,
    every: () => (hears() ? LOOK_EVERY_MS.plugin : LOOK_EVERY_MS.hook),
    most: MOST,
  };
}

/** One clock for all threads. */
const ahead = clockOffset() - start.clockOffset;
const reader = new RingReader(start.ring, start.skip);
speakFor(start);
preload();
await loadStore();

const log: Log = {
  info: (text) => tell({ type: "log", level: "info", text }),
  warn: (text) => tell({ type: "log", level: "warn", text }),
};
const host: Host = {
  instantiate: () => instantiate(log.warn),
  instantiateIo: () => instantiateIo(log.warn),
  priceTable,
  log,
  wall: () => Date.now(),
  mono: () => performance.now() + ahead,
  folder: start.folder,
  store: configuration.stateDir ? storeOf(configuration.stateDir) : undefined,
  inbox: reader,
};
const pipeline = new Pipeline(host, configuration.settings);
let isClosed = false;

function configure(next: Configuration): void {
  configuration = next;
  pipeline.configure(next.settings);
  pipeline.expectDiagnostics(next.expectDiagnostics);
  pipeline.countedBy = next.countedBy;
}

async function answer(message: Exclude<ToWorker, { type: "configure" }>): Promise<unknown> {
  switch (message.type) {
    case "open":
      await pipeline.open();
      return pipeline.status();
    case "status":
      return pipeline.status();
    case "stop":
      return pipeline.stop(message.budgetMs);
    case "close":
      isClosed = true;
      await pipeline.close();
      return pipeline.ended;
  }
}

port.on("message", async (message: ToWorker) => {
  if (message.type === "configure") return configure(message.configuration);
  const value = await answer(message);
  tell({ type: "answer", id: message.id, value });
  // Nothing else keeps the thread alive.
  if (message.type === "close") port.close();
});

/** An event after a pause is read at once; those that follow it wait for each other until the next beat. */
async function listen(): Promise<void> {
  while (!isClosed) {
    await reader.news();
    pipeline.drain();
    await sleep(BEAT_MS);
  }
}

/** The process exits: its own thread waits meanwhile. */
async function finish(): Promise<void> {
  await reader.asked();
  if (isClosed) return reader.gone();
  pipeline.finishSync();
  reader.gone();
}

configure(configuration);
await pipeline.open();
tell({ type: "module", module: compiledCore() });
void listen();
void finish();
