/**
 * Runs work in the core. An instance that trapped cannot be used again: a new one reads the journal, and the events that
 * are not journalled are passed to it once more.
 */

import { reason } from "./promises.js";
import type { Core } from "./wasm.js";

/** More restarts than this within a minute switch the pipeline off. */
const MAX_RESTARTS = 5;
const RESTARTS_WITHIN_MS = 60_000;

/** The functions of the pipeline that a runner calls. */
export interface CoreHost {
  /** Makes a core that has read the journal. */
  make(): Core;
  /** Puts the events that are not journalled back into the inbox. */
  rewind(): void;
  /** Called once, when no further core is made. */
  switchedOff(): void;
  /** ms of the monotonic clock. */
  mono(): number;
  warn(text: string): void;
}

/** Holds the core and replaces it after a trap. */
export class CoreRunner {
  readonly #host: CoreHost;
  #core: Core | undefined;
  /** Times of the last restarts, in ms of the monotonic clock. */
  #restartedAt: number[] = [];
  #isOff = false;
  /** Number of restarts after a trap. */
  restarts = 0;

  constructor(host: CoreHost) {
    this.#host = host;
  }

  /** The present core; another object after a restart. */
  get core(): Core | undefined {
    return this.#core;
  }

  /** Whether no work runs any more: closed, or switched off after repeated faults. */
  get isOff(): boolean {
    return this.#isOff;
  }

  /** Runs work in the core. A trap costs the instance, not the process. @returns whether the work ended without a trap */
  run(work: (core: Core) => void): boolean {
    if (!this.#core || this.#isOff) return false;
    try {
      work(this.#core);
      return true;
    } catch (error) {
      this.#restart(error);
      return false;
    }
  }

  /** Replaces the core, for other settings or another journal. */
  renew(): void {
    try {
      this.#core = this.#host.make();
    } catch (error) {
      this.switchOff(error);
    }
  }

  /** Runs no further work. */
  close(): void {
    this.#isOff = true;
  }

  /** Runs no further work, and says why. */
  switchOff(error: unknown): void {
    this.#isOff = true;
    this.#host.switchedOff();
    this.#host.warn(
      `switched off after repeated faults (${reason(error)}): model calls are not counted until the gateway is restarted; please report this`,
    );
  }

  #restart(error: unknown): void {
    this.restarts += 1;
    const now = this.#host.mono();
    this.#restartedAt = [...this.#restartedAt.filter((at) => now - at < RESTARTS_WITHIN_MS), now];
    if (this.#restartedAt.length > MAX_RESTARTS) {
      this.switchOff(error);
      return;
    }
    try {
      this.#host.rewind();
      this.#core = this.#host.make();
      this.#host.warn(`the core was restarted after a fault (${reason(error)}); nothing is lost`);
    } catch (again) {
      this.switchOff(again);
    }
  }
}
