import { DatabaseSync } from "node:sqlite";
import { DEFAULT_NAMES } from "../../examples/gateway/provider.mjs";
import { StoreReader } from "./store-reader.mjs";

/** @typedef {import("../../examples/gateway/provider.mjs").LedgerEntry} LedgerEntry */

/**
 * What became of every answer of the provider, one by one: no two have the same tokens.
 *
 * @typedef {object} Account
 * @property {number} counted Answers that were counted once.
 * @property {LedgerEntry[]} lost Answers that the gateway received, and nobody counted.
 * @property {{ entry: LedgerEntry, rows: object[] }[]} twice Answers of which the receiver has several rows.
 * @property {string[]} strange Rows of the receiver to which there is no answer.
 * @property {LedgerEntry[]} undecided Answers that reached the gateway's socket when it was killed, and that nothing
 *   of the gateway ever knew: its session store has not got them either.
 * @property {LedgerEntry[]} unreceived Answers that a socket took whose gateway had been killed meanwhile, or before the
 *   provider came to read what it had asked.
 */

/**
 * How long before a kill an answer may have ended for the gateway to have had no time to write it anywhere, in ms: it
 * has to read the socket, assemble the message, and append it, on a machine that does much else.
 */
export const UNDECIDED_MS = 1_000;

/** The tokens by which an answer is known. @param {{ model: string, prompt: number, output: number }} tokens */
const keyOf = ({ model, prompt, output }) => `${model} ${prompt}/${output}`;

/** When an answer had been sent, Unix ms. @param {LedgerEntry} entry */
export const endOf = ({ ts, ms }) => ts + (ms ?? 0);

/**
 * @param {object} sides
 * @param {readonly LedgerEntry[]} sides.ledger
 * @param {string} sides.database The receiver's.
 * @param {string[]} sides.stateDirs Of all gateways.
 * @param {readonly number[]} sides.kills When gateways were killed, Unix ms.
 * @param {readonly number[]} sides.births When something that asks models was started, Unix ms.
 * @returns {Promise<Account>}
 */
export async function account({ ledger, database, stateDirs, kills, births }) {
  const rows = rowsOf(database);
  const stored = await storedIn(stateDirs);
  /** @type {Account} */
  const found = { counted: 0, lost: [], twice: [], strange: [], undecided: [], unreceived: [] };
  for (const entry of ledger) {
    if (!entry.usage) continue;
    const { input, cacheRead, cacheWrite, output } = entry.usage;
    const provider = DEFAULT_NAMES[entry.api];
    const prompt = input + cacheRead + cacheWrite;
    const key = keyOf({ model: `${provider}/${entry.model}`, prompt, output });
    const own = rows.get(key) ?? [];
    const times = own.length;
    rows.delete(key);
    const kill = kills.find((at) => at > entry.ts) ?? Number.POSITIVE_INFINITY;
    const before = (/** @type {readonly number[]} */ times) => times.findLast((at) => at <= entry.ts) ?? 0;
    const isOfTheDead = before(kills) > before(births);
    const isStored = stored.has(keyOf({ model: entry.model, prompt, output }));
    if (times > 1) found.twice.push({ entry, rows: own });
    else if (times === 1) found.counted += 1;
    else if (isOfTheDead && !isStored) found.unreceived.push(entry);
    else if (isStored || endOf(entry) < kill - UNDECIDED_MS) found.lost.push(entry);
    else if (endOf(entry) > kill) found.unreceived.push(entry);
    else found.undecided.push(entry);
  }
  found.strange = [...rows.keys()];
  return found;
}

/** What the receiver has of each call. @param {string} database @returns {Map<string, object[]>} */
function rowsOf(database) {
  const connection = new DatabaseSync(database, { readOnly: true });
  try {
    /** @type {Map<string, object[]>} */
    const rows = new Map();
    for (const row of connection.prepare("SELECT * FROM model_usage").all()) {
      const { model, prompt_tokens, completion_tokens } = row;
      const key = keyOf({
        model: String(model),
        prompt: Number(prompt_tokens),
        output: Number(completion_tokens),
      });
      rows.set(key, [...(rows.get(key) ?? []), row]);
    }
    return rows;
  } finally {
    connection.close();
  }
}

/** @param {string[]} stateDirs */
async function storedIn(stateDirs) {
  /** @type {Set<string>} */
  const stored = new Set();
  for (const stateDir of stateDirs) {
    const reader = new StoreReader(stateDir);
    for (const { told } of await reader.read()) {
      const { model, input, cacheRead, cacheWrite, output } = told;
      stored.add(keyOf({ model, prompt: input + cacheRead + cacheWrite, output }));
    }
    if (reader.problems.length > 0) throw new Error(reader.problems.join("\n"));
  }
  return stored;
}
