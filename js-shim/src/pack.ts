/** Builds packed events: numbers and one text, which cross into the module at once; see `crate/src/packed.rs`. */

const [ABSENT, FALSE, TRUE, NUMBER, TEXT, LIST] = [0, 1, 2, 3, 4, 5];

/** Texts beyond this are cut, so that no event costs more than another. In UTF-16 units. */
const MAX_TEXT = 1024;
/** Texts that are no message of anybody's: heartbeats, silent answers, blanks. */
const NOISE = /^(?:HEARTBEAT_OK$|NO_REPLY$|Read HEARTBEAT\.md|$)/i;
/** How much of a text a preview shows, where the operator asked for previews. In UTF-16 units. */
const PREVIEW = 200;

/** One event, packed. Numbers begin with the source's index and the event's time by both clocks. */
export interface PackedEvent {
  numbers: Float64Array;
  texts: string;
}

/** A property that could not be read: each property of it cannot be read either, and it is no scalar. */
export const UNREADABLE: unknown = new Proxy(Object.freeze({}), { get: () => UNREADABLE });

/** One event under construction, filled by a picker again and again. */
export class Pack {
  #numbers = new Float64Array(512);
  #length = 0;
  #texts = "";
  /** Whether previews of texts may cross. */
  hasPreviews = false;

  /** The numbers so far: a view, which the next event overwrites. */
  get numbers(): Float64Array {
    return this.#numbers.subarray(0, this.#length);
  }

  /** The texts so far, with one character behind each. */
  get texts(): string {
    return this.#texts;
  }

  /** A copy of what was built. */
  copy(): PackedEvent {
    return { numbers: this.#numbers.slice(0, this.#length), texts: this.#texts };
  }

  /** Begins an event: a source's index, when it came (ms since 1970, and ms of the monotonic clock), how many facts follow. */
  begin(source: number, wall: number, mono: number, facts: number): void {
    this.#length = 0;
    this.#texts = "";
    this.#number(source);
    this.#number(wall);
    this.#number(mono);
    this.#number(facts);
  }

  /** Adds a scalar; what is no scalar, or could not be read, is an empty list. */
  fact(value: unknown): void {
    switch (typeof value) {
      case "string": {
        const text = value.length > MAX_TEXT ? value.slice(0, MAX_TEXT) : value;
        this.#number(TEXT);
        this.#number(text.length);
        // The character between keeps halves of surrogate pairs apart.
        this.#texts += `${text}\0`;
        return;
      }
      case "number":
        this.#number(NUMBER);
        return this.#number(value);
      case "boolean":
        return this.#number(value ? TRUE : FALSE);
      case "undefined":
        return this.#number(ABSENT);
      default:
        if (value === null) return this.#number(ABSENT);
        this.#number(LIST);
        this.#number(0);
    }
  }

  /** Adds whether a text is no message of anybody's. */
  noise(value: unknown): void {
    this.#number(typeof value !== "string" || NOISE.test(value.slice(0, MAX_TEXT).trim()) ? TRUE : FALSE);
  }

  /** Adds the beginning of a text, where previews may cross. */
  preview(value: unknown): void {
    if (!this.hasPreviews || typeof value !== "string") return this.#number(ABSENT);
    this.fact(value.slice(0, MAX_TEXT).replaceAll("\n", " ").trim().slice(0, PREVIEW));
  }

  /** Adds a time: ms since 1970, or ISO text. */
  time(value: unknown): void {
    this.fact(typeof value === "string" ? Date.parse(value) : value);
  }

  /**
   * Adds the first of some lists that is one: at most so many rows of so many facts, each added by `row`. A list that throws
   * is left out.
   */
  list(lists: readonly (() => unknown)[], most: number, facts: number, row: (item: unknown) => void): void {
    const [length, texts] = [this.#length, this.#texts];
    for (const list of lists) {
      try {
        const items = list();
        if (!Array.isArray(items)) continue;
        const count = Math.min(items.length, most);
        this.#number(LIST);
        this.#number(count);
        for (let index = 0; index < count; index += 1) {
          const item: unknown = items[index];
          this.#number(LIST);
          this.#number(facts);
          row(item);
        }
        return;
      } catch {
        // As with a fact: what cannot be read is not there.
        this.#length = length;
        this.#texts = texts;
      }
    }
    this.#number(LIST);
    this.#number(0);
  }

  #number(value: number): void {
    if (this.#length === this.#numbers.length) {
      const larger = new Float64Array(2 * this.#length);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#numbers[this.#length] = value;
    this.#length += 1;
  }
}
