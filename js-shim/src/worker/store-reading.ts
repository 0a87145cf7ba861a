/**
 * Reads the session store and passes its rows to the engine, which decides which rows are read and which are counted: see
 * `crate/src/engine/store.rs`.
 */

import { reason } from "../base/promises.js";
import type { Engine, Instance } from "../base/wasm.js";
import type { SessionStore } from "../plugin/session-store.js";
import type { ReadProgress, readStore, StoreBatch } from "../sessions/store.js";

/** Minimum age of a row in a gateway with the plugin, in ms: by then every other surface has reported the call. */
export const SETTLED_AFTER_MS = 60_000;
/** Number of rows between two checks for room in the queue. */
const ROWS_AT_ONCE = 256;

/** The pipeline's functions for a reading. */
export interface ReadingHost {
  /** The gateway's state directory. */
  stateDir: string;
  /** The session store in the gateway's configuration. */
  store: SessionStore | undefined;
  /** The engine's number of the source `stored`. */
  source: number;
  /** Runs `work` in the engine; false if the engine failed. */
  run(work: (engine: Engine) => void): boolean;
  /** Creates the instance of the module that reads transcripts. */
  instantiate(): Instance;
  /** Waits for room in the queue; false if reading must pause. */
  room(): Promise<boolean>;
  wall(): number;
  mono(): number;
}

/** Result of a reading of the store. */
export interface Outcome {
  /** Whether the store was read to its end, except for the {@link problems}. */
  isDone: boolean;
  /** A text for the log for each part of the store that could not be read. */
  problems: string[];
  /** Lines that could not be used, by reason. */
  skipped: Record<string, number>;
  /** Number of rows of calls, including inherited rows and failed calls. */
  rows: number;
}

/** The rows that are read. Times are in ms since 1970. */
export interface Rows {
  since: number;
  until: number;
  /** Rows written after this time do not stop the reading. Absent for history, which leaves out what is younger than it. */
  future?: number | undefined;
  /** Whether the rows are from before the first process counted. */
  isHistory: boolean;
}

/** A reading of the store that can be interrupted and continued. */
export class Reading {
  #host: ReadingHost;
  readonly #isHistory: boolean;
  /** The engine that has the bookmarks. Another one may lack rows that this one had not written. */
  #engine: Engine | undefined;
  readonly #batches: AsyncGenerator<StoreBatch>;
  /** Whether the reader's module or the engine failed. */
  #isBroken = false;
  readonly outcome: Outcome = nothing();

  constructor(host: ReadingHost, { isHistory, ...times }: Rows, progress?: ReadProgress) {
    this.#host = host;
    this.#isHistory = isHistory;
    let bookmarks: [session: string, bookmark: string][] = [];
    host.run((engine) => {
      this.#engine = engine;
      bookmarks = engine.storeBookmarks(isHistory);
    });
    const { stateDir, store } = host;
    this.#batches = batches(stateDir, new Map(bookmarks), {
      io: host.instantiate(),
      ...{ store, ...times, progress },
    });
  }

  /** Whether a new reading must replace this one, from the bookmarks on. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Continues with another host, for example with another bound on the queue. */
  goOnWith(host: ReadingHost): void {
    this.#host = host;
  }

  /** Reads until the end of the store, a fault, or lack of room. */
  async go(): Promise<Outcome> {
    const { outcome } = this;
    try {
      for (let since = 0; ; ) {
        if (since >= ROWS_AT_ONCE) {
          if (!(await this.#host.room())) return outcome;
          since = 0;
        }
        const { value, done } = await this.#batches.next();
        if (done) break;
        if (!this.#take(value)) {
          this.#isBroken = true;
          return outcome;
        }
        since += value.rows.length;
      }
      outcome.isDone = true;
    } catch (error) {
      this.#isBroken = true;
      outcome.problems.push(`the session store could not be read (${reason(error)})`);
    }
    return outcome;
  }

  /** Ends the reading early. */
  async close(): Promise<void> {
    await this.#batches.return(undefined).catch(() => {});
  }

  #take({ file, bookmark, rows, problem, skipped }: StoreBatch): boolean {
    const { outcome } = this;
    if (problem) outcome.problems.push(problem);
    for (const [why, count] of Object.entries(skipped ?? {})) this.#skip(why, count);
    outcome.rows += rows.length;
    // A batch with a problem changes no bookmark.
    const mark = problem ? undefined : bookmark;
    const { run, source, wall, mono } = this.#host;
    let withoutTime = 0;
    let isSame = false;
    const isTaken = run((engine) => {
      isSame = engine === this.#engine;
      if (!isSame) return;
      withoutTime = engine.takeBatch(source, rows, file, mark, this.#isHistory, wall(), mono());
    });
    this.#skip("without_time", withoutTime);
    return isTaken && isSame;
  }

  #skip(why: string, count: number): void {
    if (count > 0) this.outcome.skipped[why] = (this.outcome.skipped[why] ?? 0) + count;
  }
}

/** The outcome of a reading that has read nothing. */
export function nothing(): Outcome {
  return { isDone: false, problems: [], skipped: {}, rows: 0 };
}

let store: Promise<typeof import("../sessions/store.js")> | undefined;

/** Loads the reader of the store. A worker loads it at its start, since an update may remove the package's files. */
export function loadStore(): Promise<typeof import("../sessions/store.js")> {
  store ??= import("../sessions/store.js");
  return store;
}

async function* batches(...args: Parameters<typeof readStore>): AsyncGenerator<StoreBatch> {
  const { readStore } = await loadStore();
  yield* readStore(...args);
}
