/**
 * One timer for everything that a pipeline does later: passing events to the engine, running due work, writing, sending. One
 * wake-up of the event loop costs more than most of that work.
 */

/** Interval between two wake-ups, in ms. The first event after a pause is handled at once. */
export const TICK_MS = 250;

/** Runs one function at the earliest time that anybody asked for. */
export class Scheduler {
  readonly #mono: () => number;
  readonly #work: () => void;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  /** Time at which the timer fires, in ms of the monotonic clock. */
  #at = Number.POSITIVE_INFINITY;
  #keepsAlive = false;

  constructor(mono: () => number, work: () => void) {
    this.#mono = mono;
    this.#work = work;
  }

  /**
   * Runs the work in at most `ms` ms; at once for 0 and less.
   *
   * @param keepsAlive whether the process stays alive until then
   */
  schedule(ms: number, keepsAlive = false): void {
    if (ms <= 0) {
      this.#immediate ??= setImmediate(this.#run);
      return;
    }
    const now = this.#mono();
    this.#keepsAlive ||= keepsAlive;
    if (this.#at > now + ms || this.#at < now) {
      clearTimeout(this.#timer);
      this.#at = now + ms;
      this.#timer = setTimeout(this.#run, ms);
    }
    if (this.#keepsAlive) this.#timer?.ref();
    else this.#timer?.unref();
  }

  /** Cancels the scheduled run. */
  clear(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#timer = undefined;
    this.#immediate = undefined;
    this.#at = Number.POSITIVE_INFINITY;
    this.#keepsAlive = false;
  }

  readonly #run = (): void => {
    this.clear();
    this.#work();
  };
}
