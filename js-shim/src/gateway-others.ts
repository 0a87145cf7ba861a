/**
 * Calls that others told AgentWatch already: the plugin in the gateway, say, which knows more of each. A receiver that knows
 * record ids lists the calls that it has; AgentWatch 0.1.0 does not.
 */

import { ask } from "./ask.js";
import { asObject } from "./gateway-link.js";
import type { PolledCall } from "./gateway-poll.js";

/** The ends of one call, told by two, are this close at most, in ms: as the receiver compares them. */
const CLOSE_MS = 2_000;
const HOUR_MS = 3_600_000;
/** So far back the receiver lists calls. */
const MOST_HOURS = 720;
const PAGE = 1_000;
/** The most pages that are read at once: of a history with more calls the oldest are not compared. */
const MOST_PAGES = 100;
/** So many tellings are remembered. */
const MOST_TAKEN = 100_000;
/** After so long a receiver is asked anew what it is, in ms. */
const KIND_AGE_MS = 600_000;

/** The receiver does not answer: what would be compared waits. */
export class ReceiverAway extends Error {
  override name = "ReceiverAway";
}

/** A call that somebody else told. */
interface Told {
  model: string;
  endMs: number;
}

/** Compares calls with those of a receiver. */
export class OthersCalls {
  readonly #url: string | undefined;
  readonly #token: string | undefined;
  /** How this process names the gateway: its own calls are none of others'. */
  readonly #gateway: string;
  #kind: { lists: boolean; at: number } | undefined;
  /** Those that the calls of earlier looks were taken for: each is one call. */
  readonly #taken = new Set<string>();
  /** Why it could not compare, for the log. */
  problem: string | undefined;

  constructor(url: string | undefined, token: string | undefined, gateway: string) {
    this.#url = url;
    this.#token = token;
    this.#gateway = gateway;
  }

  /** Whether the receiver lists calls. @throws ReceiverAway */
  async lists(): Promise<boolean> {
    if (this.#url === undefined) return false;
    if (this.#kind && performance.now() - this.#kind.at < KIND_AGE_MS) return this.#kind.lists;
    const { status, body, code } = await ask(`${this.#url}/api/v1/ingest/capabilities`, this.#token);
    if (status === 0 || status >= 500)
      throw new ReceiverAway(`AgentWatch is away (${code || `HTTP ${status}`})`);
    this.#kind = { lists: Array.isArray(asObject(body).features), at: performance.now() };
    return this.#kind.lists;
  }

  /** Those of the calls that nobody else told. @throws ReceiverAway */
  async without(calls: PolledCall[]): Promise<PolledCall[]> {
    if (calls.length === 0 || !(await this.lists())) return calls;
    const first = Math.min(...calls.map(({ written }) => written)) - CLOSE_MS;
    const told = await this.#toldSince(first);
    return calls.filter((call) => !this.#takes(told, call));
  }

  /** Whether somebody told a call; that telling is of no other call then. */
  #takes(told: ReadonlyMap<string, Map<string, Told>>, call: PolledCall): boolean {
    const model = short(call.model ?? "");
    for (const [id, one] of told.get(sizeOf(call)) ?? []) {
      if (this.#taken.has(id) || one.model !== model || Math.abs(one.endMs - call.written) > CLOSE_MS)
        continue;
      this.#taken.add(id);
      // The oldest is the first.
      if (this.#taken.size > MOST_TAKEN)
        for (const oldest of this.#taken.values()) return this.#taken.delete(oldest);
      return true;
    }
    return false;
  }

  /** What others told of calls that ended since then, by tokens and id. */
  async #toldSince(firstMs: number): Promise<Map<string, Map<string, Told>>> {
    const told = new Map<string, Map<string, Told>>();
    const hours = Math.min(MOST_HOURS, Math.max(1, Math.ceil((Date.now() - firstMs) / HOUR_MS)));
    for (let page = 0, isMore = true; isMore && page < MOST_PAGES; page += 1) {
      const query = `hours=${hours}&limit=${PAGE}&offset=${page * PAGE}`;
      const { status, body, code } = await ask(`${this.#url}/api/model-usage?${query}`, this.#token);
      if (status === 0 || status >= 500)
        throw new ReceiverAway(`AgentWatch is away (${code || `HTTP ${status}`})`);
      if (status !== 200 || !Array.isArray(body)) {
        this.problem = `AgentWatch does not list its calls (HTTP ${status}), so they are not compared with those of other ways`;
        return told;
      }
      this.problem = undefined;
      for (const record of body) isMore = this.#keep(told, asObject(record), firstMs) && isMore;
      isMore &&= body.length === PAGE;
    }
    return told;
  }

  /** Keeps a record of the receiver, newest first; whether older ones matter too. */
  #keep(told: Map<string, Map<string, Told>>, record: Record<string, unknown>, firstMs: number): boolean {
    const { id, model, prompt_tokens, completion_tokens, timestamp, gateway } = record;
    const endMs = typeof timestamp === "string" ? Date.parse(timestamp) : Number.NaN;
    if (Number.isNaN(endMs)) return true;
    if (endMs < firstMs) return false;
    if (gateway === this.#gateway || typeof model !== "string") return true;
    const size = `${prompt_tokens} ${completion_tokens}`;
    const same = told.get(size) ?? new Map<string, Told>();
    told.set(size, same.set(String(id), { model: short(model), endMs }));
    return true;
  }
}

function sizeOf({ prompt, completion }: PolledCall): string {
  return `${prompt} ${completion}`;
}

/** A model without its provider, which one of two may leave out. */
function short(model: string): string {
  return model.slice(model.lastIndexOf("/") + 1);
}
