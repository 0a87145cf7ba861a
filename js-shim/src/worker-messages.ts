/** What the gateway's thread and the worker tell each other. */

import type { RingMemory } from "./ring.js";
import type { SessionStore } from "./store-places.js";

/** What may change while a worker runs. */
export interface Configuration {
  /** The settings, as they come; the core judges them. */
  settings: Record<string, unknown>;
  /** Whether the gateway's diagnostics are heard, and so worth waiting for. */
  expectDiagnostics: boolean;
  /** What calls are counted by, in words. */
  countedBy: string | undefined;
  /** Whether the plugin hears of calls; the hook alone hears of none, and has the session store read soon. */
  hasPlugin: boolean;
  /** The gateway's state directory, whose session store is compared with what was told. */
  stateDir: string | undefined;
  /** Where its configuration says that sessions are. */
  sessionStore: SessionStore | undefined;
}

/** The exit code of a worker whose build is not that of the gateway's thread. */
export const OTHER_BUILD = 86;

/** What a worker is started with. */
export interface WorkerStart {
  /** The build of the gateway's thread. */
  build: string;
  ring: RingMemory;
  /** The position of a record at which two workers died. */
  skip: number | undefined;
  /** Our folder in the gateway's state directory. */
  folder: string | undefined;
  /** Which process this is, to others that share the folder: drawn once, and when it started, in ms since 1970. */
  token: string;
  started: number;
  /** What has to be added to this thread's monotonic clock to have that of all threads; see {@link clockOffset}. */
  clockOffset: number;
  configuration: Configuration;
}

/** To the worker. */
export type ToWorker =
  | { type: "configure"; configuration: Configuration }
  | { type: "open" | "status" | "close"; id: number }
  | { type: "stop"; budgetMs: number; id: number };

/** From the worker. */
export type FromWorker =
  | { type: "log"; level: "info" | "warn"; text: string }
  | { type: "module"; module: WebAssembly.Module }
  | { type: "answer"; id: number; value: unknown };

/**
 * How far the system's monotonic clock is ahead of this thread's `performance.now()`, in ms: each thread's begins at its own
 * start.
 */
export function clockOffset(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1_000 + nanoseconds / 1e6 - performance.now();
}
