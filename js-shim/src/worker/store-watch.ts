/**
 * Watches the session store for the process that owns the state directory: fills in what nobody told, and what was
 * there before anybody counted.
 *
 * Nothing is counted twice, whoever runs when: rows from the floor on are matched with all that was told, by whatever
 * process, and rows before it nobody had told. The floor is where the first owner began, and moves back when a span of
 * history was filled in to its end.
 */

import { existsSync } from "node:fs";
import type { Engine, Instance } from "../base/wasm.js";
import type { SessionStore } from "../plugin/session-store.js";
import type { ReadProgress } from "../sessions/store.js";
import { type Marks, MarkWriter, readMarks, type Span } from "./marks.js";
import { type Outcome, type Reading, type Reconciler, readHistory, reconcile } from "./reconcile.js";
import { leaveRequest, readRequest, removeRequest } from "./store-request.js";

/** A row is looked at when it is this old, in ms, where nobody else tells of calls. */
export const ALONE_SETTLED_AFTER_MS = 2_000;
/** The same where another process told of calls lately: it tells more of them than the store does. */
const TOLD_SETTLED_AFTER_MS = 6_000;
const TOLD_LATELY_MS = 600_000;
/** A look that takes long is paid for by a pause, so that looking takes at most a twentieth of a processor. */
const PAUSE_PER_LOOK = 20;
const LONGEST_PAUSE_MS = 60_000;
/** While history is filled in, what is new is looked at so often, in ms. */
const HISTORY_SLICE_MS = 2_000;

/** What a process does with the session store. */
export interface StoreHost {
  /** The gateway's state directory. */
  stateDir: string;
  /** Where its configuration says that sessions are; it may change. */
  sessionStore?: (() => SessionStore | undefined) | undefined;
  /** Whether rows are counted from now on, unless an earlier owner began; otherwise only where somebody asked for it. */
  begins: boolean;
  /** How old a row has to be before it is counted, in ms. */
  settledAfterMs(): number;
  /** When the first look is due and how often then, in ms; without it nobody looks but who calls {@link StoreWatch.look}. */
  every?: (() => number) | undefined;
  firstMs?: number | undefined;
  /** How many calls may wait while history is filled in, and while gaps are. */
  most: { history: number; gaps: number };
}

/** What watching needs of the pipeline. */
export interface Watched {
  /** Our folder. */
  folder: string;
  isOwner(): boolean;
  isOff(): boolean;
  /** The engine's number of the source `stored`, and the names of its facts. */
  source(): { index: number; facts: readonly string[] } | undefined;
  run(work: (engine: Engine) => void): boolean;
  advance(): void;
  /** How many calls and records wait. */
  backlog(): number;
  /** How many observations of other processes were taken in. */
  spooled(): number;
  instantiate(): Instance;
  warn(text: string): void;
  wall(): number;
  mono(): number;
}

/** How far filling in history is. */
export interface HistoryProgress extends ReadProgress, Span {
  rows: number;
  isDone: boolean;
  problems: string[];
  skipped: Record<string, number>;
}

/** One process's watch. */
export class StoreWatch {
  readonly #host: StoreHost;
  readonly #watched: Watched;
  /** When this process began: nothing that ended before was told to it. */
  readonly #begun: { wall: number; mono: number };
  #timer: NodeJS.Timeout | undefined;
  #problems = new Set<string>();
  #reading: Reading | undefined;
  #told = { spooled: 0, at: Number.NEGATIVE_INFINITY };
  #looking: Promise<void> | undefined;
  /** Waits for room; replaced by who has all the time there is. */
  waitForRoom: ((most: number) => Promise<boolean>) | undefined;
  /** The history that was filled in last, or is being. */
  history: HistoryProgress | undefined;
  /** The last look at what is new. */
  outcome: Outcome | undefined;

  constructor(host: StoreHost, watched: Watched) {
    this.#host = host;
    this.#watched = watched;
    this.#begun = { wall: watched.wall(), mono: watched.mono() };
  }

