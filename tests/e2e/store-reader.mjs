import { setTimeout as sleep } from "node:timers/promises";

/** A database that the gateway had locked for longer than a reading waits. */
const LOCKED = / is (locked|busy)/;
const TRIES = 10;

/**
 * Reads a gateway's session store with the built shim, as the plugin does: in increments, with bookmarks.
 *
 * @typedef {{ model: string, input: number, output: number, cacheRead: number, cacheWrite: number }} Told
 * @typedef {{ told: Told, inherited: boolean, facts: Record<string, any> }} StoredCall
 */
export class StoreReader {
  /** Every call that was read so far, in order. @type {StoredCall[]} */
  found = [];
  /** Of a database that the gateway had locked only in the last reading: the next one reads its rows. @type {string[]} */
  problems = [];
  /** @type {Map<string, string>} */
  #bookmarks = new Map();
  #stateDir;
  /** @type {Promise<{ readStore: any, io: any, names: string[] }> | undefined} */
  #shim;

  /** @param {string} stateDir */
  constructor(stateDir) {
    this.#stateDir = stateDir;
  }

  /**
   * Reads new rows: calls, and copies of calls. It reads again while the gateway has a database locked.
   *
   * @param {{ until?: number }} [options]
   * @returns {Promise<StoredCall[]>}
   */
  async read(options = {}) {
    const from = this.found.length;
    for (let tries = 1; ; tries += 1) {
      this.problems = this.problems.filter((problem) => !LOCKED.test(problem));
      await this.#readOnce(options);
      if (tries === TRIES || !this.problems.some((problem) => LOCKED.test(problem)))
        return this.found.slice(from);
      await sleep(500);
    }
  }

  /** @param {{ until?: number }} options */
  async #readOnce(options) {
    this.#shim ??= loadShim();
    const { readStore, io, names } = await this.#shim;
    for await (const batch of readStore(this.#stateDir, this.#bookmarks, {
      io,
      future: Number.MAX_SAFE_INTEGER,
      ...options,
    })) {
      if (batch.problem) this.problems.push(batch.problem);
      if (batch.skipped) this.problems.push(`${batch.file}: ${JSON.stringify(batch.skipped)}`);
      if (batch.bookmark) this.#bookmarks.set(batch.file, batch.bookmark);
      else this.#bookmarks.delete(batch.file);
      for (const row of batch.rows) {
        const { usage, ...rest } = Object.fromEntries(names.map((name, index) => [name, row[index]]));
        const facts = { ...rest, ...usageOf(usage) };
        if (isRequest(facts)) this.found.push({ told: toldBy(facts), inherited: facts.inherited, facts });
      }
    }
  }
}

/** From `dist/`, which has no types. */
async function loadShim() {
  const load = (/** @type {string} */ file) => import(new URL(`../../dist/${file}`, import.meta.url).href);
  const [{ readStore }, { instantiate }] = await Promise.all([load("store.js"), load("base.js")]);
  const names =
    "provider model usage stop_reason response_id timestamp written entry run_id session_id agent session_key inherited";
  return { readStore, io: instantiate(), names: names.split(" ") };
}

/** The names of usage values, in the order of the core's table. */
const USAGE = "input output cache_read cache_write write_1h reasoning total total_tokens cost".split(" ");

/** A usage object from pairs of a name's number and its value. @param {any[] | null} pairs */
function usageOf(pairs) {
  /** @type {Record<string, any>} */
  const usage = { input: 0, output: 0, cache_read: 0, cache_write: 0 };
  for (let at = 0; at < (pairs?.length ?? 0); at += 2) usage[USAGE[pairs?.[at]] ?? "other"] = pairs?.[at + 1];
  return usage;
}

/** Whether a row is no call: a failure without usage had no answer. @param {Record<string, any>} facts */
function isRequest({ input, output, cache_read, stop_reason }) {
  return input + output + cache_read > 0 || !["error", "aborted"].includes(stop_reason);
}

/** @param {Record<string, any>} facts @returns {Told} */
function toldBy({ model, input, output, cache_read, cache_write }) {
  return { model, input, output, cacheRead: cache_read, cacheWrite: cache_write };
}
