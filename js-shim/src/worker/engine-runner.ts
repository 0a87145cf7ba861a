/**
 * Runs work in the engine. An instance that trapped cannot be used again: a new one reads the journal, and the events that
 * are not journalled are passed to it once more.
 */

import { reason } from "../base/promises.js";
import type { Engine } from "../base/wasm.js";

/** More restarts than this within a minute switch the pipeline off. */
const MAX_RESTARTS = 5;
const RESTARTS_WITHIN_MS = 60_000;

/** The functions of the pipeline that a runner calls. */
export interface CoreHost {
  /** Makes an engine that has read the journal. */
  make(): Engine;
  /** Puts the events that are not journalled back into the inbox. */
  rewind(): void;
  /** Called once, when no further engine is made. */
  switchedOff(): void;
  /** ms of the monotonic clock. */
  mono(): number;
  warn(text: string): void;
}

/** Holds the engine and replaces it after a trap. */
export class EngineRunner {
  readonly #host: CoreHost;
  #engine: Engine | undefined;
  /** Times of the last restarts, in ms of the monotonic clock. */
  #restartedAt: number[] = [];
  #isOff = false;
  #hasFailed = false;
  /** Number of restarts after a trap. */
  restarts = 0;

  constructor(host: CoreHost) {
    this.#host = host;
  }

  /** The present engine; another object after a restart. */
  get engine(): Engine | undefined {
    return this.#engine;
  }

  /** Whether no work runs any more: closed, or switched off after repeated faults. */
  get isOff(): boolean {
    return this.#isOff;
  }

  /** Whether the pipeline was closed, and no fault switched it off. */
  get isClosed(): boolean {
    return this.#isOff && !this.#hasFailed;
  }

  /** Runs work in the engine. A trap costs the instance, not the process. @returns whether the work ended without a trap */
  run(work: (engine: Engine) => void): boolean {
    if (!this.#engine || this.#isOff) return false;
    try {
      work(this.#engine);
      return true;
    } catch (error) {
      this.#restart(error);
      return false;
    }
  }

  /** Runs work in the engine of a pipeline that may be closed. An engine that failed for good does none. */
  finish(work: (engine: Engine) => void): void {
    if (!this.#isOff) this.run(work);
    else if (this.#engine && !this.#hasFailed)
      try {
        work(this.#engine);
      } catch (error) {
        this.#hasFailed = true;
        this.#host.warn(`the engine failed at its end (${reason(error)}); please report this`);
      }
  }

  /**
   * Makes an engine: the first one, one for other settings or another journal, or one in the place of an engine that failed with a
   * fault. A fault while it reads the journal costs that instance alone, as one at work does.
   */
  renew(fault?: unknown): void {
    let last = fault;
    for (let faults = 1; ; faults += 1)
      try {
        this.#engine = this.#host.make();
        if (last !== undefined)
          this.#host.warn(
            `the engine was restarted after a fault (${reason(last)}); it reads its events again`,
          );
        return;
      } catch (error) {
        if (!this.#mayRestart(error)) return;
        // Each may have taken so long that the earlier ones are no longer counted.
        if (faults > MAX_RESTARTS) return this.switchOff(error);
        last = error;
      }
  }

  /** Runs no further work. */
  close(): void {
    this.#isOff = true;
  }

  /** Runs no further work, and says why. */
  switchOff(error: unknown): void {
    this.#isOff = true;
    this.#hasFailed = true;
    this.#host.switchedOff();
    this.#host.warn(
      `switched off after repeated faults (${reason(error)}): model calls are not counted until the gateway is restarted; please report this`,
    );
  }

  #restart(error: unknown): void {
    if (!this.#mayRestart(error)) return;
    this.#host.rewind();
    this.renew(error);
  }

  /** Counts a fault. @returns false where there were too many, and the pipeline is off */
  #mayRestart(error: unknown): boolean {
    this.restarts += 1;
    const now = this.#host.mono();
    this.#restartedAt = [...this.#restartedAt.filter((at) => now - at < RESTARTS_WITHIN_MS), now];
    if (this.#restartedAt.length > MAX_RESTARTS) this.switchOff(error);
    return !this.#isOff;
  }
}
