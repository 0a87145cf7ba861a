/**
 * Watches the session store for the process that owns the state directory: fills in unreported calls, and the history
 * from before the first process counted.
 *
 * No call is counted twice, whichever processes run: rows from the floor on are matched with the reports of all
 * processes, and no process reported calls before the floor. The floor is the start of the first owner. It moves back
 * when a span of history is filled in to its end.
 */

import { existsSync } from "node:fs";
import type { Engine, Instance } from "../base/wasm.js";
import type { SessionStore } from "../plugin/session-store.js";
import type { ReadProgress } from "../sessions/store.js";
import { type Marks, MarkWriter, readMarks, type Span } from "./marks.js";
import { type Outcome, type Reading, type Reconciler, readHistory, reconcile } from "./reconcile.js";
import { leaveRequest, readRequest, removeRequest } from "./store-request.js";

/** Minimum age of a row if no other surface reports calls, in ms. */
export const ALONE_SETTLED_AFTER_MS = 2_000;
/** Minimum age of a row if another process reported calls recently, in ms: its reports have more figures than rows. */
const TOLD_SETTLED_AFTER_MS = 6_000;
/** How long a report of another process counts as recent, in ms. */
const TOLD_LATELY_MS = 600_000;
/** Ratio of the pause to the duration of a look, so that looks take at most a twentieth of a processor. */
const PAUSE_PER_LOOK = 20;
const LONGEST_PAUSE_MS = 60_000;
/** Interval of looks at new rows while history is filled in, in ms. */
const HISTORY_SLICE_MS = 2_000;

/** A process's settings for the session store. */
export interface StoreHost {
  /** The gateway's state directory. */
  stateDir: string;
  /** The session store in the gateway's configuration, which may change. */
  sessionStore?: (() => SessionStore | undefined) | undefined;
  /** Whether this process starts to count rows by itself; otherwise it needs a request. */
  begins: boolean;
  /** Minimum age of a row before it is counted, in ms. */
  settledAfterMs(): number;
  /** Interval of looks, in ms; without it only calls of {@link StoreWatch.look} look. */
  every?: (() => number) | undefined;
  /** Time until the first look, in ms; the interval by default. */
  firstMs?: number | undefined;
  /** Maximum number of waiting calls and records while history is filled in, and while gaps are. */
  most: { history: number; gaps: number };
}

/** The pipeline's functions for the watch. */
export interface Watched {
  /** The plugin's folder. */
  folder: string;
  isOwner(): boolean;
  isOff(): boolean;
  /** The engine's number of the source `stored`, and the names of its facts. */
  source(): { index: number; facts: readonly string[] } | undefined;
  run(work: (engine: Engine) => void): boolean;
  advance(): void;
  /** Number of waiting calls and records. */
  backlog(): number;
  /** Number of observations of other processes so far. */
  spooled(): number;
  instantiate(): Instance;
  warn(text: string): void;
  wall(): number;
  mono(): number;
}

/** Progress of filling in history. */
export interface HistoryProgress extends ReadProgress, Span {
  rows: number;
  isDone: boolean;
  problems: string[];
  skipped: Record<string, number>;
}

/** A process's watch of the session store. */
export class StoreWatch {
  readonly #host: StoreHost;
  readonly #watched: Watched;
  /** Start of this process. It observed no call that ended before, so it is the floor of a new directory. */
  readonly #begun: { wall: number; mono: number };
  #timer: NodeJS.Timeout | undefined;
  #problems = new Set<string>();
  #reading: Reading | undefined;
  #told = { spooled: 0, at: Number.NEGATIVE_INFINITY };
  #looking: Promise<void> | undefined;
  /** Waits for room in the queue. A command sets it to wait longer. */
  waitForRoom: ((most: number) => Promise<boolean>) | undefined;
  /** Progress of the current or the last span of history. */
  history: HistoryProgress | undefined;
  /** Outcome of the last look at new rows. */
  outcome: Outcome | undefined;

  constructor(host: StoreHost, watched: Watched) {
    this.#host = host;
    this.#watched = watched;
    this.#begun = { wall: watched.wall(), mono: watched.mono() };
  }

