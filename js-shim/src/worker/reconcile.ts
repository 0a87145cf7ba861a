/** Brings the session store's rows to the engine, which counts those that nobody told: gaps, and what came before us. */

import { reason } from "../base/promises.js";
import type { Engine, Instance } from "../base/wasm.js";
import type { SessionStore } from "../plugin/session-store.js";
import type { ReadProgress, readStore, StoreBatch } from "../sessions/store.js";
import { HISTORY_PREFIX, type Marks, readMarks, type Span } from "./marks.js";

/** In a gateway with the plugin a row is looked at when it is this old, in ms: by then every other surface has spoken. */
export const SETTLED_AFTER_MS = 60_000;
/** The time up to which everything is matched moves in such steps, in ms: each is a write to the journal. */
const RECONCILED_STEP_MS = 30_000;
/**
 * So far back the mark goes where the clock was set back, in ms: longer than two looks are apart, and shorter than the
 * engine remembers calls that it was told.
 */
const SET_BACK_MS = 300_000;
/** After so many rows what waits is looked at. */
const ROWS_AT_ONCE = 256;

/** What reconciling needs of the pipeline. */
export interface Reconciler {
  /** The gateway's state directory. */
  stateDir: string;
  /** Where its configuration says that sessions are. */
  store: SessionStore | undefined;
  /** The engine's number of the source `stored`. */
  source: number;
  /** The names of that source's facts, in their order. */
  facts: readonly string[];
  /** Runs something in the engine; false where that went wrong. */
  run(work: (engine: Engine) => void): boolean;
  /** Makes the module that reads transcripts. */
  instantiate(): Instance;
  /** Waits until there is room for more; false where reading is to end for now. */
  room(): Promise<boolean>;
  wall(): number;
  mono(): number;
}

/** What a reading of the store came to. */
export interface Outcome {
  /** Whether everything was read, but for what {@link problems} name. */
  isDone: boolean;
  /** What could not be read, for the log. */
  problems: string[];
  /** Lines that could not be used, by reason. */
  skipped: Record<string, number>;
  /** Rows of calls, inherited ones and failures among them. */
  rows: number;
}

/**
 * Reads what the session store has beyond the bookmarks, and hands it to the engine, which matches it with what it was
 * told and counts the rest.
 *
 * @param settledAfterMs how old a row has to be, in ms
 */
export async function reconcile(reconciler: Reconciler, settledAfterMs: number): Promise<Outcome> {
  const now = reconciler.wall();
  const until = now - settledAfterMs;
  let since: number | undefined;
  let marks: Marks | undefined;
  const isWell = reconciler.run((engine) => {
    // Rows that are written until the clock comes by the mark again would be taken for matched.
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
  const outcome = await reading.go();
  // What could not be read has its turn when it can: the time stays where it was. Nor are younger rows all there yet.
  const matched = Math.min(until, reconciler.wall() - SETTLED_AFTER_MS);
  if (outcome.isDone && outcome.problems.length === 0 && matched - since >= RECONCILED_STEP_MS)
    reconciler.run((engine) => engine.setReconciled(matched));
  return outcome;
}

/** Reads a span of history. It goes on where it was ended, until its outcome is done. */
export function readHistory(
  reconciler: Reconciler,
  marks: Marks,
  span: Span,
  progress: ReadProgress,
): Reading {
  return new Reading(reconciler, marks.historyBookmarks, span, HISTORY_PREFIX, progress);
}

/** A reading of the store, which can be interrupted. */
export class Reading {
  #reconciler: Reconciler;
  readonly #bookmarks: ReadonlyMap<string, string>;
  readonly #prefix: string;
  readonly #batches: AsyncGenerator<StoreBatch>;
  /** Where a row tells when its call was. */
  readonly #times: number[];
  /** What a reader was made of may be what fails. */
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

  /** Whether it is to be begun anew, from the bookmarks. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Goes on with another notion of room, say. */
  goOnWith(reconciler: Reconciler): void {
    this.#reconciler = reconciler;
  }

  /** Goes on until it is done, or there is no room. */
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

  /** Ends it early. */
  async close(): Promise<void> {
    await this.#batches.return(undefined).catch(() => {});
  }

  #take({ file, bookmark, rows, problem, skipped }: StoreBatch): boolean {
    const { outcome } = this;
    if (problem) outcome.problems.push(problem);
    for (const [why, count] of Object.entries(skipped ?? {})) this.#skip(why, count);
    outcome.rows += rows.length;
    // A problem changes no bookmark.
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

/** Loads what reads the store: a worker at its start, since its package may be gone later; a command when it reads first. */
export function loadStore(): Promise<typeof import("../sessions/store.js")> {
  store ??= import("../sessions/store.js");
  return store;
}

async function* batches(...args: Parameters<typeof readStore>): AsyncGenerator<StoreBatch> {
  const { readStore } = await loadStore();
  yield* readStore(...args);
}
