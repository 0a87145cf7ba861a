/**
 * The status of a state directory. Its owner writes it when it changes; the command `status` reads it, whether a gateway
 * runs or not.
 */

import { dirname, join } from "node:path";
import { faultOf, readJson, replaceOwnSync } from "../base/files.js";
import { HostFiles } from "../base/host-files.js";
import { readInstallation } from "../base/installation.js";
import { livingOwner, type Owner, writtenOwner } from "../base/owner.js";
import { each, fields, isNumber, isText, isTime, list, maybe } from "../base/shape.js";
import { instantiate } from "../base/wasm.js";
import { counted, NOTHING_IS_SENT, sendsNothing } from "../base/words.js";
import { LIFT, STORE } from "./request-file.js";

/** Shortest interval between two writes of the file, in ms. */
export const WRITE_EVERY_MS = 2_000;
/** Interval at which an unchanged status is written, in ms, so that its time shows that the owner lives. */
const UNCHANGED_EVERY_MS = 60_000;

/** A status: counters, and times in ms since 1970; see `crate/src/engine/status.rs`. */
export type Status = Record<string, unknown>;

/** The state of an allowance; see `crate/src/engine/brake.rs`. */
interface AllowanceStatus {
  allowance: string;
  spent: number;
  unit: "usd" | "tokens";
  percent: number;
  then: string;
  ends_ms: number;
  unpriced: number;
}

/** The JSON document of the command `status`. */
export interface StatusDocument {
  /** The process that owns the state directory; null while none runs. */
  owner: Pick<Owner, "pid" | "host" | "role"> | null;
  /** Time at which the owner wrote its status last, in ms since 1970; null where no owner ever did. */
  written_ms: number | null;
  /** The written status. Without an owner `waiting` and `records_waiting` are counted in the journal. */
  status: Status;
  /** Problems of the folder's files, each with its mend. Such a file counts as absent. */
  faults?: string[];
}

/** Writes the status at most once in {@link WRITE_EVERY_MS}, and an unchanged one once in {@link UNCHANGED_EVERY_MS}. */
export class StatusWriter {
  readonly #folder: string;
  /** ms since 1970. */
  readonly #wall: () => number;
  #timer: NodeJS.Timeout | undefined;
  #last = { status: "", written_ms: 0 };

  constructor(folder: string, wall: () => number) {
    this.#folder = folder;
    this.#wall = wall;
  }

