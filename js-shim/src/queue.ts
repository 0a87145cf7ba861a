/** Events between the hook path and the core: they wait for a moment, and cross together. */

import { BEAT_MS } from "./beat.js";
import { Pack } from "./pack.js";
import type { Fact } from "./pick.js";
import type { Core } from "./wasm.js";

/** Events that may wait; more are dropped and counted. */
const MAX_QUEUE = 20_000;
/** So many events cross at once. */
const GIVEN = 64;
/** So many are settled at once: what the core makes of them is in its memory until then, which it never gives back. */
const SETTLED = 512;

/** A moment by both clocks: ms since 1970, and ms of the clock that never goes back. */
export interface Moment {
  wall: number;
  mono: number;
}

/** An event's facts: its source's index, and when it came. */
export interface Waiting extends Moment {
  source: number;
  facts: Fact[];
}

/** See above. */
export class Queue {
  readonly #mono: () => number;
  readonly #ask: (ms: number) => void;
  readonly #pack = new Pack();
  #events: Waiting[] = [];
  /** When events were handed over last, in ms of the monotonic clock. */
  #takenAt = Number.NEGATIVE_INFINITY;
  /** How many found no room. */
  dropped = 0;

  /** `ask` is told in how many ms it is time for `take`. */
  constructor(mono: () => number, ask: (ms: number) => void) {
    this.#mono = mono;
    this.#ask = ask;
  }

  /** An event after a pause is handed over at once; those that follow it wait for each other until the next beat. */
  add(event: Waiting): void {
    if (this.#events.length >= MAX_QUEUE) {
      this.dropped += 1;
      return;
    }
    if (this.#events.push(event) === 1) this.#ask(Math.min(this.#takenAt + BEAT_MS - event.mono, BEAT_MS));
  }

  get isEmpty(): boolean {
    return this.#events.length === 0;
  }

  /**
   * Everything that waits, in spans of time as they are gathered: where the event loop was held up, what was due between
   * two events is to be done between them. Where very many come, a span is shorter.
   *
   * @returns the events of each span, and when the next one begins
   */
  take(): Array<[events: Waiting[], until: Moment | undefined]> {
    const events = this.#events;
    this.#events = [];
    this.#takenAt = this.#mono();
    const spans: Array<[Waiting[], Moment | undefined]> = [];
    for (const event of events) {
      const last = spans.at(-1);
      const isIn = last && event.mono - (last[0][0]?.mono ?? 0) < BEAT_MS && last[0].length < SETTLED;
      if (isIn) last[0].push(event);
      else {
        if (last) last[1] = event;
        spans.push([[event], undefined]);
      }
    }
    return spans;
  }

  /**
   * Lets the next of some events cross, from one of them on.
   *
   * @returns up to which of them
   */
  give(core: Core, events: readonly Waiting[], from: number): number {
    const given = events.slice(from, from + GIVEN);
    for (const { source, wall, mono, facts } of given) this.#pack.add(source, wall, mono, facts);
    core.give(...this.#pack.take());
    return from + given.length;
  }
}
