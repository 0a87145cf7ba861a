// What a plugin leaves in a state directory when its gateway is killed: calls and records that wait, open calls, match
// records, bookmarks, another process's spool, and a collector's state. The plugin may be of any checkout.
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Collector } from "./collector.mjs";
import { Flaky, sleep, until } from "./flaky.mjs";
import { lines, recorded } from "./world.mjs";

const LIFE = fileURLToPath(new URL("life.mjs", import.meta.url));
export const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** When the owner has written everything, marks of what has left among it, and has looked into the session store, in ms. */
const KEPT_MS = 2_500;
const LOOKED_MS = 6_500;
/** Behind so many ms without a request everything was sent. */
const QUIET_MS = 3_000;

/**
 * @typedef {object} LifeOptions
 * @property {string} project The checkout whose `dist/` lives.
 * @property {string} stateDir
 * @property {string} url Of the receiver.
 * @property {string} collector
 * @property {number} at What the clock says at first, ms since 1970.
 * @property {import("./world.mjs").Sdk} sdk
 */

/** A gateway's process. */
export class Life {
  /** @type {string[]} */
  log = [];
  /** @param {LifeOptions} options @param {string} temporary */
  constructor(options, temporary) {
    const env = { ...process.env, TMPDIR: temporary };
    this.child = fork(LIFE, [JSON.stringify(options)], { env });
    this.child.on("message", (/** @type {any} */ { log }) => {
      this.log = log;
    });
  }

  /** @param {LifeOptions} options @param {string} temporary A folder that is removed some time. */
  static async begin(options, temporary) {
    const life = new Life(options, temporary);
    await life.#answer();
    return life;
  }

  async #answer() {
    const ended = once(this.child, "exit").then(([code, signal]) => {
      throw new Error(`the process ended (${code ?? signal}):\n${this.log.join("\n")}`);
    });
    ended.catch(() => {});
    await Promise.race([once(this.child, "message"), ended]);
  }

  /** @param {object} order */
  async does(order) {
    const answered = this.#answer();
    this.child.send(order);
    await answered;
  }

  /** Events of a recording, at their times; the clock is then set. @param {string} version @param {number} from @param {number} [to] @param {number} [until] */
  replay(version, from, to, until) {
    return this.does({ replay: [version, from, to], until });
  }

  pause() {
    this.child.kill("SIGSTOP");
  }

  async #ended() {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
  }

  async kill() {
    this.child.kill("SIGKILL");
    await this.#ended();
  }

  async stop() {
    await this.does({ stop: true });
    await this.#ended();
  }
}

/**
 * The recordings of a state directory, in the order of their times, each with how many of its events were told before the
 * kill; the others may be told to whoever comes next.
 *
 * @typedef {{ sdk: import("./world.mjs").Sdk, told: Record<string, number> }} Kind
 */

/** @type {Record<string, Kind>} */
export const KINDS = {
  // Of the last call of the second recording and of the third its timing is told alone.
  calls: { sdk: "calls", told: { "2026.9.6": 142, "2026.8.2": 56, "2026.6.11": 35 } },
  // The first life ends before the sum of a run of which it heard the calls, the second before the sum of its last call.
  totals: { sdk: "totals", told: { "2026.3.13": 39 } },
};

/** When the first event of a recording was told. @param {string} version @param {number} [index] */
export const timeOf = (version, index = 0) => recorded(version).at(index)?.ts ?? 0;

/** When everything of a kind's recordings was told. @param {Kind} kind */
export function endOf({ told }) {
  return Math.max(...Object.keys(told).map((version) => timeOf(version, -1)));
}

/** Writes what a recording's session store held at a time, as JSONL. @param {string} stateDir @param {string} version @param {number} until */
export function writeStore(stateDir, version, until) {
  /** @type {Map<string, string>} */
  const files = new Map();
  for (const { agent, session_id: id, row } of lines(version, "transcript.jsonl")) {
    const path = join(stateDir, "agents", agent, "sessions", `${id}.jsonl`);
    if (Date.parse(row.timestamp) <= until)
      files.set(path, `${files.get(path) ?? ""}${JSON.stringify(row)}\n`);
  }
  for (const [path, text] of files) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}

/** What receiver and collector have. @typedef {{ flaky: Flaky, collector: Collector }} Outlets */

/** @param {"ids" | "stock"} kind @returns {Promise<Outlets>} */
export async function outlets(kind) {
  const flaky = await Flaky.open(kind);
  return { flaky, collector: await Collector.open() };
}

/**
 * Lets a checkout's plugin live and be killed on a state directory.
 *
 * @param {string} name Of the kind.
 * @param {{ project: string, stateDir: string, temporary: string, outlets: Outlets }} place
 */
