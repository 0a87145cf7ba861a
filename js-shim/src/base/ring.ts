/**
 * A ring of packed events in shared memory: the gateway's thread writes, the worker reads. It is the worker's redo log: the
 * worker acknowledges a record when the record is journalled, and only then its place is free. A worker that crashed is
 * replaced by one that reads from the last acknowledged record on.
 *
 * A record is a header of 16 bytes (its length in units of 8 bytes, its count of numbers, its count of UTF-16 units), the
 * numbers, and the texts, filled up to 8 bytes. Records are contiguous: where one does not fit before the ring's end, a
 * header without numbers fills the rest.
 */

import { randomUUID } from "node:crypto";
import { type Inbox, momentOf, type QueuedEvent } from "./inbox.js";
import type { PackedEvent } from "./pack.js";

/** Size of the ring, in bytes: enough for 8 s of a thousand events a second. */
const RING_BYTES = 4 * 1024 * 1024;
const UNIT = 8;
const HEADER_UNITS = 2;

// Indexes of the control block. Positions count units and wrap at 2^32.
const HEAD = 0;
const ACKNOWLEDGED = 1;
/** 1 while the worker sleeps until a record is written. */
const SLEEPS = 2;
/** 1 while the engine reads the record at position `OBSERVED`. */
const OBSERVES = 3;
const OBSERVED = 4;
/** See {@link Ring.finish}: 0, {@link ASKED}, {@link DONE}. */
const END = 5;
/** Number of events that found no room. */
const DROPPED = 6;
/** The lock of the disk, so that no record is both in the journal and in the spool: {@link NOBODY}, … */
const DISK_LOCK = 7;
const CONTROL_WORDS = 8;

const ASKED = 1;
const DONE = 2;
const FAILED = 3;
/** How long a reader may take from its last write to its end, in ms. */
const END_MS = 100;

const NOBODY = 0;
/** The reader, from before it writes until it acknowledges what it wrote. */
const READER = 1;
/** The writer, whose process ends. The reader writes nothing any more. */
const WRITER = 2;

/** The memory of a ring, which both threads have. */
export interface RingMemory {
  /** Random name of this ring: marks of another ring are not used. */
  name: string;
  control: SharedArrayBuffer;
  records: SharedArrayBuffer;
}

/** Makes an empty ring. @param bytes its size, a power of two, since positions wrap */
export function makeRing(bytes = RING_BYTES): RingMemory {
  return {
    name: randomUUID(),
    control: new SharedArrayBuffer(CONTROL_WORDS * 4),
    records: new SharedArrayBuffer(bytes),
  };
}

/** Views of a ring's memory. */
class Views {
  readonly control: Int32Array;
  readonly words: Uint32Array;
  readonly numbers: Float64Array;
  readonly text: Buffer;
  /** The ring's size in units. */
  readonly size: number;

  constructor({ control, records }: RingMemory) {
    this.control = new Int32Array(control);
    this.words = new Uint32Array(records);
    this.numbers = new Float64Array(records);
    this.text = Buffer.from(records);
    this.size = records.byteLength / UNIT;
  }

  get(index: number): number {
    return Atomics.load(this.control, index) >>> 0;
  }

  set(index: number, value: number): void {
    Atomics.store(this.control, index, value | 0);
  }

  /** Sets a control word, and wakes the thread that waits for it to change. */
  setAndNotify(index: number, value: number): void {
    this.set(index, value);
    Atomics.notify(this.control, index);
  }
}

/** The writer's side. */
export class Ring {
  readonly memory: RingMemory;
  readonly #views: Views;
  /** Position behind the last record. Only this thread moves it. */
  #head: number;
  /** The head's offset in the ring, in units. */
  #at: number;

  constructor(memory = makeRing()) {
    this.memory = memory;
    this.#views = new Views(memory);
    this.#head = this.#views.get(HEAD);
    this.#at = this.#head % this.#views.size;
  }

