/** Packed events between the handlers that tell of them and the core. */

import { randomUUID } from "node:crypto";
import { BEAT_MS } from "./beat.js";
import type { PackedEvent } from "./pack.js";
import type { Core } from "./wasm.js";

/** Events that may wait in memory; more are dropped and counted. */
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

/** An event that waits, and when it came. */
export interface Waiting extends PackedEvent, Moment {}

/** Where a pipeline's events wait. */
export interface Inbox {
  readonly isEmpty: boolean;
  /** How many found no room. */
  readonly dropped: number;
  /** How many were skipped, since readers died of them. */
  readonly skipped: number;
  /** Takes everything that waits, in its order. */
  take(): Waiting[];
  /** How far reading is behind these events, to be kept with what came of them; nothing where nobody could go on there. */
  mark(events: readonly Waiting[]): string | undefined;
  /** Goes on behind a mark that a former reader left. */
  resume(mark: string): void;
  /** The core is about to read an event, or, without one, is done with it. */
  observing(event: Waiting | undefined): void;
  /** Everything that was taken is kept. */
  acknowledge(): void;
  /** The core died: what is not acknowledged comes again, but for an event at which it died twice. */
  rewind(): void;
}

/** When a packed event came. */
export function momentOf({ numbers }: PackedEvent): Moment {
  return { wall: numbers[1] ?? 0, mono: numbers[2] ?? 0 };
}

/** Events of this thread. */
export class Queue implements Inbox {
  readonly #mono: () => number;
  readonly #ask: (ms: number) => void;
  /** Tells this queue's marks from those of others. */
  readonly #name = randomUUID();
  /** Events that wait, and those that were taken and are not acknowledged. */
  #events: Waiting[] = [];
  #taken: Waiting[] = [];
  /** How many were acknowledged. */
  #acknowledged = 0;
  /** When events were taken last, in ms of the monotonic clock. */
  #takenAt = Number.NEGATIVE_INFINITY;
  #observed: Waiting | undefined;
  #suspect: Waiting | undefined;
  dropped = 0;
  skipped = 0;

  /** `ask` is told in how many ms it is time for `take`. */
  constructor(mono: () => number, ask: (ms: number) => void) {
    this.#mono = mono;
    this.#ask = ask;
  }

  /** An event after a pause is handed over at once; those that follow it wait for each other until the next beat. */
  add(event: PackedEvent): void {
    if (this.#events.length >= MAX_QUEUE) {
      this.dropped += 1;
      return;
    }
    const waiting = { ...event, ...momentOf(event) };
    if (this.#events.push(waiting) === 1)
      this.#ask(Math.min(this.#takenAt + BEAT_MS - waiting.mono, BEAT_MS));
  }

  /** An event that is handed over at once, behind all others. */
  addTaken(event: PackedEvent): Waiting {
    const taken = { ...event, ...momentOf(event) };
    this.#taken.push(taken);
    return taken;
  }

  get isEmpty(): boolean {
    return this.#events.length === 0;
  }

  take(): Waiting[] {
    const events = this.#events;
    this.#events = [];
    for (const event of events) this.#taken.push(event);
    this.#takenAt = this.#mono();
    return events;
  }

  mark(events: readonly Waiting[]): string | undefined {
    const last = events.at(-1);
    return last && `${this.#name} ${this.#acknowledged + this.#taken.indexOf(last) + 1}`;
  }

  resume(mark: string): void {
    const [name, upto] = mark.split(" ");
    if (name !== this.#name) return;
    // What is journalled was not acknowledged any more.
    const kept = Math.max(0, Number(upto) - this.#acknowledged);
    this.#events.splice(0, kept);
    this.#acknowledged += kept;
  }

  observing(event: Waiting | undefined): void {
    this.#observed = event;
  }

  acknowledge(): void {
    this.#acknowledged += this.#taken.length;
    this.#taken = [];
  }

  rewind(): void {
    const suspect = this.#observed;
    this.#observed = undefined;
    this.#events = [...this.#taken, ...this.#events];
    this.#taken = [];
    if (suspect && suspect === this.#suspect) {
      this.skipped += 1;
      this.#events.splice(this.#events.indexOf(suspect), 1);
    }
    this.#suspect = suspect;
  }
}

/**
 * Events in spans of time as they are gathered: where the thread was held up, what was due between two events is to be
 * done between them. Where very many come, a span is shorter.
 *
 * @returns the events of each span, and when the next one begins
 */
export function spansOf(events: readonly Waiting[]): Array<[events: Waiting[], until: Moment | undefined]> {
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
export function give(core: Core, events: readonly PackedEvent[], from: number): number {
  const given = events.slice(from, from + GIVEN);
  const numbers = new Float64Array(given.reduce((sum, event) => sum + event.numbers.length, 0));
  let at = 0;
  for (const event of given) {
    numbers.set(event.numbers, at);
    at += event.numbers.length;
  }
  core.give(numbers, given.map(({ texts }) => texts).join(""));
  return from + given.length;
}