  /** Starts the watch. The floor is set at once, since the process may be short-lived. */
  open(): void {
    if (this.#watched.isOwner()) this.#begin(false);
    else if (this.#host.begins) this.ask(null);
    if (this.#host.every) this.#lookIn(this.#host.firstMs ?? this.#host.every());
  }

  close(): void {
    clearTimeout(this.#timer);
    void this.#reading?.close();
  }

  /** The watch's part of the status. */
  status(): { history?: HistoryProgress } {
    return this.history && !this.history.isDone ? { history: this.history } : {};
  }

  /** Asks the state directory's owner to read the store, with history from `since` (ms since 1970) unless null. */
  ask(since: number | null): void {
    try {
      if (existsSync(this.#watched.folder)) leaveRequest(this.#watched.folder, { since_ms: since });
    } catch (error) {
      this.#watched.warn(`the journal's owner cannot be asked to read the session store (${String(error)})`);
    }
  }

  /** Time from which calls are counted, in ms since 1970; undefined if it is not set or unknown here. */
  floor(): number | undefined {
    return this.#marks()?.floor;
  }

  /** Whether this process is the first to count on this state directory. */
  isFresh(): boolean {
    return this.floor() === this.#begun.wall && this.history === undefined;
  }

  /** The span of history that is being filled in. */
  planned(): Span | undefined {
    return this.#marks()?.history;
  }

  /**
   * Plans to fill in history from `since` on (ms since 1970). A span that was begun earlier comes first.
   *
   * @returns the span that is filled in next; undefined if all of it is counted already
   */
  plan(since: number): Span | undefined {
    const marks = this.#marks();
    if (marks?.history) return marks.history;
    const floor = marks?.floor ?? this.#begun.wall;
    if (!marks || since >= floor) return undefined;
    const span = { since, until: floor };
    this.#write((writer) => {
      writer.forgetHistory(marks.historyBookmarks.keys());
      writer.history(span);
    });
    return span;
  }

  /** Looks once: reads new rows, and then history for up to {@link HISTORY_SLICE_MS}. */
  async look(): Promise<void> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  async #lookOnce(): Promise<void> {
    const { folder, isOwner, mono } = this.#watched;
    if (!isOwner()) {
      await this.#reading?.close();
      this.#reading = undefined;
      return;
    }
    const { value: request, fault } = readRequest(folder);
    this.#begin(request !== undefined);
    if (request) {
      if (request.since_ms !== null && !this.#covers(request.since_ms)) this.plan(request.since_ms);
      // A request that waits for another span stays until that span is done.
      if (request.since_ms === null || this.#covers(request.since_ms)) await removeRequest(folder);
    }
    const reconciler = this.#reconciler(this.#host.most.gaps);
    if (!reconciler) return;
    this.outcome = await reconcile(reconciler, this.#settledAfterMs());
    this.#watched.advance();
    if (this.#marks()?.history) await this.#fillIn(mono() + HISTORY_SLICE_MS);
    const damaged = fault
      ? [
          `${fault}: no history is filled in for it; remove it, and ask again with agentwatch-openclaw sync --since`,
        ]
      : [];
    const problems = new Set([...damaged, ...this.outcome.problems, ...(this.history?.problems ?? [])]);
    // A problem is logged when it appears, not at each look.
    for (const problem of problems) if (!this.#problems.has(problem)) this.#watched.warn(problem);
    this.#problems = problems;
  }

  /** Sets the floor if there is none, and the time from which rows are matched. */
  #begin(isAsked: boolean): void {
    const marks = this.#marks();
    const { wall, mono } = this.#watched;
    // The floor is in the future, so the clock was ahead. Calls since this process's start are no history.
    if (marks?.floor !== undefined && marks.floor > wall())
      this.#begun.wall = Math.min(this.#begun.wall, Math.floor(wall() - (mono() - this.#begun.mono)));
    if (marks && (marks.floor === undefined || marks.floor > wall()))
      this.#write((writer) => writer.floor(this.#begun.wall));
    if (this.#host.begins || isAsked)
      this.#watched.run((engine) => {
        if (engine.reconciledMs() === undefined) engine.setReconciled(isAsked ? wall() : this.#begun.wall);
      });
  }

  /** Whether history from `since` on is counted or planned. */
  #covers(since: number): boolean {
    const marks = this.#marks();
    return since >= (marks?.history?.since ?? marks?.floor ?? this.#begun.wall);
  }

  /** Fills in history until this time of the monotonic clock, in ms. */
  async #fillIn(until: number): Promise<void> {
    const marks = this.#marks();
    const span = marks?.history;
    const room = async (most: number) => this.#watched.mono() < until && (await this.#hasRoom(most));
    const reconciler = this.#reconciler(this.#host.most.history, room);
    if (!marks || !span || !reconciler) return;
    if (marks.floor !== undefined && marks.floor <= span.since) return this.#finish(marks, span);
    if (!this.#reading || this.#reading.isBroken || this.#reading.outcome.isDone) {
      await this.#reading?.close();
      const progress = { sessions: 0, bytes: 0 };
      this.#reading = readHistory(reconciler, marks, span, progress);
      this.history = Object.assign(progress, span, { rows: 0, isDone: false, problems: [], skipped: {} });
    } else this.#reading.goOnWith(reconciler);
    const { rows, problems, skipped, isDone } = await this.#reading.go();
    Object.assign(this.history ?? {}, { rows, problems, skipped });
    this.#watched.advance();
    // After a problem the span stays planned and is read again.
    if (isDone && problems.length === 0) this.#finish(this.#marks() ?? marks, span);
    else if (isDone && this.history) this.history.isDone = true;
  }

  #finish(marks: Marks, span: Span): void {
    this.#write((writer) => {
      // In this order: after an interruption the remaining marks are recognised as done by the floor.
      writer.floor(span.since);
      writer.history(undefined);
      writer.forgetHistory(marks.historyBookmarks.keys());
    });
    if (this.history) this.history.isDone = true;
  }

  #settledAfterMs(): number {
    const alone = this.#host.settledAfterMs();
    const spooled = this.#watched.spooled();
    if (spooled > this.#told.spooled) this.#told = { spooled, at: this.#watched.mono() };
    const isTold = this.#watched.mono() - this.#told.at < TOLD_LATELY_MS;
    return isTold ? Math.max(alone, TOLD_SETTLED_AFTER_MS) : alone;
  }

  async #hasRoom(most: number): Promise<boolean> {
    this.#watched.advance();
    if (this.waitForRoom) return this.waitForRoom(most);
    return this.#watched.backlog() <= most;
  }

  #reconciler(most: number, room = (limit: number) => this.#hasRoom(limit)): Reconciler | undefined {
    const { source, run, instantiate, wall, mono } = this.#watched;
    const stored = source();
    if (!stored) return undefined;
    const { stateDir } = this.#host;
    const store = this.#host.sessionStore?.();
    const { index, facts } = stored;
    return { stateDir, store, source: index, facts, run, instantiate, room: () => room(most), wall, mono };
  }

  #marks(): Marks | undefined {
    let marks: Marks | undefined;
    this.#watched.run((engine) => {
      marks = readMarks(engine);
    });
    return marks;
  }

  #write(work: (writer: MarkWriter) => void): void {
    const index = this.#watched.source()?.index;
    if (index !== undefined) this.#watched.run((engine) => work(new MarkWriter(engine, index)));
  }

  #lookIn(ms: number): void {
    if (this.#watched.isOff()) return;
    this.#timer = setTimeout(() => void this.#lookNowAndAgain(), ms);
    this.#timer.unref();
  }

  async #lookNowAndAgain(): Promise<void> {
    const before = this.#watched.mono();
    await this.look();
    this.#lookIn(this.pauseAfter(this.#watched.mono() - before));
  }

  /** Pause after a look that took `tookMs`, in ms. */
  pauseAfter(tookMs: number): number {
    const every = this.#host.every?.() ?? 0;
    if (this.history && !this.history.isDone) return Math.min(every, HISTORY_SLICE_MS);
    return Math.max(every, Math.min(tookMs * PAUSE_PER_LOOK, LONGEST_PAUSE_MS));
  }
}
