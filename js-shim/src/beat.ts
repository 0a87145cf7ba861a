/**
 * One timer for all that a pipeline does later: handing events over, what is due in the core, writing, sending. A wake of
 * the event loop costs more than most of what is done in it.
 */

/** So far apart are two beats, in ms, but for the one that follows a first event. */
export const BEAT_MS = 250;

/** See above. */
export class Beat {
  readonly #mono: () => number;
  readonly #work: () => void;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  /** When the timer fires, in ms of the monotonic clock. */
  #at = Number.POSITIVE_INFINITY;
  #isHeld = false;

  constructor(mono: () => number, work: () => void) {
    this.#mono = mono;
    this.#work = work;
  }

  /** Lets the work be done within so many ms, or at once; what `holds` keeps the process alive for as long. */
  within(ms: number, holds = false): void {
    if (ms <= 0) {
      this.#immediate ??= setImmediate(this.#run);
      return;
    }
    const now = this.#mono();
    this.#isHeld ||= holds;
    if (this.#at > now + ms || this.#at < now) {
      clearTimeout(this.#timer);
      this.#at = now + ms;
      this.#timer = setTimeout(this.#run, ms);
    }
    if (this.#isHeld) this.#timer?.ref();
    else this.#timer?.unref();
  }

  /** Forgets what was to be done. */
  clear(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#timer = undefined;
    this.#immediate = undefined;
    this.#at = Number.POSITIVE_INFINITY;
    this.#isHeld = false;
  }

  readonly #run = (): void => {
    this.clear();
    this.#work();
  };
}
