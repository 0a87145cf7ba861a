// Makes the state directory of a killed gateway: pending calls and records, open calls, match records, bookmarks, another
// process's spool, and the state of the OpenTelemetry outlet. The plugin may be of any checkout.
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Collector } from "./collector.mjs";
import { FaultyReceiver, sleep, until, within } from "./faulty-receiver.mjs";
import { lines, recorded } from "./world.mjs";

const CHILD = fileURLToPath(new URL("gateway-process-child.mjs", import.meta.url));
export const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** Time after which the owner has written everything, in ms. */
const WRITTEN_MS = 2_500;
/** Time after which the owner has read the session store, in ms. */
const STORE_READ_MS = 6_500;
/** Time without a request after which everything was sent, in ms. */
const NO_REQUEST_MS = 3_000;

/**
 * @typedef {object} GatewayProcessOptions
 * @property {string} project The checkout whose `dist/` is loaded.
 * @property {string} stateDir
 * @property {string} url The receiver's address.
 * @property {string} collector The collector's address.
 * @property {number} at The clock at the start, in ms since 1970.
 * @property {import("./world.mjs").Sdk} sdk
 */

/** A gateway's process. */
export class GatewayProcess {
  /** @type {string[]} */
  log = [];
  /** @param {GatewayProcessOptions} options @param {string} temporary */
  constructor(options, temporary) {
    const env = { ...process.env, TMPDIR: temporary };
    this.child = fork(CHILD, [JSON.stringify(options)], { env });
    this.child.on("message", (/** @type {any} */ { log }) => {
      this.log = log;
    });
  }

  /** @param {GatewayProcessOptions} options @param {string} temporary A folder for temporary files. */
  static async begin(options, temporary) {
    const gateway = new GatewayProcess(options, temporary);
    await gateway.#answer();
    return gateway;
  }

  async #answer() {
    const ended = once(this.child, "exit").then(([code, signal]) => {
      throw new Error(`the process ended (${code ?? signal}):\n${this.log.join("\n")}`);
    });
    ended.catch(() => {});
    await within(Promise.race([once(this.child, "message"), ended]), "the process answers");
  }

  /** @param {object} order */
  async does(order) {
    const answered = this.#answer();
    this.child.send(order);
    await answered;
  }

  /** Replays events of a recording at their times, then sets the clock to `until`. @param {string} version @param {number} from @param {number} [to] @param {number} [until] */
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
 * The recordings of a state directory, in the order of their times, each with the number of events that were recorded before
 * the kill. The other events may be given to the next owner.
 *
 * `lost`: the events of the second process, from and to, with a call whose batch's answer is lost; a call is before them, too.
 *
 * @typedef {{ sdk: import("./world.mjs").Sdk, told: Record<string, number>, lost: [from: number, to: number] }} Kind
 */

/** @type {Record<string, Kind>} */
export const KINDS = {
  // Of the last call of the second and of the third recording only the timing event came.
  calls: { sdk: "calls", told: { "2026.9.6": 142, "2026.8.2": 56, "2026.6.11": 35 }, lost: [10, 18] },
  // The first process ends before the total of a run whose calls it recorded, the second before the total of its last call.
  totals: { sdk: "totals", told: { "2026.3.13": 44 }, lost: [5, 18] },
};

/** The time of an event of a recording, in ms since 1970. @param {string} version @param {number} [index] */
export const timeOf = (version, index = 0) => recorded(version).at(index)?.ts ?? 0;

/** The time of the last event of a kind's recordings, in ms since 1970. @param {Kind} kind */
export function endOf({ told }) {
  return Math.max(...Object.keys(told).map((version) => timeOf(version, -1)));
}

/** Writes the rows that a recording's session store had at a time, as JSONL. @param {string} stateDir @param {string} version @param {number} until */
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

/** Receiver and collector. @typedef {{ faulty: FaultyReceiver, collector: Collector }} Outlets */

/** @param {"ids" | "stock"} kind @returns {Promise<Outlets>} */
export async function outlets(kind) {
  const faulty = await FaultyReceiver.open(kind);
  return { faulty, collector: await Collector.open() };
}

/**
 * Runs a checkout's plugin on a state directory and kills it.
 *
 * @param {string} name Name of the kind.
 * @param {{ project: string, stateDir: string, temporary: string, outlets: Outlets }} place
 */
