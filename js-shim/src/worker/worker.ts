/** The worker thread: reads events from the ring, and counts, journals and sends them. It may block; the gateway's thread may not. */

import { parentPort, workerData } from "node:worker_threads";
import { BUILD } from "../base/pickers.js";
import { speakFor } from "../base/process.js";
import { RingReader } from "../base/ring.js";
import { compiledModule, instantiate, preload, priceTable } from "../base/wasm.js";
import {
  type Configuration,
  clockOffset,
  type FromWorker,
  OTHER_BUILD,
  type ToWorker,
  type WorkerStart,
} from "../plugin/worker-messages.js";
import { loadServer } from "./metrics.js";
import { type Host, type Log, Pipeline } from "./pipeline.js";
import { loadStore, SETTLED_AFTER_MS } from "./store-reading.js";
import { ALONE_SETTLED_AFTER_MS, type StoreHost } from "./store-watch.js";

/** Time from the start to the first reading of the session store, in ms. */
const FIRST_LOOK_MS = 5_000;
/** Interval between two readings, in ms: with the plugin, and with the hook alone, which gets no events of calls. */
const LOOK_EVERY_MS = { plugin: 60_000, hook: 2_000 };
/** Pending calls up to which the store is read on: for history, and for calls that are missing. */
const MAX_PENDING = { history: 2_000, gaps: 100_000 };

const start = workerData as WorkerStart;
// The package's files were replaced by another version; the gateway's thread still runs the version before.
if (start.build !== BUILD) process.exit(OTHER_BUILD);
const port = parentPort as NonNullable<typeof parentPort>;
let { configuration } = start;

function post(message: FromWorker): void {
  port.postMessage(message);
}

/** Loads the server of `/metrics` where a port is set; most gateways have none, and are spared Node's HTTP server. */
function loadServing(): Promise<unknown> | undefined {
  return configuration.settings.metricsPort === undefined ? undefined : loadServer();
}

/** With the plugin in the process, events come first, and rows are counted later, for calls without an event. */
function storeHost(stateDir: string): StoreHost {
  const hasPlugin = () => configuration.hasPlugin;
  return {
    stateDir,
    sessionStore: () => configuration.sessionStore,
    begins: true,
    settledAfterMs: () => (hasPlugin() ? SETTLED_AFTER_MS : ALONE_SETTLED_AFTER_MS),
    firstMs: FIRST_LOOK_MS,
    every: () => (hasPlugin() ? LOOK_EVERY_MS.plugin : LOOK_EVERY_MS.hook),
    most: MAX_PENDING,
  };
}

/** Difference between the gateway's thread's monotonic clock and this thread's, in ms. */
const clockShift = clockOffset() - start.clockOffset;
const reader = new RingReader(start.ring, start.skip);
speakFor(start);
preload();
await loadStore();
await loadServing();

const log: Log = {
  info: (text) => post({ type: "log", level: "info", text }),
  warn: (text) => post({ type: "log", level: "warn", text }),
};
const host: Host = {
  instantiate: () => instantiate(log.warn),
  priceTable,
  log,
  wall: () => Date.now(),
  mono: () => performance.now() + clockShift,
  folder: start.folder,
  store: configuration.stateDir ? storeHost(configuration.stateDir) : undefined,
  inbox: reader,
  // Without the service, as in a local turn of a command, the process ends soon; and a proxy's calls are not to end where
  // nothing is sent to AgentWatch.
  claims: () => {
    const { hasPlugin, countedBy } = configuration;
    return hasPlugin && countedBy !== undefined && typeof pipeline.status().url === "string";
  },
};
const pipeline = new Pipeline(host, configuration.settings);
let isClosed = false;

function configure(next: Configuration): void {
  configuration = next;
  // Where it cannot be loaded, that is said once it is to serve.
  loadServing()?.catch(() => {});
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
    case "admit":
      pipeline.unanswered = message.unanswered;
      // Its call has passed meanwhile.
      if (Date.now() > message.until) return undefined;
      return pipeline.admit(message.caller)?.message;
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
  post({ type: "answer", id: message.id, value });
  // The open port is the only thing that keeps the thread alive.
  if (message.type === "close") port.close();
});

/** Reads the first event after a pause at once, and the events behind it together at each tick: a wake-up costs more. */
async function readRing(): Promise<void> {
  while (!isClosed) {
    await reader.recordArrived();
    pipeline.drain();
    while (await pipeline.tick());
  }
}

/** Journals everything when the process exits. The gateway's thread is blocked until `confirmEnd`. */
async function awaitExit(): Promise<void> {
  await reader.endRequested();
  // Events that came behind the close are the gateway's thread's to spool.
  if (isClosed) return reader.isEmpty ? reader.confirmEnd() : undefined;
  try {
    pipeline.finishSync();
  } catch {
    // The gateway's thread writes the events to the spool, or reports why it cannot.
    return reader.failEnd();
  }
  reader.confirmEnd();
}

configure(configuration);
await pipeline.open();
post({ type: "module", module: compiledModule() });
void readRing();
void awaitExit();
