/** Packed events on their way to the engine. */

import { randomUUID } from "node:crypto";
import type { PackedEvent } from "./pack.js";
import { TICK_MS } from "./scheduler.js";
import type { Engine } from "./wasm.js";

/** Events that a queue holds at most; more are dropped and counted. */
const MAX_QUEUE = 20_000;
/** Events that cross into the module at once. */
const EVENTS_PER_CROSSING = 64;
/** Events of one span. Their results stay in the engine's memory until due work has run, and that memory never shrinks. */
const EVENTS_PER_SPAN = 512;

/** A moment by both clocks. */
export interface Moment {
  /** ms since 1970. */
  wall: number;
  /** ms of the monotonic clock. */
  mono: number;
}

/** An event in an inbox, with the moment at which it came. */
export interface QueuedEvent extends PackedEvent, Moment {}

/** The source of a pipeline's events: a queue of this thread, or the ring. */
export interface Inbox {
  readonly isEmpty: boolean;
  /** Number of events that found no room. */
  readonly dropped: number;
  /** Number of events that were skipped because the engine trapped on them twice. */
  readonly skipped: number;
  /** Takes every event, in order. An event stays in the inbox until it is acknowledged. */
  take(): QueuedEvent[];
  /** The position behind these events, to be journalled with them; undefined where no later reader could use it. */
  mark(events: readonly QueuedEvent[]): string | undefined;
  /** Continues behind a mark of an earlier reader. */
  resume(mark: string): void;
  /** The engine reads this event next; without an event, it has read the one before. */
  observing(event: QueuedEvent | undefined): void;
  /** Events that were taken are about to be journalled. Returns never where another thread writes them to disk. */
  writing(): void;
  /** Every event that was taken is journalled. */
  acknowledge(): void;
  /** The engine trapped: events that are not acknowledged come again, without an event at which it trapped twice. */
  rewind(): void;
}

/** The moment at which a packed event came. */
export function momentOf({ numbers }: PackedEvent): Moment {
  return { wall: numbers[1] ?? 0, mono: numbers[2] ?? 0 };
}

/** Events of this thread. */
export class Queue implements Inbox {
  readonly #mono: () => number;
  readonly #schedule: (ms: number) => void;
  /** Random name in this queue's marks: marks of another queue are not used. */
  readonly #name = randomUUID();
  #events: QueuedEvent[] = [];
  /** Events that were taken and are not acknowledged. */
  #taken: QueuedEvent[] = [];
  /** Number of acknowledged events. */
  #acknowledged = 0;
  /** Time of the last `take`, in ms of the monotonic clock. */
  #takenAt = Number.NEGATIVE_INFINITY;
  #observed: QueuedEvent | undefined;
  /** The event at which the engine trapped last. */
  #suspect: QueuedEvent | undefined;
  dropped = 0;
  skipped = 0;

  /** @param schedule called with the ms after which `take` is due */
  constructor(mono: () => number, schedule: (ms: number) => void) {
    this.#mono = mono;
    this.#schedule = schedule;
  }

  /** Adds an event. The first event after a pause is due at once; events behind it are due together at the next tick. */
  add(event: PackedEvent): void {
    if (this.#events.length >= MAX_QUEUE) {
      this.dropped += 1;
      return;
    }
    const queued = { ...event, ...momentOf(event) };
    if (this.#events.push(queued) === 1)
      this.#schedule(Math.min(this.#takenAt + TICK_MS - queued.mono, TICK_MS));
  }

  /** Adds an event that the caller passes to the engine itself, behind all others. */
  addTaken(event: PackedEvent): QueuedEvent {
    const taken = { ...event, ...momentOf(event) };
    this.#taken.push(taken);
    return taken;
  }

  get isEmpty(): boolean {
    return this.#events.length === 0;
  }

  take(): QueuedEvent[] {
    const events = this.#events;
    this.#events = [];
    for (const event of events) this.#taken.push(event);
    this.#takenAt = this.#mono();
    return events;
  }

  mark(events: readonly QueuedEvent[]): string | undefined {
    const last = events.at(-1);
    return last && `${this.#name} ${this.#acknowledged + this.#taken.indexOf(last) + 1}`;
  }

  resume(mark: string): void {
    const [name, upTo] = mark.split(" ");
    if (name !== this.#name) return;
    // These events were journalled, and the engine trapped before it acknowledged them.
    const journalled = Math.max(0, Number(upTo) - this.#acknowledged);
    this.#events.splice(0, journalled);
    this.#acknowledged += journalled;
  }

  observing(event: QueuedEvent | undefined): void {
    this.#observed = event;
  }

  writing(): void {}

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
 * Splits events into spans of time. Where this thread was blocked, work that was due between two spans runs between them.
 * A span of very many events is split by their number.
 *
 * @returns the events of each span, and the first event of the next span
 */
export function spansOf(
  events: readonly QueuedEvent[],
): Array<[events: QueuedEvent[], until: Moment | undefined]> {
  const spans: Array<[QueuedEvent[], Moment | undefined]> = [];
  for (const event of events) {
    const last = spans.at(-1);
    const isSameSpan =
      last && event.mono - (last[0][0]?.mono ?? 0) < TICK_MS && last[0].length < EVENTS_PER_SPAN;
    if (isSameSpan) last[0].push(event);
    else {
      if (last) last[1] = event;
      spans.push([[event], undefined]);
    }
  }
  return spans;
}

/**
 * Passes events to the engine in one call, from index `from` on.
 *
 * @returns the index behind the last event that was passed
 */
export function passToEngine(engine: Engine, events: readonly PackedEvent[], from: number): number {
  const passed = events.slice(from, from + EVENTS_PER_CROSSING);
  const numbers = new Float64Array(passed.reduce((sum, event) => sum + event.numbers.length, 0));
  let at = 0;
  for (const event of passed) {
    numbers.set(event.numbers, at);
    at += event.numbers.length;
  }
  engine.give(numbers, passed.map(({ texts }) => texts).join(""));
  return from + passed.length;
}
