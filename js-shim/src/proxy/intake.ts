/**
 * Takes the calls of a log, each once. LiteLLM sends a log again when it was not accepted, and when the answer was lost:
 * calls that were taken before are skipped then.
 */

import { createHash } from "node:crypto";
import type { Pipeline } from "../worker/pipeline.js";
import type { LoggedCall } from "./litellm.js";

/** Calls that are remembered: LiteLLM retries within minutes. */
const MAX_KNOWN = 65_536;

/** The functions of a pipeline that an intake calls. */
export type IntakePipeline = Pick<Pipeline, "take" | "journalled" | "status">;

/** The intake of one endpoint. */
export class Intake {
  readonly #pipeline: IntakePipeline;
  /** Hashes of the calls that were taken, the oldest first. */
  readonly #known = new Set<string>();

  constructor(pipeline: IntakePipeline) {
    this.#pipeline = pipeline;
  }

  /**
   * Takes calls. They are on disk when it resolves.
   *
   * @throws where they are not on disk. Calls that are in memory are sent all the same; a retry does not count them again
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
    // These calls are lost here: the next retry has to bring them again.
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
      if (this.#known.size <= MAX_KNOWN) return;
      this.#known.delete(key);
    }
  }
}

/** A hash that identifies each call: of everything logged, and of the number of equal calls before it in the same log. */
function keysOf(calls: readonly LoggedCall[]): string[] {
  const equal = new Map<string, number>();
  return calls.map((call) => {
    const text = JSON.stringify(call);
    const before = equal.get(text) ?? 0;
    equal.set(text, before + 1);
    return createHash("sha256").update(`${before} ${text}`).digest("base64");
  });
}
