/**
 * Watches the session store for the process that owns the state directory: fills in unreported calls, and the history
 * from before the first process counted. The engine decides what is read (`crate/src/engine/store.rs`).
 */

import { existsSync } from "node:fs";
import { reason } from "../base/promises.js";
import type { Engine, Instance, Span } from "../base/wasm.js";
import type { SessionStore } from "../plugin/session-store.js";
import type { ReadProgress } from "../sessions/store.js";
import { askForHistory, STORE } from "./request-file.js";
import { nothing, type Outcome, Reading, type ReadingHost } from "./store-reading.js";

/** Minimum age of a row if no other surface reports calls, in ms. */
export const ALONE_SETTLED_AFTER_MS = 2_000;
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
  /** The engine's number of the source `stored`. */
  source(): number | undefined;
  run(work: (engine: Engine) => void): boolean;
  advance(): void;
  /** Number of waiting calls and records. */
  backlog(): number;
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
  #reading: Reading | undefined;
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
      if (existsSync(this.#watched.folder)) askForHistory(this.#watched.folder, since);
    } catch (error) {
      this.#watched.warn(`the journal's owner cannot be asked to read the session store (${String(error)})`);
    }
  }

  /** Time from which calls are counted, in ms since 1970; undefined if it is not set or unknown here. */
  floor(): number | undefined {
    return this.#engine((engine) => engine.floor());
  }

  /** Whether this process is the first to count on this state directory. */
  isFresh(): boolean {
    return this.floor() === this.#begun.wall && this.history === undefined;
  }

  /** The span of history that is being filled in. */
  planned(): Span | undefined {
    return this.#engine((engine) => engine.history());
  }

  /**
   * Plans to fill in history from `since` on (ms since 1970). A span that was begun earlier comes first.
   *
   * @returns the span that is filled in next; undefined if all of it is counted already
   */
  plan(since: number): Span | undefined {
    const { wall, mono } = this.#watched;
    const begun = this.#begun.wall;
    return this.#engine((engine) => engine.planHistory(since, begun, wall(), mono()));
  }

  /** Looks once: reads new rows, and then history for as long as the engine says. */
  async look(): Promise<void> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  async #lookOnce(): Promise<void> {
    const { folder, isOwner } = this.#watched;
    if (!isOwner()) {
      await this.#reading?.close();
      this.#reading = undefined;
      return;
    }
    const { value: request, fault } = STORE.read(folder);
    let unremoved: string[] = [];
    this.#begin(request !== undefined);
    if (request) {
      if (request.since_ms !== null && !this.#covers(request.since_ms)) this.plan(request.since_ms);
      // A request that waits for another span stays until that span is done.
      if (request.since_ms === null || this.#covers(request.since_ms))
        try {
          STORE.remove(folder);
        } catch (error) {
          unremoved = [`a request that was carried out cannot be removed (${reason(error)}): remove it`];
        }
    }
    const host = this.#readingHost(this.#host.most.gaps);
    if (!host) return;
    this.outcome = await this.#fillGaps(host);
    this.#watched.advance();
    await this.#fillIn();
    const damaged = fault
      ? [
          `${fault}: no history is filled in for it; remove it, and ask again with agentwatch-openclaw sync --since`,
        ]
      : [];
    const problems = [...unremoved, ...damaged, ...this.outcome.problems, ...(this.history?.problems ?? [])];
    this.#engine((engine) => engine.reportStore(problems));
    this.#watched.advance();
  }

  /** Sets the floor if there is none, and the time from which rows are matched. */
  #begin(isAsked: boolean): void {
    const { wall, mono } = this.#watched;
    const { begins } = this.#host;
    const begun = this.#engine((engine) =>
      engine.beginStore(this.#begun.wall, this.#begun.mono, begins, isAsked, wall(), mono()),
    );
    // The clock was ahead.
    if (begun !== undefined) this.#begun.wall = begun;
  }

  /** Whether history from `since` on is counted or planned. */
  #covers(since: number): boolean {
    return this.#engine((engine) => engine.hasHistory(since, this.#begun.wall)) ?? false;
  }

  /** Reads the rows behind the bookmarks, which the engine matches with reported calls; it counts the others. */
  async #fillGaps(host: ReadingHost): Promise<Outcome> {
    const { wall, mono } = this.#watched;
    const alone = this.#host.settledAfterMs();
    const gaps = this.#engine((engine) => engine.gapsToRead(alone, wall(), mono()));
    if (!gaps) return nothing();
    const { since, until, future } = gaps;
    const reading = new Reading(host, { since, until, future, isHistory: false });
    const outcome = await reading.go().finally(() => reading.close());
    if (outcome.isDone && outcome.problems.length === 0)
      this.#engine((engine) => engine.gapsAreRead(since, until, wall(), mono()));
    return outcome;
  }

  /** Fills in history for a while. */
  async #fillIn(): Promise<void> {
    const { wall, mono, advance } = this.#watched;
    const toRead = this.#engine((engine) => engine.historyToRead(wall(), mono()));
    if (!toRead) {
      if (this.history && !this.planned()) this.history.isDone = true;
      return;
    }
    const { since, until, end } = toRead;
    const room = async (most: number) => mono() < end && (await this.#hasRoom(most));
    const host = this.#readingHost(this.#host.most.history, room);
    if (!host) return;
    if (!this.#reading || this.#reading.isBroken || this.#reading.outcome.isDone) {
      await this.#reading?.close();
      const progress = { sessions: 0, bytes: 0 };
      this.#reading = new Reading(host, { since, until, isHistory: true }, progress);
      this.history = Object.assign(progress, {
        ...{ since, until, rows: 0, isDone: false },
        ...{ problems: [], skipped: {} },
      });
    } else this.#reading.goOnWith(host);
    const { rows, problems, skipped, isDone } = await this.#reading.go();
    Object.assign(this.history ?? {}, { rows, problems, skipped });
    advance();
    if (!isDone) return;
    // After a problem the span stays planned and is read again.
    if (problems.length === 0) this.#engine((engine) => engine.endHistory(wall(), mono()));
    if (this.history) this.history.isDone = true;
  }

  async #hasRoom(most: number): Promise<boolean> {
    this.#watched.advance();
    if (this.waitForRoom) return this.waitForRoom(most);
    return this.#watched.backlog() <= most;
  }

  #readingHost(most: number, room = (limit: number) => this.#hasRoom(limit)): ReadingHost | undefined {
    const { source: index, run, instantiate, wall, mono } = this.#watched;
    const source = index();
    if (source === undefined) return undefined;
    const { stateDir } = this.#host;
    const store = this.#host.sessionStore?.();
    return { stateDir, store, source, run, instantiate, room: () => room(most), wall, mono };
  }

  /** Asks the engine; undefined where it failed. */
  #engine<T>(question: (engine: Engine) => T): T | undefined {
    let answer: T | undefined;
    this.#watched.run((engine) => {
      answer = question(engine);
    });
    return answer;
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
    const readsHistory = this.history?.isDone === false;
    return this.#engine((engine) => engine.storePause(tookMs, every, readsHistory)) ?? every;
  }
}
