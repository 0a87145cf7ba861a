import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { DEFAULT_NAMES } from "../../examples/gateway/provider.mjs";
import { StoreReader } from "./store-reader.mjs";

/** @typedef {import("../../examples/gateway/provider.mjs").LedgerEntry} LedgerEntry */

/**
 * The provider's answers, each compared with the receiver's rows. No two answers have the same tokens.
 *
 * @typedef {object} Comparison
 * @property {number} counted Answers with one row.
 * @property {LedgerEntry[]} lost Answers that the gateway received, without a row.
 * @property {{ entry: LedgerEntry, rows: object[] }[]} twice Answers with several rows.
 * @property {string[]} strange Rows without an answer.
 * @property {LedgerEntry[]} undecided Answers without a row that reached the gateway's socket just before a kill and are
 *   not in its session store.
 * @property {LedgerEntry[]} untold Such answers with a row without tokens: the gateway told the call's end and was killed
 *   before it told the message, which has the tokens.
 * @property {LedgerEntry[]} unreceived Answers that were sent after the gateway was killed.
 * @property {LedgerEntry[]} halved Answers of which the receiver has the cost and not the usage: AgentWatch 0.1.0 stores
 *   a batch's costs first, and was killed before it stored the usage (docs/limits.md).
 */

/**
 * How long before a kill an answer may have ended without the gateway having stored it, in ms. The gateway reads the
 * socket, assembles the message and appends it, on a busy machine that stops it for seconds.
 */
export const UNDECIDED_MS = 10_000;

const TRIES_OF_READING = 10;

/** The model and tokens that identify an answer. @param {{ model: string, prompt: number, output: number }} tokens */
const keyOf = ({ model, prompt, output }) => `${model} ${prompt}/${output}`;

/** End of an answer, in ms since 1970. @param {LedgerEntry} entry */
export const endOf = ({ ts, ms }) => ts + (ms ?? 0);

/**
 * @param {object} sides
 * @param {readonly LedgerEntry[]} sides.ledger
 * @param {string} sides.database The receiver's database.
 * @param {string[]} sides.stateDirs The state directories of all gateways.
 * @param {readonly number[]} sides.kills Times of kills, in ms since 1970.
 * @param {readonly number[]} sides.starts Times at which gateways or commands started, in ms since 1970.
 * @returns {Promise<Comparison>}
 */
export async function compareWithLedger({ ledger, database, stateDirs, kills, starts }) {
  const rows = rowsOf(
    database,
    "SELECT *, prompt_tokens AS prompt, completion_tokens AS output FROM model_usage",
  );
  const costs = rowsOf(database, "SELECT model, input_tokens AS prompt, output_tokens AS output FROM costs");
  const stored = await storedIn(stateDirs);
  /** @type {Comparison} */
  const found = {
    ...{ counted: 0, lost: [], twice: [], strange: [] },
    ...{ undecided: [], untold: [], unreceived: [], halved: [] },
  };
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
    const wasKilledBefore = before(kills) > before(starts);
    const isStored = stored.has(keyOf({ model: entry.model, prompt, output }));
    if (times > 1) found.twice.push({ entry, rows: own });
    else if (times === 1) found.counted += 1;
    else if (wasKilledBefore && !isStored) found.unreceived.push(entry);
    else if (costs.has(key)) found.halved.push(entry);
    else if (isStored || endOf(entry) < kill - UNDECIDED_MS) found.lost.push(entry);
    else if (endOf(entry) > kill) found.unreceived.push(entry);
    else found.undecided.push(entry);
  }
  const all = found.undecided;
  found.undecided = [];
  for (const entry of all) {
    const key = keyOf({ model: `${DEFAULT_NAMES[entry.api]}/${entry.model}`, prompt: 0, output: 0 });
    const [own, ...others] = rows.get(key) ?? [];
    if (own) found.untold.push(entry);
    else found.undecided.push(entry);
    if (others.length > 0) rows.set(key, others);
    else rows.delete(key);
  }
  found.strange = [...rows.keys()];
  return found;
}

/** The receiver's rows of each answer. @param {string} database @param {string} query @returns {Map<string, object[]>} */
function rowsOf(database, query) {
  const connection = new DatabaseSync(database, { readOnly: true });
  try {
    /** @type {Map<string, object[]>} */
    const rows = new Map();
    for (const row of connection.prepare(query).all()) {
      const { model, prompt, output } = row;
      const key = keyOf({ model: String(model), prompt: Number(prompt), output: Number(output) });
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
    for (const { told } of await readWhole(stateDir)) {
      const { model, input, cacheRead, cacheWrite, output } = told;
      stored.add(keyOf({ model, prompt: input + cacheRead + cacheWrite, output }));
    }
  }
  return stored;
}

/** All rows of a session store, whose databases the gateway may have locked for a moment. @param {string} stateDir */
async function readWhole(stateDir) {
  for (let tries = 1; ; tries += 1) {
    const reader = new StoreReader(stateDir);
    const found = await reader.read();
    if (reader.problems.length === 0) return found;
    if (tries === TRIES_OF_READING) throw new Error(reader.problems.join("\n"));
    await sleep(1_000);
  }
}
