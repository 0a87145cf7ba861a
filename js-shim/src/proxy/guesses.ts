/**
 * Slows down clients that guess a token. After many wrong tokens further ones, right ones too, are judged one after the
 * other, a few per second: if a right token were answered at once, a client could take a delay for "wrong" and go on guessing. A
 * right token uses no quota.
 */

import { setTimeout as sleep } from "node:timers/promises";

/** Wrong tokens that are judged at once after a quiet time. */
const BURST = 20;
/** Wrong tokens that are judged per second after that. */
const PER_SECOND = 5;
/** Tokens that wait; further ones are not judged. The last one's turn comes before LiteLLM's own timeout. */
const MAX_WAITING = 16;

/** One quota, of all clients. */
export class Guesses {
  readonly #mono: () => number;
  /** Wrong tokens that would be judged at once, and when they were so many. */
  #left = BURST;
  #at: number;
  #waiting = 0;
  #last: Promise<void> = Promise.resolve();

  /** @param mono ms of the monotonic clock */
  constructor(mono: () => number) {
    this.#mono = mono;
    this.#at = mono();
  }

  /**
   * Judges a token, at once or when its turn has come.
   *
   * @param isGone whether nobody waits for the verdict any more
   * @returns undefined where it was not judged, because too many wait
   */
  async judge(isRight: () => boolean, isGone: () => boolean): Promise<boolean | undefined> {
    if (this.#waiting === 0 && this.#pauseMs() === 0) return this.#judged(isRight());
    if (this.#waiting >= MAX_WAITING) return undefined;
    this.#waiting += 1;
    const turn = this.#last.then(async () => {
      if (isGone()) return undefined;
      await sleep(this.#pauseMs());
      return this.#judged(isRight());
    });
    this.#last = turn.then(() => {
      this.#waiting -= 1;
    });
    return turn;
  }

  /** How long until a further token is judged, in ms. */
  #pauseMs(): number {
    const now = this.#mono();
    this.#left = Math.min(BURST, this.#left + ((now - this.#at) * PER_SECOND) / 1_000);
    this.#at = now;
    return this.#left >= 1 ? 0 : Math.ceil(((1 - this.#left) * 1_000) / PER_SECOND);
  }

  #judged(isRight: boolean): boolean {
    if (!isRight) this.#left -= 1;
    return isRight;
  }
}
