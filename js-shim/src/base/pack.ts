/** Builds packed events: numbers and one text, which cross into the module together; see `crate/src/bindings/packed.rs`. */

const [ABSENT, FALSE, TRUE, NUMBER, TEXT, LIST] = [0, 1, 2, 3, 4, 5];

/** Longer texts are cut, which bounds the cost of an event. In UTF-16 units. */
const MAX_TEXT = 1024;
/** Texts that are no messages: heartbeats, silent answers, blanks. */
const NOISE = /^(?:HEARTBEAT_OK$|NO_REPLY$|Read HEARTBEAT\.md|$)/i;
/** Length of a preview, where the setting `preview` is on. In UTF-16 units. */
const PREVIEW = 200;

/** One packed event. Its numbers begin with the source's index, ms since 1970 and ms of the monotonic clock. */
export interface PackedEvent {
  numbers: Float64Array;
  texts: string;
}

/** Value of a property whose getter threw. Its own properties are unreadable too, and it is no scalar. */
export const UNREADABLE: unknown = new Proxy(Object.freeze({}), { get: () => UNREADABLE });

/** The names of values in a usage object, as a tree. `at` is a name's number in the module's table. */
export type Names = ReadonlyMap<string, Node>;
interface Node {
  at?: number;
  below?: Map<string, Node>;
  isList?: boolean;
}

/** Builds the tree of a table's names: `a.b` is a value in an object, `a[]` a list of usage objects. */
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

/** Bounds for one usage object: values that cross, properties that are looked at, and objects of a list. */
const [MAX_VALUES, MAX_MEMBERS, MAX_PARTS] = [256, 512, 32];

function read(object: Record<string, unknown>, key: string): unknown {
  try {
    return object[key];
  } catch {
    return UNREADABLE;
  }
}

/** One event under construction. Each picker fills the same object anew. */
export class Pack {
  #numbers = new Float64Array(512);
  #length = 0;
  #texts = "";
  /** Whether previews of texts may cross. */
  hasPreviews = false;

  /** The numbers so far, as a view that the next event overwrites. */
  get numbers(): Float64Array {
    return this.#numbers.subarray(0, this.#length);
  }

  /** The texts so far, each with a NUL character behind it. */
  get texts(): string {
    return this.#texts;
  }

  /** A copy of the event. */
  copy(): PackedEvent {
    return { numbers: this.#numbers.slice(0, this.#length), texts: this.#texts };
  }

  /** Begins an event. @param wall ms since 1970 @param mono ms of the monotonic clock @param facts number of facts that follow */
  begin(source: number, wall: number, mono: number, facts: number): void {
    this.#length = 0;
    this.#texts = "";
    this.#number(source);
    this.#number(wall);
    this.#number(mono);
    this.#number(facts);
  }

  /** Adds a scalar. Any other value, or an unreadable one, becomes an empty list. */
  fact(value: unknown): void {
    switch (typeof value) {
      case "string": {
        const text = value.length > MAX_TEXT ? value.slice(0, MAX_TEXT) : value;
        this.#number(TEXT);
        this.#number(text.length);
        // Without a character between them, halves of surrogate pairs of two texts would become one character.
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

  /** Adds whether a text is no message. */
  noise(value: unknown): void {
    this.#number(typeof value !== "string" || NOISE.test(value.slice(0, MAX_TEXT).trim()) ? TRUE : FALSE);
  }

  /** Adds the beginning of a text, where previews are on. */
  preview(value: unknown): void {
    if (!this.hasPreviews || typeof value !== "string") return this.#number(ABSENT);
    this.fact(value.slice(0, MAX_TEXT).replaceAll("\n", " ").trim().slice(0, PREVIEW));
  }

  /** Adds a time: ms since 1970, or ISO text. */
  time(value: unknown): void {
    this.fact(typeof value === "string" ? Date.parse(value) : value);
  }

  /** Adds the named values of a usage object, as pairs of the name's number and the value. */
  usage(value: unknown, names: Names): void {
    if (typeof value !== "object" || value === null || value === UNREADABLE) return this.#number(ABSENT);
    this.#number(LIST);
    const at = this.#length;
    this.#number(0);
    this.#numbers[at] = 2 * this.#members(value as Record<string, unknown>, names, names, MAX_VALUES);
  }

  /**
   * Adds the named values of an object.
   *
   * @param all names of the usage objects in a list of this one
   * @returns the number of pairs
   */
  #members(object: Record<string, unknown>, names: Names, all: Names | undefined, most: number): number {
    let [count, members] = [0, 0];
    // An object of another plugin may throw at any access: the values before that count.
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

  /** Adds the usage objects of a list, each between a pair that begins it and a pair that ends it. */
  #parts(list: unknown[], at: number, names: Names, most: number): number {
    let count = 0;
    const length = Math.min(list.length, MAX_PARTS);
    for (let index = 0; index < length && count + 2 < most; index += 1) {
      const part = read(list as never, String(index));
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
   * Adds the first value that is a list: at most `most` rows of `facts` facts, each added by `row`. A list that throws is
   * left out.
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
        // An unreadable list counts as absent, as an unreadable fact does.
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
