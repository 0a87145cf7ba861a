/**
 * Skips calls that AgentWatch has from another sender. Such a sender, for example the plugin in the gateway, reports
 * more fields. A receiver that supports record ids lists its calls; AgentWatch 0.1.0 does not.
 */

import { ask } from "../requests/ask.js";
import { asObject } from "./link.js";
import type { PolledCall } from "./poll.js";

/** Maximum difference between the ends of one call in two senders' records, in ms. The receiver uses the same limit. */
const MAX_END_DIFFERENCE_MS = 2_000;
const HOUR_MS = 3_600_000;
/** Hours of history that the receiver lists. */
const MAX_HOURS = 720;
const PAGE = 1_000;
/** Maximum number of pages for one comparison. Calls on later pages, the oldest, are not compared. */
const MAX_PAGES = 100;
/** Maximum number of matched records in memory. */
const MAX_MATCHED = 100_000;
/** Age of the capabilities after which they are requested again, in ms. */
const CAPABILITIES_AGE_MS = 600_000;

/** The receiver does not answer: calls cannot be compared yet. */
export class ReceiverUnreachable extends Error {
  override name = "ReceiverUnreachable";
}

/** A record of another sender. */
interface OtherRecord {
  model: string;
  endMs: number;
}

/** Compares calls with the records of a receiver. */
export class OtherSenders {
  readonly #url: string | undefined;
  readonly #token: string | undefined;
  /** The gateway's name in this process's own records, which are skipped. */
  readonly #gateway: string;
  #capabilities: { lists: boolean; at: number } | undefined;
  /** Ids of records that matched a call: each record matches one call only. */
  readonly #matched = new Set<string>();
  /** Why calls were not compared, for the log. */
  problem: string | undefined;

  constructor(url: string | undefined, token: string | undefined, gateway: string) {
    this.#url = url;
    this.#token = token;
    this.#gateway = gateway;
  }

  /** Whether the receiver lists calls. @throws ReceiverUnreachable */
  async lists(): Promise<boolean> {
    if (this.#url === undefined) return false;
    const known = this.#capabilities;
    if (known && performance.now() - known.at < CAPABILITIES_AGE_MS) return known.lists;
    const { status, body, code } = await ask(`${this.#url}/api/v1/ingest/capabilities`, this.#token);
    if (status === 0 || status >= 500)
      throw new ReceiverUnreachable(`AgentWatch cannot be reached (${code || `HTTP ${status}`})`);
    const lists = Array.isArray(asObject(body).features);
    this.#capabilities = { lists, at: performance.now() };
    return lists;
  }

  /** Returns the calls that no other sender has reported. @throws ReceiverUnreachable */
  async without(calls: PolledCall[]): Promise<PolledCall[]> {
    if (calls.length === 0 || !(await this.lists())) return calls;
    const first = Math.min(...calls.map(({ written }) => written)) - MAX_END_DIFFERENCE_MS;
    const records = await this.#recordsSince(first);
    return calls.filter((call) => !this.#matches(records, call));
  }

  /**
   * Whether a call matches a record that matched no other call: the nearest, since equal calls may follow each other within
   * the limit.
   */
  #matches(records: ReadonlyMap<string, Map<string, OtherRecord>>, call: PolledCall): boolean {
    const model = withoutProvider(call.model ?? "");
    let nearest: string | undefined;
    let least = MAX_END_DIFFERENCE_MS;
    for (const [id, record] of records.get(tokensOf(call)) ?? []) {
      const difference = Math.abs(record.endMs - call.written);
      if (this.#matched.has(id) || record.model !== model || difference > least) continue;
      [nearest, least] = [id, difference];
    }
    if (nearest === undefined) return false;
    this.#matched.add(nearest);
    // A set iterates in insertion order: its first id is the oldest.
    if (this.#matched.size > MAX_MATCHED)
      for (const oldest of this.#matched.values()) return this.#matched.delete(oldest);
    return true;
  }

  /** Other senders' records of calls that ended since `firstMs`, by tokens and id. */
  async #recordsSince(firstMs: number): Promise<Map<string, Map<string, OtherRecord>>> {
    const records = new Map<string, Map<string, OtherRecord>>();
    const hours = Math.min(MAX_HOURS, Math.max(1, Math.ceil((Date.now() - firstMs) / HOUR_MS)));
    for (let page = 0, isMore = true; isMore && page < MAX_PAGES; page += 1) {
      const query = `hours=${hours}&limit=${PAGE}&offset=${page * PAGE}`;
      const { status, body, code } = await ask(`${this.#url}/api/model-usage?${query}`, this.#token);
      if (status === 0 || status >= 500)
        throw new ReceiverUnreachable(`AgentWatch cannot be reached (${code || `HTTP ${status}`})`);
      if (status !== 200 || !Array.isArray(body)) {
        this.problem = `AgentWatch does not list its calls (HTTP ${status}), so calls of other senders may count twice`;
        return records;
      }
      this.problem = undefined;
      for (const record of body) isMore = this.#add(records, asObject(record), firstMs) && isMore;
      isMore &&= body.length === PAGE;
    }
    return records;
  }

  /** Adds a record. The receiver lists the newest first. @returns whether older records are needed */
  #add(
    records: Map<string, Map<string, OtherRecord>>,
    record: Record<string, unknown>,
    firstMs: number,
  ): boolean {
    const { id, model, prompt_tokens, completion_tokens, timestamp, gateway } = record;
    const endMs = typeof timestamp === "string" ? Date.parse(timestamp) : Number.NaN;
    if (Number.isNaN(endMs)) return true;
    if (endMs < firstMs) return false;
    if (gateway === this.#gateway || typeof model !== "string") return true;
    const tokens = `${prompt_tokens} ${completion_tokens}`;
    const same = records.get(tokens) ?? new Map<string, OtherRecord>();
    records.set(tokens, same.set(String(id), { model: withoutProvider(model), endMs }));
    return true;
  }
}

function tokensOf({ prompt, completion }: PolledCall): string {
  return `${prompt} ${completion}`;
}

/** The model's name without its provider, since some senders leave the provider out. */
function withoutProvider(model: string): string {
  return model.slice(model.lastIndexOf("/") + 1);
}
