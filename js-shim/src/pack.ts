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

/** Names of values in a usage object: each with its number, what stands below it, or whether it is a list of usages. */
export type Names = ReadonlyMap<string, Node>;
interface Node {
  at?: number;
  below?: Map<string, Node>;
  isList?: boolean;
}

/** The names of a table: dots between the parts of one, `[]` behind a list of usages. */
export function namesOf(table: readonly string[]): Names {
  const root = new Map<string, Node>();
  for (const [at, name] of table.entries()) {
    const isList = name.endsWith("[]");
    const parts = (isList ? name.slice(0, -2) : name).split(".");
    let names = root;
    for (const part of parts.slice(0, -1)) {
      const node = names.get(part) ?? {};
      names.set(part, node);
      node.below ??= new Map();
      names = node.below;
    }
    const last = String(parts.at(-1));
    names.set(last, { ...names.get(last), at, isList });
  }
  return root;
}

/** The most values that cross of one usage object, of its own names and of those that nobody knows, and of its lists. */
const [MAX_VALUES, MAX_MEMBERS, MAX_PARTS] = [256, 512, 32];

function read(object: Record<string, unknown>, key: string): unknown {
  try {
    return object[key];
  } catch {
    return UNREADABLE;
  }
}

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

  /** Adds the values of a usage object that have one of these names, as pairs of the name's number and the value. */
  usage(value: unknown, names: Names): void {
    if (typeof value !== "object" || value === null || value === UNREADABLE) return this.#number(ABSENT);
    this.#number(LIST);
    const at = this.#length;
    this.#number(0);
    this.#numbers[at] = 2 * this.#members(value as Record<string, unknown>, names, names, MAX_VALUES);
  }

  /** Adds an object's values that have names; how many. `all` are the names of a usage that is a part of this one. */
  #members(object: Record<string, unknown>, names: Names, all: Names | undefined, most: number): number {
    let [count, members] = [0, 0];
    // A stranger's object may throw wherever it is touched: what crossed until then counts.
    try {
      for (const key in object) {
        members += 1;
        if (members > MAX_MEMBERS || count >= most) break;
        const node = names.get(key);
        if (node) count += this.#member(read(object, key), node, all, most - count);
      }
    } catch {}
    return count;
  }

  #member(value: unknown, { at, below, isList }: Node, all: Names | undefined, most: number): number {
    if (value === undefined || value === null) return 0;
    if (below && typeof value === "object" && value !== UNREADABLE)
      return this.#members(value as Record<string, unknown>, below, undefined, most);
    if (at === undefined) return 0;
    if (isList) return all && Array.isArray(value) ? this.#parts(value, at, all, most) : 0;
    this.#number(NUMBER);
    this.#number(at);
    this.fact(value);
    return 1;
  }

  /** Adds usages that a usage is made of, each between a pair that begins and one that ends it. */
  #parts(list: unknown[], at: number, names: Names, most: number): number {
    let count = 0;
    const length = Math.min(list.length, MAX_PARTS);
    for (let index = 0; index < length && count + 2 < most; index += 1) {
      const part: unknown = list[index];
      if (typeof part !== "object" || part === null) continue;
      this.#flag(at, TRUE);
      count += 2 + this.#members(part as Record<string, unknown>, names, undefined, most - count - 2);
      this.#flag(at, FALSE);
    }
    return count;
  }

  #flag(at: number, flag: number): void {
    this.#number(NUMBER);
    this.#number(at);
    this.#number(flag);
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
