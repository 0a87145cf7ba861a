/**
 * Takes logged calls over, each once. A log that was not accepted is tried again, and so is one whose answer was lost:
 * its calls are known by then, and are not taken a second time.
 */

import { createHash } from "node:crypto";
import type { LoggedCall } from "./litellm.js";
import type { Pipeline } from "./pipeline.js";

/** Calls that are remembered; LiteLLM tries again within minutes. */
const MOST_KNOWN = 65_536;

/** What an intake needs of a pipeline. */
export type Taker = Pick<Pipeline, "take" | "journalled" | "status">;

/** The intake of one endpoint. */
export class Intake {
  readonly #pipeline: Taker;
  /** Calls that were taken, by their hashes, the oldest first. */
  readonly #known = new Set<string>();

  constructor(pipeline: Taker) {
    this.#pipeline = pipeline;
  }

  /**
   * Takes calls; once it resolves they are on disk.
   *
   * @throws where they are not. What is kept of them is sent when that is possible, and another try adds nothing to it
   */
  async accept(calls: readonly LoggedCall[]): Promise<void> {
    const dropped = this.#dropped();
    const keys = keysOf(calls);
    for (const [index, key] of keys.entries()) {
      if (this.#known.has(key)) continue;
      this.#known.add(key);
      this.#pipeline.take("litellm", [calls[index]]);
    }
    this.#forgetOld();
    await this.#pipeline.journalled();
    if (this.#dropped() === dropped) return;
    // Nobody will read them: the next try has to bring them again.
    for (const key of keys) this.#known.delete(key);
    throw new Error("the process that owns the journal has not read what this one sees for too long");
  }

  #dropped(): number {
    const { off, dropped_spool_full: full } = this.#pipeline.status();
    if (off) throw new Error("counting is switched off after repeated faults; restart this process");
    return Number(full ?? 0);
  }

  #forgetOld(): void {
    for (const key of this.#known) {
      if (this.#known.size <= MOST_KNOWN) return;
      this.#known.delete(key);
    }
  }
}

/** What tells calls apart: all that was logged of them, and how many alike stand before them in the same log. */
function keysOf(calls: readonly LoggedCall[]): string[] {
  const alike = new Map<string, number>();
  return calls.map((call) => {
    const text = JSON.stringify(call);
    const before = alike.get(text) ?? 0;
    alike.set(text, before + 1);
    return createHash("sha256").update(`${before} ${text}`).digest("base64");
  });
}