export async function live(name, { project, stateDir, temporary, outlets: { flaky, collector } }) {
  const { sdk, told } = KINDS[name] ?? Object.values(KINDS)[0];
  const options = { project, stateDir, url: flaky.url, collector: collector.url, sdk };
  const begin = (/** @type {number} */ at) => Life.begin({ ...options, at }, temporary);
  const versions = Object.keys(told);
  const [first = "", second = first, third] = versions;
  const half = second === first ? Math.floor((told[first] ?? 0) / 2) : told[first];

  // All is well.
  const well = await begin(timeOf(first) - 1_000);
  await well.replay(first, 0, half);
  await well.does({ sleep: KEPT_MS });
  await well.kill();
  writeStore(stateDir, first, timeOf(first, (half ?? 0) - 1));

  // AgentWatch and the collector go away: AgentWatch behind a batch whose answer is lost.
  collector.reply = () => ({ status: 503 });
  const begun = second === first ? (half ?? 0) : 0;
  const owner = await begin(timeOf(second, begun) - 1_000);
  await owner.does({ sleep: LOOKED_MS });
  const parts = /** @type {const} */ ([
    ["well", 0, 10],
    ["lose", 10, 18],
  ]);
  for (const [fault, from, to] of parts) {
    flaky.fault = fault;
    const before = flaky.usage.length;
    await owner.replay(second, begun + from, begun + to);
    await until(() => flaky.usage.length > before);
  }
  flaky.fault = "refuse";
  flaky.release();
  await owner.replay(second, begun + 18, told[second]);
  await owner.does({ sleep: KEPT_MS });
  writeStore(stateDir, second, timeOf(second, (told[second] ?? 0) - 1));
  if (third) await spool(third, told[third] ?? 0, owner, begin);
  await owner.kill();
  collector.reply = () => ({});
  flaky.fault = "well";
}

/**
 * Another process tells the owner something, the last of which the owner does not read.
 *
 * @param {string} version @param {number} count @param {Life} owner @param {(at: number) => Promise<Life>} begin
 */
async function spool(version, count, owner, begin) {
  const half = Math.floor(count / 2);
  const other = await begin(timeOf(version) - 1_000);
  await other.replay(version, 0, half);
  await sleep(KEPT_MS);
  owner.pause();
  await other.replay(version, half, count);
  await other.does({ sleep: 1_000 });
  await other.kill();
}

/**
 * Lets a checkout's plugin take over what another one left, until there is nothing more to send.
 *
 * @param {string} name Of the kind.
 * @param {{ project: string, stateDir: string, temporary: string, outlets: Outlets }} place
 * @param {{ hearsRest?: boolean, later?: number }} how Whether it is told what the former gateway was not; how long after
 *   the last event of all its clock is, in ms.
 */
export async function takeOver(
  name,
  { project, stateDir, temporary, outlets },
  { hearsRest = false, later = 120_000 },
) {
  const kind = KINDS[name] ?? Object.values(KINDS)[0];
  const { flaky, collector } = outlets;
  const end = endOf(kind) + later;
  // What was told last, by the clock, goes on.
  const [version = "", count = 0] = Object.entries(kind.told).at(-1) ?? [];
  const at = hearsRest ? timeOf(version, count) - 100 : end;
  const life = await Life.begin(
    { project, stateDir, url: flaky.url, collector: collector.url, sdk: kind.sdk, at },
    temporary,
  );
  try {
    for (const version of Object.keys(kind.told)) writeStore(stateDir, version, end);
    if (hearsRest) await life.replay(version, count, undefined, end);
    // The dead owner's number may be another process's by now: that takes 10 s.
    await until(() => ownerOf(stateDir) === life.child.pid);
    await life.does({ sleep: LOOKED_MS });
    const requests = () => flaky.requests + collector.requests.length;
    for (let before = -1; before !== requests(); await sleep(QUIET_MS)) before = requests();
    await life.stop();
  } finally {
    await life.kill();
  }
  return life.log;
}

/** The process that owns a state directory. @param {string} stateDir @returns {number | undefined} */
function ownerOf(stateDir) {
  try {
    return JSON.parse(readFileSync(join(stateDir, "agentwatch", "owner.json"), "utf8")).pid;
  } catch {
    return undefined;
  }
}

/** Records by their ids, as `<list>/<id>`, each once: who takes one again replaces it. @param {Flaky} flaky @returns {string[]} */
export function recordsOf({ taken }) {
  const ids = ["traces", "logs", "metrics", "cron_runs"].flatMap((list) =>
    (taken[list] ?? []).map(({ id }) => `${list}/${id}`),
  );
  return [...new Set(ids)];
}

/** The spans that a collector took. @param {Collector} collector @returns {string[]} */
export function spansOf({ spans }) {
  return spans.map(({ spanId }) => spanId);
}