  /** Writes an event, and wakes a sleeping reader. An event without room is dropped and counted. */
  push({ numbers, texts }: PackedEvent): void {
    const { size, words, text, control } = this.#views;
    const units = HEADER_UNITS + numbers.length + Math.ceil((texts.length * 2) / UNIT);
    const left = size - this.#at;
    const gap = units > left ? left : 0;
    const used = (this.#head - this.#views.get(ACKNOWLEDGED)) >>> 0;
    if (used + gap + units > size) {
      this.#views.set(DROPPED, this.#views.get(DROPPED) + 1);
      return;
    }
    if (gap > 0) {
      words[this.#at * 2] = gap;
      words[this.#at * 2 + 1] = 0;
      this.#at = 0;
    }
    const word = this.#at * 2;
    words[word] = units;
    words[word + 1] = numbers.length;
    words[word + 2] = texts.length;
    const begin = this.#at + HEADER_UNITS;
    this.#views.numbers.set(numbers, begin);
    if (texts.length > 0) text.write(texts, (begin + numbers.length) * UNIT, "utf16le");
    this.#at = (this.#at + units) % size;
    this.#head = (this.#head + gap + units) >>> 0;
    this.#views.set(HEAD, this.#head);
    if (Atomics.load(control, SLEEPS) === 1) this.wake();
  }

  /** Whether every record is acknowledged. */
  get isEmpty(): boolean {
    return this.#head === this.#views.get(ACKNOWLEDGED);
  }

  /** The position behind the last acknowledged record. */
  get acknowledged(): number {
    return this.#views.get(ACKNOWLEDGED);
  }

  /** Number of events that found no room. */
  get dropped(): number {
    return this.#views.get(DROPPED);
  }

  /** Wakes the reader. */
  wake(): void {
    this.#views.setAndNotify(SLEEPS, 0);
  }

  /** The position of the record that the engine reads; undefined where it reads none. */
  get observed(): number | undefined {
    return this.#views.get(OBSERVES) === 1 ? this.#views.get(OBSERVED) : undefined;
  }

  /** Whether the reader is writing to disk what it has not acknowledged. */
  get isWriting(): boolean {
    return this.#views.get(DISK_LOCK) === READER;
  }

  /**
   * Resets the control words of a reader that ended. If it ended while it was writing, the disk's lock stays: what it wrote is
   * known when the next reader has read the journal and acknowledges.
   */
  reset(): void {
    for (const index of [SLEEPS, OBSERVES, END]) this.#views.set(index, 0);
  }

  /**
   * Asks the reader to journal everything and to end, and blocks this thread until it did, for at most `budgetMs` ms. A
   * reader that is just writing gets `graceMs` ms more, until it has acknowledged what it writes. From then on it writes
   * nothing.
   *
   * @returns whether it did
   */
  finish(budgetMs: number, graceMs: number): boolean {
    const { control } = this.#views;
    this.#views.setAndNotify(END, ASKED);
    this.wake();
    Atomics.wait(control, END, ASKED, budgetMs);
    const until = performance.now() + graceMs;
    while (this.#views.get(END) !== DONE && !this.#takeLock()) {
      const left = until - performance.now();
      if (left > 0) {
        Atomics.wait(control, DISK_LOCK, READER, left);
        // A reader that has written everything ends at once.
        Atomics.wait(control, END, ASKED, Math.min(left, END_MS));
      }
      // A disk that takes no bytes: the reader stops behind this write, and what it has written of it may be told again.
      else this.#views.set(DISK_LOCK, WRITER);
    }
    return this.#views.get(END) === DONE;
  }

  #takeLock(): boolean {
    return Atomics.compareExchange(this.#views.control, DISK_LOCK, NOBODY, WRITER) !== READER;
  }
}

/** An event of the ring, with the position of its record, and the position behind it. */
interface RingEvent extends QueuedEvent {
  at: number;
  end: number;
}

/** The reader's side. Its methods take events that it read itself. */
export class RingReader implements Inbox {
  readonly #views: Views;
  /** Position behind the last record that was taken. */
  #position: number;
  /** Positions of records that are skipped. */
  readonly #skip: Set<number>;
  /** The position of the record at which the engine trapped last. */
  #suspect: number | undefined;
  readonly #name: string;
  /** Positions of records that were skipped, each counted once. */
  readonly #skipped = new Set<number>();

  /** @param skip the positions of records at each of which two workers crashed */
  constructor(memory: RingMemory, skip: readonly number[] = []) {
    this.#views = new Views(memory);
    this.#position = this.#views.get(ACKNOWLEDGED);
    this.#skip = new Set(skip);
    this.#name = memory.name;
  }

  get isEmpty(): boolean {
    return this.#position === this.#views.get(HEAD);
  }

  get dropped(): number {
    return this.#views.get(DROPPED);
  }

  /** Number of records that were skipped because the engine trapped on them twice. */
  get skipped(): number {
    return this.#skipped.size;
  }

  take(): RingEvent[] {
    const { size, words } = this.#views;
    const head = this.#views.get(HEAD);
    const events: RingEvent[] = [];
    while (this.#position !== head) {
      const at = this.#position % size;
      const units = words[at * 2] ?? 0;
      const isRecord = (words[at * 2 + 1] ?? 0) > 0;
      const end = (this.#position + units) >>> 0;
      if (isRecord && this.#skip.has(this.#position)) this.#skipped.add(this.#position);
      else if (isRecord) events.push(this.#read(this.#position, end));
      this.#position = end;
    }
    return events;
  }

  #read(position: number, end: number): RingEvent {
    const { words, numbers, text, size } = this.#views;
    const at = position % size;
    const count = words[at * 2 + 1] ?? 0;
    const begin = at + HEADER_UNITS;
    const textAt = (begin + count) * UNIT;
    const event = {
      numbers: numbers.slice(begin, begin + count),
      texts: text.toString("utf16le", textAt, textAt + (words[at * 2 + 2] ?? 0) * 2),
    };
    return { ...event, ...momentOf(event), at: position, end };
  }

  mark(events: readonly QueuedEvent[]): string | undefined {
    const last = events.at(-1) as RingEvent | undefined;
    return last && `${this.#name} ${last.end}`;
  }

  resume(mark: string): void {
    const [name, position] = mark.split(" ");
    const from = this.#views.get(ACKNOWLEDGED);
    const ahead = (Number(position) - from) >>> 0;
    // Records in front of the mark are journalled, and the reader ended before it acknowledged them.
    if (name !== this.#name || ahead > (this.#views.get(HEAD) - from) >>> 0) return;
    this.#position = (from + ahead) >>> 0;
    this.#views.set(ACKNOWLEDGED, this.#position);
  }

  observing(event: QueuedEvent | undefined): void {
    if (event) this.#views.set(OBSERVED, (event as RingEvent).at);
    this.#views.set(OBSERVES, event ? 1 : 0);
  }

  writing(): void {
    const { control } = this.#views;
    if (Atomics.compareExchange(control, DISK_LOCK, NOBODY, READER) !== WRITER) return;
    // The process ends, and with it this thread.
    Atomics.wait(control, DISK_LOCK, WRITER);
  }

  acknowledge(): void {
    const { control } = this.#views;
    this.#views.set(ACKNOWLEDGED, this.#position);
    if (Atomics.compareExchange(control, DISK_LOCK, READER, NOBODY) === READER)
      Atomics.notify(control, DISK_LOCK);
  }

  rewind(): void {
    const observed = this.#views.get(OBSERVES) === 1 ? this.#views.get(OBSERVED) : undefined;
    this.#views.set(OBSERVES, 0);
    if (observed !== undefined && observed === this.#suspect) this.#skip.add(observed);
    this.#suspect = observed;
    this.#position = this.#views.get(ACKNOWLEDGED);
  }

  /** Resolves as soon as there is a record that was not taken. */
  async recordArrived(): Promise<void> {
    const { control } = this.#views;
    this.#views.set(SLEEPS, 1);
    // The writer of a record before the line above did not see a sleeping reader.
    if (!this.isEmpty) return this.#views.set(SLEEPS, 0);
    const { async, value } = Atomics.waitAsync(control, SLEEPS, 1);
    if (async) await value;
  }

  /** Resolves when the writer asks for the end; {@link RingReader.confirmEnd} answers it. */
  async endRequested(): Promise<void> {
    const { async, value } = Atomics.waitAsync(this.#views.control, END, 0);
    if (async) await value;
  }

  /** Wakes the writer: everything is on disk. */
  confirmEnd(): void {
    this.#views.setAndNotify(END, DONE);
  }

  /** Wakes the writer: the disk does not take what is not acknowledged. */
  failEnd(): void {
    this.#views.set(DISK_LOCK, NOBODY);
    this.#views.setAndNotify(END, FAILED);
  }
}