  /** Begins, as soon as the journal is open: a first life may be a short one. */
  open(): void {
    if (this.#watched.isOwner()) this.#begin(false);
    else if (this.#host.begins) this.ask(null);
    if (this.#host.every) this.#lookIn(this.#host.firstMs ?? this.#host.every());
  }

  close(): void {
    clearTimeout(this.#timer);
    void this.#reading?.close();
  }

  /** What a status shows. */
  status(): { history?: HistoryProgress } {
    return this.history && !this.history.isDone ? { history: this.history } : {};
  }

  /** Asks the process that owns the state directory to read the store. */
  ask(since: number | null): void {
    try {
      if (existsSync(this.#watched.folder)) leaveRequest(this.#watched.folder, { since_ms: since });
    } catch (error) {
      this.#watched.warn(`the journal's owner cannot be asked to read the session store (${String(error)})`);
    }
  }

  /** Since when calls are counted; undefined where this process does not know. */
  floor(): number | undefined {
    return this.#marks()?.floor;
  }

  /** Whether nobody ever counted on this state directory before this process. */
  isFresh(): boolean {
    return this.floor() === this.#begun.wall && this.history === undefined;
  }

  /** What is being filled in. */
  planned(): Span | undefined {
    return this.#marks()?.history;
  }

  /**
   * Plans to fill in history from `since` on (ms since 1970), and before that what was begun earlier.
   *
   * @returns what is filled in next; undefined where all of it is counted already
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

  /** Looks once: at what is new, and then a while at history that is to be filled in. */
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
      // One that is behind another span has its turn when that is done.
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
    // Each is told once, and again when it has been away.
    for (const problem of problems) if (!this.#problems.has(problem)) this.#watched.warn(problem);
    this.#problems = problems;
  }

  /** Marks from when on calls are counted, and where the store's rows begin to be ours. */
  #begin(isAsked: boolean): void {
    const marks = this.#marks();
    const { wall, mono } = this.#watched;
    // The clock was ahead: what this process was told since it began is no history.
    if (marks?.floor !== undefined && marks.floor > wall())
      this.#begun.wall = Math.min(this.#begun.wall, Math.floor(wall() - (mono() - this.#begun.mono)));
    if (marks && (marks.floor === undefined || marks.floor > wall()))
      this.#write((writer) => writer.floor(this.#begun.wall));
    if (this.#host.begins || isAsked)
      this.#watched.run((engine) => {
        if (engine.reconciledMs() === undefined) engine.setReconciled(isAsked ? wall() : this.#begun.wall);
      });
  }

  /** Whether history from there on is counted, or planned. */
  #covers(since: number): boolean {
    const marks = this.#marks();
    return since >= (marks?.history?.since ?? marks?.floor ?? this.#begun.wall);
  }

  /** Fills in history until a time of the monotonic clock. */
  async #fillIn(until: number): Promise<void> {
    const marks = this.#marks();
    const span = marks?.history;
    const room = async (most: number) => this.#watched.mono() < until && (await this.#hasRoom(most));
    const reconciler = this.#reconciler(this.#host.most.history, room);
    if (!marks || !span || !reconciler) return;
    if (marks.floor !== undefined && marks.floor <= span.since) return this.#finish(marks, span);
    if (!this.#reading || this.#reading.isBroken || this.#reading.outcome.isDone) {
      const progress = { sessions: 0, bytes: 0 };
      this.#reading = readHistory(reconciler, marks, span, progress);
      this.history = Object.assign(progress, span, { rows: 0, isDone: false, problems: [], skipped: {} });
    } else this.#reading.goOnWith(reconciler);
    const { rows, problems, skipped, isDone } = await this.#reading.go();
    Object.assign(this.history ?? {}, { rows, problems, skipped });
    this.#watched.advance();
    // What could not be read has its turn when it can.
    if (isDone && problems.length === 0) this.#finish(this.#marks() ?? marks, span);
    else if (isDone && this.history) this.history.isDone = true;
  }

  #finish(marks: Marks, span: Span): void {
    this.#write((writer) => {
      // In this order: should it be cut, what is left is known to be done.
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

  /** How long to wait after a look that took so long, in ms. */
  pauseAfter(tookMs: number): number {
    const every = this.#host.every?.() ?? 0;
    if (this.history && !this.history.isDone) return Math.min(every, HISTORY_SLICE_MS);
    return Math.max(every, Math.min(tookMs * PAUSE_PER_LOOK, LONGEST_PAUSE_MS));
  }
}