export async function live(name, { project, stateDir, temporary, outlets: { faulty, collector } }) {
  const { sdk, told, lost } = KINDS[name] ?? Object.values(KINDS)[0];
  const options = { project, stateDir, url: faulty.url, collector: collector.url, sdk };
  const begin = (/** @type {number} */ at) => GatewayProcess.begin({ ...options, at }, temporary);
  const versions = Object.keys(told);
  const [first = "", second = first, third] = versions;
  const half = second === first ? Math.floor((told[first] ?? 0) / 2) : told[first];

  // First without faults.
  const well = await begin(timeOf(first) - 1_000);
  await well.replay(first, 0, half);
  await well.does({ sleep: WRITTEN_MS });
  await well.kill();
  writeStore(stateDir, first, timeOf(first, (half ?? 0) - 1));

  // Then the collector answers 503, and AgentWatch loses the answer to a batch before it refuses connections.
  collector.reply = () => ({ status: 503 });
  const begun = second === first ? (half ?? 0) : 0;
  const owner = await begin(timeOf(second, begun) - 1_000);
  await owner.does({ sleep: STORE_READ_MS });
  const parts = /** @type {const} */ ([
    ["well", 0, lost[0]],
    ["lose", ...lost],
  ]);
  for (const [fault, from, to] of parts) {
    faulty.fault = fault;
    const before = faulty.usage.length;
    await owner.replay(second, begun + from, begun + to);
    await until(() => faulty.usage.length > before);
  }
  faulty.fault = "refuse";
  faulty.release();
  await owner.replay(second, begun + lost[1], told[second]);
  await owner.does({ sleep: WRITTEN_MS });
  writeStore(stateDir, second, timeOf(second, (told[second] ?? 0) - 1));
  if (third) await spool(third, told[third] ?? 0, owner, begin);
  await owner.kill();
  collector.reply = () => ({});
  faulty.fault = "well";
}

/**
 * Another process writes spool files for the owner, which does not read the last of them.
 *
 * @param {string} version @param {number} count @param {GatewayProcess} owner @param {(at: number) => Promise<GatewayProcess>} begin
 */
async function spool(version, count, owner, begin) {
  const half = Math.floor(count / 2);
  const other = await begin(timeOf(version) - 1_000);
  await other.replay(version, 0, half);
  await sleep(WRITTEN_MS);
  owner.pause();
  await other.replay(version, half, count);
  await other.does({ sleep: 1_000 });
  await other.kill();
}

/**
 * Runs a checkout's plugin on the state directory of another one until everything is sent.
 *
 * @param {string} name Name of the kind.
 * @param {{ project: string, stateDir: string, temporary: string, outlets: Outlets }} place
 * @param {{ getsRest?: boolean, later?: number }} how Whether it gets the events that came after the kill; its clock after
 *   the last event, in ms.
 */
export async function takeOver(
  name,
  { project, stateDir, temporary, outlets },
  { getsRest = false, later = 120_000 },
) {
  const kind = KINDS[name] ?? Object.values(KINDS)[0];
  const { faulty, collector } = outlets;
  const end = endOf(kind) + later;
  // The recording whose events came last continues.
  const [version = "", count = 0] = Object.entries(kind.told).at(-1) ?? [];
  const at = getsRest ? timeOf(version, count) - 100 : end;
  const gateway = await GatewayProcess.begin(
    { project, stateDir, url: faulty.url, collector: collector.url, sdk: kind.sdk, at },
    temporary,
  );
  try {
    for (const version of Object.keys(kind.told)) writeStore(stateDir, version, end);
    if (getsRest) await gateway.replay(version, count, undefined, end);
    // The killed owner's process number may belong to another process: its lease expires after 10 s.
    await until(() => ownerOf(stateDir) === gateway.child.pid);
    await gateway.does({ sleep: STORE_READ_MS });
    const requests = () => faulty.requests + collector.requests.length;
    for (let before = -1; before !== requests(); await sleep(NO_REQUEST_MS)) before = requests();
    await gateway.stop();
  } finally {
    await gateway.kill();
  }
  return gateway.log;
}

/** The process that owns a state directory. @param {string} stateDir @returns {number | undefined} */
function ownerOf(stateDir) {
  try {
    return JSON.parse(readFileSync(join(stateDir, "agentwatch", "owner.json"), "utf8")).pid;
  } catch {
    return undefined;
  }
}

/** The ids of records, as `<list>/<id>`, each once: a repeated record replaces the first. @param {FaultyReceiver} faulty @returns {string[]} */
export function recordsOf({ taken }) {
  const ids = ["traces", "logs", "metrics", "cron_runs"].flatMap((list) =>
    (taken[list] ?? []).map(({ id }) => `${list}/${id}`),
  );
  return [...new Set(ids)];
}

/** The ids of the spans that a collector got. @param {Collector} collector @returns {string[]} */
export function spansOf({ spans }) {
  return spans.map(({ spanId }) => spanId);
}