  /** Writes the status a moment later. */
  schedule(read: () => Status | undefined): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const status = read();
      if (status) this.write(status);
    }, WRITE_EVERY_MS).unref();
  }

  /** Writes the status now. Throws nothing: the journal already reports a disk that cannot be written. */
  write(status: Status): void {
    const [text, now] = [JSON.stringify(status), this.#wall()];
    const { status: last, written_ms } = this.#last;
    if (text === last && Math.abs(now - written_ms) < UNCHANGED_EVERY_MS) return;
    try {
      // Not synced to disk: the next start writes it again.
      replaceOwnSync(statusFile(this.#folder), `{"written_ms":${now},"status":${text}}\n`, false);
      this.#last = { status: text, written_ms: now };
    } catch {}
  }

  /** Cancels the scheduled write. */
  close(): void {
    clearTimeout(this.#timer);
  }
}

/** Reads the status of the plugin's folder. Changes nothing there. */
export async function readStatus(folder: string): Promise<StatusDocument> {
  const owner = await livingOwner(folder);
  const { value, fault } = readJson(statusFile(folder), check);
  const { written_ms = null, status = {} } = value ?? {};
  const faults = [...faultsOf(folder), ...(fault ? [`${fault}; ${WRITTEN_ANEW}`] : [])];
  if (owner) {
    const { pid, host, role } = owner;
    return { owner: { pid, host, role }, written_ms, status, faults };
  }
  const journal = readJournal(folder);
  return {
    owner: null,
    written_ms,
    status: { ...status, ...journal.status },
    faults: [...faults, ...journal.faults],
  };
}

/** A text for each problem that the status shows. @param now ms since 1970 */
export function troubles({ owner, status, written_ms, faults = [] }: StatusDocument, now: number): string[] {
  const found = [...faults];
  const waiting = Number(status.waiting ?? 0);
  if (!owner && written_ms === null) found.push("no gateway has run with the plugin on this state directory");
  else if (!owner) found.push("nothing runs: start the gateway");
  if (status.off) found.push("switched off after repeated faults: restart the gateway, and please report it");
  if (status.url === null) found.push("url is unusable: set plugins.entries.agentwatch.config.url");
  if (sendsNothing(status)) found.push(NOTHING_IS_SENT);
  if (status.also_reported_by)
    found.push(
      `AgentWatch has the calls of this gateway from "${String(status.also_reported_by)}" too: they count twice; choose one way for each gateway`,
    );
  const { problem } = (status.metrics ?? {}) as { problem?: string };
  if (owner && problem) found.push(problem);
  if (status.journal_error) found.push(`the journal cannot be written: ${String(status.journal_error)}`);
  for (const file of (status.newer_files ?? []) as string[])
    found.push(
      `${file} is of a newer version of the plugin, which reads it: install that version, or remove the file`,
    );
  const oldest = Number(status.oldest_unsent_ms ?? now);
  if (waiting > 0 && now - oldest > 60_000)
    found.push(
      `${counted(waiting, "call waits", "calls wait")} to be sent; ${String(status.last_error ?? "AgentWatch was not reached yet")}`,
    );
  return found;
}

/** The status as lines of text. @param now ms since 1970 */
export function inWords(document: StatusDocument, now: number): string[] {
  const { owner, status, written_ms } = document;
  const count = (name: string) => Number(status[name] ?? 0);
  const ago = (ms: unknown) =>
    typeof ms === "number" ? `${Math.max(0, Math.round((now - ms) / 1000))} s ago` : "never";
  const dropped = Object.entries((status.dropped ?? {}) as Record<string, number>);
  return [
    `owner      ${owner ? `${owner.role}, process ${owner.pid} on ${owner.host}` : "none"}; status written ${ago(written_ms)}`,
    `sends to   ${status.url ? `${String(status.url)} (${String(status.receiver ?? "unknown")})` : "no AgentWatch"}`,
    ...(status.counted_by ? [`counts by  ${String(status.counted_by)}`] : []),
    `calls      ${count("requests")} counted, ${count("delivered") + count("confirmed")} delivered, ${count("waiting")} waiting${count("waiting") > 0 ? ` (the oldest ended ${ago(status.oldest_unsent_ms)})` : ""}, last ${ago(status.last_call_ms)}`,
    `           ${count("from_store")} from the session store, ${counted(count("spooled"), "observation")} of other processes, ${count("missing_usage")} without usage, ${count("model_errors")} failed`,
    ...uncountedInWords(status),
    ...historyInWords(status),
    ...collectorInWords(status),
    ...metricsInWords(document),
    ...incidentsInWords(status, ago),
    ...allowancesInWords(status),
    `sending    ${counted(count("retried"), "retry", "retries")}, ${count("ambiguous")} ambiguous, last error: ${String(status.last_error ?? "none")}`,
    `dropped    ${dropped.length > 0 ? dropped.map(([why, n]) => `${n} ${why}`).join(", ") : "none"}`,
    `journal    ${(count("journal_bytes") / 1024).toFixed(0)} KB, ${count("journal_corrupt")} corrupt, ${counted(count("core_restarts"), "restart")} of the engine`,
    ...troubles(document, now).map((trouble) => `trouble    ${trouble}`),
  ];
}

/** The line of POSTs that a proxy forwarded and did not count as calls. */
function uncountedInWords({ uncounted }: Status): string[] {
  const paths = Object.entries((uncounted ?? {}) as Record<string, number>);
  if (paths.length === 0) return [];
  return [`uncounted  ${paths.map(([path, count]) => `${counted(count, "POST")} to ${path}`).join(", ")}`];
}

/** The line of the session store's history while it is being read. */
function historyInWords(status: Status): string[] {
  const { history } = status as { history?: { since: number; sessions: number; rows: number } };
  if (!history) return [];
  const since = new Date(history.since).toISOString().slice(0, 16).replace("T", " ");
  return [
    `history    since ${since} is being filled in: ${counted(history.sessions, "session")}, ${counted(history.rows, "call")} read`,
  ];
}

/** The lines of the OpenTelemetry collector. */
function collectorInWords({ otlp }: Status): string[] {
  if (!otlp) return [];
  const { url, metrics, traces } = otlp as { url: string } & Record<string, Record<string, unknown> | null>;
  return [
    `collector  ${url}`,
    ...Object.entries({ metrics, traces }).flatMap(([signal, counters]) => {
      if (!counters) return [];
      const { sent, rejected, refused, given_up_bytes, last_error } = counters;
      return `           ${signal}: ${sent} sent, ${Number(rejected) + Number(refused)} refused${Number(given_up_bytes) > 0 ? `, ${counted(Number(given_up_bytes), "byte")} given up` : ""}, last error: ${String(last_error ?? "none")}`;
    }),
  ];
}

/** The line of `/metrics`. */
function metricsInWords({ owner, status }: StatusDocument): string[] {
  const { url } = (status.metrics ?? {}) as { url?: string };
  return owner && url ? [`metrics    ${url}`] : [];
}

/** An incident. */
interface Reported {
  at_ms: number;
  text: string;
}

/** The lines of cache incidents, alarms and the webhook. */
function incidentsInWords({ cache, alarm, webhook }: Status, ago: (ms: unknown) => string): string[] {
  const lines: string[] = [];
  const add = (name: string, text: string) => lines.push(`${name.padEnd(10)} ${text}`);
  const usd = (amount: number) => `${amount.toFixed(amount < 1 ? 3 : 2)} USD`;
  if (cache) {
    const { days, saved_usd, extra_usd, incidents, lost_usd, last } = cache as Record<string, number> & {
      last: Reported[];
    };
    if (days)
      add(
        "cache",
        `reads saved ${usd(saved_usd ?? 0)}, writes cost ${usd(extra_usd ?? 0)} extra, in ${counted(days, "day")}; ${counted(incidents ?? 0, "incident")}, ${usd(lost_usd ?? 0)}`,
      );
    for (const { at_ms, text } of last) add("", `${ago(at_ms)}: ${text}`);
  }
  if (alarm) {
    const { on, count, open, last } = alarm as {
      on: boolean;
      count: number;
      open: Reported[];
      last: Reported[];
    };
    add("alarm", on ? `${counted(open.length, "incident")} open, ${counted(count, "alarm")} so far` : "off");
    for (const { at_ms, text } of open) add("", `open since ${ago(at_ms)}: ${text}`);
    const isOver = ({ at_ms }: Reported) => open.every((one) => one.at_ms !== at_ms);
    for (const { at_ms, text } of last.filter(isOver)) add("", `${ago(at_ms)}: ${text}`);
  }
  if (webhook) {
    const { origin, sent, waiting, dropped, last_error } = webhook as Record<string, unknown>;
    const lost = Object.entries((dropped ?? {}) as Record<string, number>);
    const why = lost.map(([reason, n]) => `, ${n} dropped: ${reason}`).join("");
    add(
      "webhook",
      `${origin}: ${sent} sent, ${waiting} waiting${why}, last error: ${String(last_error ?? "none")}`,
    );
  }
  return lines;
}

/** The lines of the allowances. */
function allowancesInWords({ allowances, brake, brake_unanswered: unanswered }: Status): string[] {
  const held = (allowances ?? []) as AllowanceStatus[];
  if (held.length === 0) return [];
  const { stopped, under_way, late, given_up, lifted_until_ms } = (brake ?? {}) as Record<
    string,
    number | null
  >;
  const until = (ms: number) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");
  return [
    ...held.map(({ allowance, spent, unit, percent, then, ends_ms, unpriced }, index) => {
      const amount = unit === "usd" ? `${Number(spent.toFixed(5))} USD` : counted(spent, "token");
      const unknown = unpriced > 0 ? `, ${counted(unpriced, "call")} of unknown cost` : "";
      return `${index === 0 ? "allowance " : "          "} ${allowance}, ${then}: ${amount}, ${percent} %, until ${until(ends_ms)} UTC${unknown}`;
    }),
    `           ${counted(Number(stopped ?? 0), "call")} stopped, ${Number(under_way ?? 0)} under way, ${Number(late ?? 0)} reported late, ${Number(given_up ?? 0)} without an end, ${Number(unanswered ?? 0)} passed unchecked`,
    ...(lifted_until_ms ? [`           lifted until ${until(lifted_until_ms)} UTC: all calls pass`] : []),
  ];
}

function statusFile(folder: string): string {
  return join(folder, "status.json");
}

const LEFT_OUT = "it is left out; see that it is a file of the gateway's user, or remove it";
const WRITTEN_ANEW = "the gateway writes it anew while it runs: start it, or remove the file";

/** Problems of the folder's other small files, each with its mend. */
function faultsOf(folder: string): string[] {
  const mends: [string | null | undefined, string][] = [
    [writtenOwner(folder).fault, WRITTEN_ANEW],
    [
      readInstallation(dirname(folder)).fault,
      "the next start of the gateway draws a new name; set gateway where AgentWatch is to show the former one",
    ],
    [LIFT.read(folder).fault, "remove it, and lift again with agentwatch-openclaw allow 1h"],
    [STORE.read(folder).fault, "remove it, and ask again with agentwatch-openclaw sync --since"],
  ];
  return mends.flatMap(([fault, mend]) => (fault ? [`${fault}; ${mend}`] : []));
}

// Shapes of the values that are shown.
const COUNT = maybe(isNumber);
const TEXT = maybe(isText);
const SIGNAL = maybe(
  fields({ sent: COUNT, rejected: COUNT, refused: COUNT, given_up_bytes: COUNT, last_error: TEXT }),
);
const REPORTED = list(fields({ at_ms: isTime, text: isText }));
const isStatus = fields({
  url: maybe(isText, (url) => url === false),
  gateway: TEXT,
  receiver: TEXT,
  counted_by: TEXT,
  also_reported_by: TEXT,
  last_error: TEXT,
  journal_error: TEXT,
  newer_files: maybe(list(isText)),
  ...Object.fromEntries(
    [
      ...[
        "requests",
        "delivered",
        "confirmed",
        "waiting",
        "from_store",
        "spooled",
        "missing_usage",
        "model_errors",
      ],
      ...["retried", "ambiguous", "journal_bytes", "journal_corrupt", "core_restarts", "records_waiting"],
    ].map((name) => [name, COUNT]),
  ),
  oldest_unsent_ms: maybe(isTime),
  last_call_ms: maybe(isTime),
  dropped: maybe(each(isNumber)),
  uncounted: maybe(each(isNumber)),
  history: maybe(fields({ since: isTime, sessions: isNumber, rows: isNumber })),
  cache: maybe(
    fields({
      ...{ days: COUNT, saved_usd: COUNT, extra_usd: COUNT, incidents: COUNT, lost_usd: COUNT },
      last: REPORTED,
    }),
  ),
  alarm: maybe(fields({ count: COUNT, open: REPORTED, last: REPORTED })),
  webhook: maybe(
    fields({
      ...{ origin: isText, sent: COUNT, waiting: COUNT, last_error: TEXT },
      dropped: maybe(each(isNumber)),
    }),
  ),
  metrics: maybe(fields({ url: TEXT, problem: TEXT })),
  otlp: maybe(fields({ url: isText, metrics: SIGNAL, traces: SIGNAL })),
  allowances: maybe(
    list(
      fields({
        ...{ allowance: isText, unit: isText, then: isText },
        ...{ spent: isNumber, percent: isNumber, ends_ms: isTime, unpriced: isNumber },
      }),
    ),
  ),
  brake: maybe(
    fields({
      stopped: COUNT,
      under_way: COUNT,
      late: COUNT,
      given_up: COUNT,
      lifted_until_ms: maybe(isTime),
    }),
  ),
  brake_unanswered: COUNT,
});

function check(value: unknown): { written_ms?: number; status: Status } | undefined {
  return fields({ written_ms: maybe(isTime), status: isStatus })(value)
    ? (value as { written_ms?: number; status: Status })
    : undefined;
}

/** Reads the pending calls and records of a journal without an owner. */
function readJournal(folder: string): { status: Status; faults: string[] } {
  const engine = new (instantiate().Engine)({}, 0, 0);
  const files = new HostFiles(folder);
  engine.open(files, Date.now(), performance.now());
  const { waiting, open, records_waiting, journal_bytes, journal_corrupt, newer_files } = JSON.parse(
    engine.status(),
  ) as Status;
  const faults = journalFaults(files);
  // Open calls become final a moment after the next start.
  const pending = Number(waiting) + Number(open);
  return {
    status: { waiting: pending, records_waiting, journal_bytes, journal_corrupt, newer_files },
    faults,
  };
}

/** The unreadable files of the journal, or that it cannot be listed. */
function journalFaults(files: HostFiles): string[] {
  try {
    return files.list("journal").flatMap(({ fault }) => (fault ? `${fault}: ${LEFT_OUT}` : []));
  } catch (error) {
    return [
      `${faultOf(files.path("journal"), error)}: see that it is a folder that the gateway's user may read`,
    ];
  }
}
