/** Packs the facts of many events into numbers and one text, which cross at once; see `crate/src/packed.rs`. */

import type { Fact } from "./pick.js";

const [ABSENT, FALSE, TRUE, NUMBER, TEXT, LIST] = [0, 1, 2, 3, 4, 5];

/** One pack, filled again and again. */
export class Pack {
  #numbers = new Float64Array(2_048);
  #length = 0;
  #texts = "";

  /** Adds an event: a source's index, when it came by both clocks (ms), and its facts. */
  add(source: number, wall: number, mono: number, facts: readonly Fact[]): void {
    this.#number(source);
    this.#number(wall);
    this.#number(mono);
    this.#list(facts);
  }

  /** What was added since the last time. */
  take(): [numbers: Float64Array, texts: string] {
    const taken: [Float64Array, string] = [this.#numbers.subarray(0, this.#length), this.#texts];
    this.#length = 0;
    this.#texts = "";
    return taken;
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

  #list(facts: readonly Fact[]): void {
    this.#number(facts.length);
    for (const fact of facts) {
      if (typeof fact === "string") {
        this.#number(TEXT);
        this.#number(fact.length);
        // What stands between keeps halves of characters apart.
        this.#texts += `${fact}\0`;
      } else if (typeof fact === "number") {
        this.#number(NUMBER);
        this.#number(fact);
      } else if (typeof fact === "boolean") this.#number(fact ? TRUE : FALSE);
      else if (fact === null) this.#number(ABSENT);
      else {
        this.#number(LIST);
        this.#list(fact);
      }
    }
  }
}
