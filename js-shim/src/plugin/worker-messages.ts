/** The messages between the gateway's thread and the worker. */

import type { RingMemory } from "../base/ring.js";
import type { Caller } from "../base/wasm.js";
import type { SessionStore } from "./session-store.js";

/** Settings of a worker that may change while it runs. */
export interface Configuration {
  /** The settings as configured; the engine checks them. */
  settings: Record<string, unknown>;
  /** Whether the gateway sends diagnostic events, which the engine then waits for. */
  expectDiagnostics: boolean;
  /** The sources that calls are counted by, as a text for the status. */
  countedBy: string | undefined;
  /** Whether the plugin runs. With the hook alone there are no events of calls, so the session store is read soon and often. */
  hasPlugin: boolean;
  /** The gateway's state directory, whose session store is compared with the counted calls. */
  stateDir: string | undefined;
  /** The session store of the gateway's configuration. */
  sessionStore: SessionStore | undefined;
}

/** Exit code of a worker whose build differs from the build of the gateway's thread. */
export const OTHER_BUILD = 86;

/** `workerData` of a worker. */
export interface WorkerStart {
  /** The build of the gateway's thread. */
  build: string;
  ring: RingMemory;
  /** The positions of records at each of which two workers crashed; they are skipped. */
  skip: readonly number[];
  /** The plugin's folder in the gateway's state directory. */
  folder: string | undefined;
  /** Random name of this process, for others that share the folder. */
  token: string;
  /** Start of this process, in ms since 1970. */
  started: number;
  /** {@link clockOffset} of the gateway's thread, in ms. */
  clockOffset: number;
  configuration: Configuration;
}

/** Messages to the worker. */
export type ToWorker =
  | { type: "configure"; configuration: Configuration }
  | { type: "open" | "status" | "close"; id: number }
  /** Whether a call may pass; `unanswered` is the number of such requests that passed unanswered so far. */
  | { type: "admit"; caller: Caller; until: number; unanswered: number; id: number }
  | { type: "stop"; budgetMs: number; id: number };

/** Messages from the worker. */
export type FromWorker =
  | { type: "log"; level: "info" | "warn"; text: string }
  | { type: "module"; module: WebAssembly.Module }
  | { type: "answer"; id: number; value: unknown };

/**
 * The system's monotonic clock minus this thread's `performance.now()`, in ms. Each thread's `performance.now()` begins at
 * the thread's start.
 */
export function clockOffset(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1_000 + nanoseconds / 1e6 - performance.now();
}
