/** Passes the session store's rows to the engine, which counts unreported calls: gaps, and the history. */

import { reason } from "../base/promises.js";
import type { Engine, Instance } from "../base/wasm.js";
import type { SessionStore } from "../plugin/session-store.js";
import type { ReadProgress, readStore, StoreBatch } from "../sessions/store.js";
import { HISTORY_PREFIX, type Marks, readMarks, type Span } from "./marks.js";

/** Minimum age of a row in a gateway with the plugin, in ms: by then every other surface has reported the call. */
export const SETTLED_AFTER_MS = 60_000;
/** Minimum step of the time up to which all rows are matched, in ms: each step is a write to the journal. */
const RECONCILED_STEP_MS = 30_000;
/**
 * How far the mark is moved before now after the clock was set back, in ms: longer than the interval of two looks, and
 * shorter than the age of the engine's match records.
 */
const SET_BACK_MS = 300_000;
/** Number of rows between two checks for room in the queue. */
const ROWS_AT_ONCE = 256;

/** The pipeline's functions for reconciling. */
export interface Reconciler {
  /** The gateway's state directory. */
  stateDir: string;
  /** The session store in the gateway's configuration. */
  store: SessionStore | undefined;
  /** The engine's number of the source `stored`. */
  source: number;
  /** The names of that source's facts, in order. */
  facts: readonly string[];
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

/**
 * Reads the session store's rows after the bookmarks and passes them to the engine, which matches them with reported
 * calls and counts the others.
 *
 * @param settledAfterMs minimum age of a row, in ms
 */
export async function reconcile(reconciler: Reconciler, settledAfterMs: number): Promise<Outcome> {
  const now = reconciler.wall();
  const until = now - settledAfterMs;
  let since: number | undefined;
  let marks: Marks | undefined;
  const isWell = reconciler.run((engine) => {
    // Otherwise rows written before the clock reaches the mark again would count as matched.
    if (Number(engine.reconciledMs()) > now) engine.setReconciled(now - SET_BACK_MS);
    since = engine.reconciledMs();
    marks = readMarks(engine);
  });
  if (!isWell || !marks || since === undefined || since >= until) return nothing();
  const reading = new Reading(
    reconciler,
    marks.bookmarks,
    { since, until, future: now + SETTLED_AFTER_MS },
    "",
  );
  const outcome = await reading.go().finally(() => reading.close());
  // After a problem the time stays, so that the unread rows are matched later. Rows younger than SETTLED_AFTER_MS may
  // still be missing in the store.
  const matched = Math.min(until, reconciler.wall() - SETTLED_AFTER_MS);
  if (outcome.isDone && outcome.problems.length === 0 && matched - since >= RECONCILED_STEP_MS)
    reconciler.run((engine) => engine.setReconciled(matched));
  return outcome;
}

/** Reads a span of history. It can be interrupted and continued until its outcome is done. */
export function readHistory(
  reconciler: Reconciler,
  marks: Marks,
  span: Span,
  progress: ReadProgress,
): Reading {
  return new Reading(reconciler, marks.historyBookmarks, span, HISTORY_PREFIX, progress);
}

/** A reading of the store that can be interrupted and continued. */
export class Reading {
  #reconciler: Reconciler;
  readonly #bookmarks: ReadonlyMap<string, string>;
  readonly #prefix: string;
  readonly #batches: AsyncGenerator<StoreBatch>;
  /** Indexes of a row's times. */
  readonly #times: number[];
  /** Whether the reader's module or the engine failed. */
  #isBroken = false;
  readonly outcome: Outcome = nothing();

  constructor(
    reconciler: Reconciler,
    bookmarks: ReadonlyMap<string, string>,
    span: Span & { future?: number },
    prefix: string,
    progress?: ReadProgress,
  ) {
    this.#reconciler = reconciler;
    this.#bookmarks = bookmarks;
    this.#prefix = prefix;
    this.#times = ["written", "timestamp"].map((name) => reconciler.facts.indexOf(name));
    this.#batches = batches(reconciler.stateDir, bookmarks, {
      io: reconciler.instantiate(),
      store: reconciler.store,
      ...span,
      progress,
    });
  }

  /** Whether a new reading must replace this one, from the bookmarks on. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Continues with another reconciler, for example with another bound on the queue. */
  goOnWith(reconciler: Reconciler): void {
    this.#reconciler = reconciler;
  }

  /** Reads until the end of the store, a fault, or lack of room. */
  async go(): Promise<Outcome> {
    const { outcome } = this;
    try {
      for (let since = 0; ; ) {
        if (since >= ROWS_AT_ONCE) {
          if (!(await this.#reconciler.room())) return outcome;
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
    const mark = problem || this.#bookmarks.get(file) === bookmark ? undefined : bookmark;
    if (rows.length === 0 && mark === undefined) return true;
    const isHistory = this.#prefix !== "";
    // A row without a time belongs to no span.
    const timed = isHistory ? rows.filter((row) => this.#hasTime(row)) : rows;
    this.#skip("without_time", rows.length - timed.length);
    const { run, source, wall, mono } = this.#reconciler;
    return run((engine) =>
      engine.takeRows(source, timed, this.#prefix + file, mark, isHistory, wall(), mono()),
    );
  }

  #hasTime(row: readonly unknown[]): boolean {
    return this.#times.some((index) => typeof row[index] === "number" || typeof row[index] === "string");
  }

  #skip(why: string, count: number): void {
    if (count > 0) this.outcome.skipped[why] = (this.outcome.skipped[why] ?? 0) + count;
  }
}

function nothing(): Outcome {
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
