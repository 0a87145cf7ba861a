/** The command `agentwatch-openclaw sync`. */

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { isFolder } from "../base/files.js";
import { stateFolder } from "../base/installation.js";
import { livingOwner } from "../base/owner.js";
import { LOOK_MS, spoolFolder } from "../base/spool.js";
import { print } from "../base/terminal.js";
import { instantiate } from "../base/wasm.js";
import { counted, SWITCHED_OFF } from "../base/words.js";
import type { SessionStore } from "../plugin/session-store.js";
import { countSessions, hasStore } from "../sessions/store.js";
import type { Pipeline } from "../worker/pipeline.js";
import { ALONE_SETTLED_AFTER_MS, type StoreWatch } from "../worker/store-watch.js";
import { SettingError } from "./listen.js";
import {
  COMMON_OPTIONS,
  endPipeline,
  log,
  openPipeline,
  type PipelineOptions,
  runCommand,
  tally,
} from "./pipeline.js";
import { configuredStore, findPlace } from "./place.js";
import { ProgressBar } from "./progress.js";
import { parseSince } from "./span.js";

const USAGE = `agentwatch-openclaw sync [--gateway <ws address>] [--watch] [--since <time>] [--json] [--url <address>] [--state-dir <folder>]

  Counts the model calls in a gateway's session store, without the plugin, and sends them to AgentWatch. Calls that were
  counted before, by any source on this state directory, are not counted again. It may be stopped at any time; the next
  run continues where it stopped.

  --since     counts calls since then: 12h, 30d, 4w, or a date such as 2026-11-01. Without it: what is new, and
              all calls of the store only where nothing has counted on the state directory before.
  --watch     keeps running, and sends calls within 10 s of their end
  --history   costs or usage: the part of calls older than 15 minutes that AgentWatch 0.1.0 gets, which dates usage by its
              arrival; costs. Receivers that know record ids get both.
  --json      prints the result as one JSON document on standard output
  --url, --agent-name, --state-dir, --profile  as with ingest

  --gateway ws://host:18789   reads a gateway's API instead, from any machine: needs neither plugin nor files of its host.
              The token is in OPENCLAW_GATEWAY_TOKEN, or in gateway.remote of OpenClaw's configuration on this machine.
              --state-dir is then the folder of this command's own files.
  --tls-fingerprint <SHA-256>   pins the certificate of a wss:// gateway that no trusted authority signed

Where another process owns the state directory, such as a gateway with the plugin, that process is asked to do it.
Exit status: 0 everything was read and sent or handed over, 1 something could not be read, which is named, 2 not everything
could be sent, it was stopped before its end, or an option or setting is invalid.`;

/** Interval between two readings of the store, in ms. */
const LOOK_EVERY_MS = 2_000;
/** Pause before the rest of a store that was read in part, in ms: timers and signals run meanwhile. */
const PART_PAUSE_MS = 200;
/** Pending calls up to which reading continues. */
const MAX_PENDING = 2_000;
/** How long a single run waits for a receiver that accepts nothing, in ms; the next run continues. */
const RECEIVER_TIMEOUT_MS = 60_000;
/** How long one attempt to reduce the backlog may take, in ms. */
const SEND_BUDGET_MS = 10_000;

const OPTIONS = {
  ...COMMON_OPTIONS,
  since: { type: "string" },
  watch: { type: "boolean" },
  history: { type: "string" },
  json: { type: "boolean" },
  gateway: { type: "string" },
  "tls-fingerprint": { type: "string" },
} as const;

/** Values of the options. */
export interface SyncOptions extends PipelineOptions {
  since?: string | undefined;
  watch?: boolean | undefined;
  json?: boolean | undefined;
  gateway?: string | undefined;
  "tls-fingerprint"?: string | undefined;
}

/** Reads the session store, or a gateway's API. @returns the exit status */
export function syncCommand(args: string[]): Promise<number> {
  return runCommand(
    USAGE,
    () => parseArgs({ args, options: OPTIONS }),
    async (values) => {
      checkHistory(values.history);
      if (values.gateway !== undefined)
        return (await import("../gateway/command.js")).gatewayCommand(values.gateway, values);
      if (values["tls-fingerprint"] !== undefined)
        throw new SettingError("--tls-fingerprint: it is of a gateway; name that with --gateway");
      const sync = new Sync(values);
      await sync.open();
      return sync.run();
    },
  );
}

/** The result of a run. */
export interface SyncSummary {
  /** Calls since then are counted, in ms since 1970; null where another process owns the state directory. */
  since_ms: number | null;
  /** Whether the run was handed over to the owner of the state directory. */
  handed_over: boolean;
  /** Whether every row that existed at the start was read. */
  complete: boolean;
  sessions: number;
  megabytes: number;
  calls: number;
  sent: number;
  waiting: number;
  /** Number of skipped rows, by reason. */
  skipped: Record<string, number>;
  problems: string[];
}

class Sync {
  readonly #options: SyncOptions;
  readonly #stateDir: string;
  readonly #sessionStore: SessionStore | undefined;
  /** Why the configured store is unknown here. */
  readonly #storeProblem: string | undefined;
  readonly #since: number | undefined;
  readonly #began = Date.now();
  readonly #stop = new AbortController();
  readonly #skipped: Record<string, number> = {};
  // Both are set by `open`.
  #pipeline!: Pipeline;
  #store!: StoreWatch;
  #bar: ProgressBar | undefined;
  /** Minimum age of a row, in ms. Where other sources report calls, their observations come first: they have more fields. */
  #settledAfterMs = ALONE_SETTLED_AFTER_MS;
  #complete = false;
  /** Whether the receiver accepted nothing for {@link RECEIVER_TIMEOUT_MS}. */
  #isReceiverAway = false;

  constructor(options: SyncOptions) {
    this.#options = options;
    this.#since = options.since === undefined ? undefined : parseSince(options.since, this.#began);
    const { stateDir, config } = findPlace(options);
    if (!stateDir) throw new SettingError(`no state directory is known; ${MEND}`);
    this.#stateDir = stateDir;
    const { store, problem } = configuredStore({ stateDir, config });
    this.#sessionStore = store;
    this.#storeProblem = problem;
  }

  /** Makes the pipeline. */
  async open(): Promise<void> {
    checkStore(this.#stateDir, this.#sessionStore);
    this.#pipeline = await openPipeline("sync", this.#options, {
      begins: true,
      settledAfterMs: () => this.#settledAfterMs,
      most: { history: MAX_PENDING, gaps: MAX_PENDING },
    });
    const { store } = this.#pipeline;
    // There is a store watch wherever there is a state directory.
    if (!store) throw new SettingError("--state-dir: no state directory");
    this.#store = store;
    store.waitForRoom = (most) => this.#waitForRoom(most);
  }

  async run(): Promise<number> {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => this.#stop.abort());
    await this.#pipeline.open();
    if (this.#isOwner) await this.#readSpools();
    if (this.#isOwner) await this.#readOnce();
    else if (!this.#isOff) await this.#handOver();
    if (this.#options.watch) await this.#watch();
    return this.#end();
  }

  /** Whether repeated faults switched counting off. */
  get #isOff(): boolean {
    return this.#pipeline.status().off === true;
  }

  get #isOwner(): boolean {
    const { standing, off } = this.#pipeline.status();
    return standing === "owner" && !off;
  }

  get #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  async #handOver(): Promise<void> {
    const owner = await livingOwner(stateFolder(this.#stateDir));
    const holder = owner ? `${owner.role}, process ${owner.pid} on ${owner.host}` : "unknown";
    this.#store.ask(this.#since ?? null);
    const request =
      this.#since === undefined ? "" : `, and was asked to fill in calls since ${date(this.#since)}`;
    log.info(
      `the state directory belongs to another process (${holder}): it counts the calls of the session store${request}; agentwatch-openclaw status shows its progress`,
    );
  }

  /** Lets the pipeline read the spool files of other processes before the store. */
  async #readSpools(): Promise<void> {
    const spool = spoolFolder(stateFolder(this.#stateDir));
    if (isFolder(spool) && readdirSync(spool).length > 0) await this.#pause(1.5 * LOOK_MS);
    else this.#settledAfterMs = 0;
  }

  /** Reads every row that existed at the start. */
  async #readOnce(): Promise<void> {
    const since = this.#since ?? (this.#store.isFresh() ? 0 : undefined);
    this.#logSpan(since);
    let span = since === undefined ? this.#store.planned() : this.#store.plan(since);
    // The unfinished span of an earlier run comes first, then the span before it.
    for (let before: number | undefined; span && span.since !== before && !this.#isStopped; ) {
      before = span.since;
      await this.#fillIn();
      span = since === undefined ? undefined : this.#store.plan(since);
    }
    await this.#pause(Math.max(0, this.#began + this.#settledAfterMs + 1 - Date.now()));
    if (this.#isStopped) return;
    const isPart = () =>
      !this.#isStopped && !this.#isReceiverAway && this.#isOwner && this.#store.outcome?.isDone === false;
    for (await this.#look(); isPart(); await this.#look()) await this.#pause(PART_PAUSE_MS);
    const isRead = this.#store.outcome?.isDone !== false && this.#store.planned() === undefined;
    this.#complete = isRead && !this.#isStopped;
  }

  #logSpan(since: number | undefined): void {
    const floor = this.#store.floor() ?? this.#began;
    const planned = this.#store.planned();
    if (planned) log.info(`continuing an earlier sync of calls since ${date(planned.since)}`);
    if (since === undefined) {
      const older = floor > 0 ? `; those before ${date(floor)} are counted only with --since` : "";
      log.info(`calls since the last sync${older}`);
    } else if (since >= floor)
      log.info(`calls since ${date(floor)} are counted already, so only new calls are read`);
    else if (since === 0) log.info("all calls of the session store");
    else log.info(`calls since ${date(since)}`);
  }

  async #fillIn(): Promise<void> {
    const sessions = countSessions(instantiate(log.warn), this.#stateDir, this.#sessionStore);
    this.#bar = new ProgressBar(sessions);
    do {
      // What it skips is skipped in the span before it too, and counted there.
      await this.#store.look();
      if (this.#store.history) this.#bar.show(this.#store.history);
    } while (
      !this.#isStopped &&
      !this.#isReceiverAway &&
      this.#isOwner &&
      this.#store.history?.isDone === false
    );
    this.#bar.clear();
    this.#bar = undefined;
    for (const [why, count] of Object.entries(this.#store.history?.skipped ?? {})) this.#skip(why, count);
  }

  async #look(): Promise<void> {
    await this.#store.look();
    for (const [why, count] of Object.entries(this.#store.outcome?.skipped ?? {})) this.#skip(why, count);
  }

  #skip(why: string, count: number): void {
    this.#skipped[why] = (this.#skipped[why] ?? 0) + count;
  }

  /** Waits until the backlog is at most `max`. @returns whether reading continues */
  async #waitForRoom(max: number): Promise<boolean> {
    if (this.#store.history) this.#bar?.show(this.#store.history);
    for (let since = performance.now(), least = Number.POSITIVE_INFINITY; !this.#isStopped; ) {
      const pending = this.#pipeline.backlog();
      if (pending <= max) return true;
      if (pending < least) [since, least] = [performance.now(), pending];
      // A receiver that accepts nothing is not asked without pauses.
      else if (performance.now() - since > SEND_BUDGET_MS) await this.#pause(1_000);
      if (!this.#options.watch && performance.now() - since > RECEIVER_TIMEOUT_MS) {
        this.#isReceiverAway = true;
        return false;
      }
      if (!(await this.#pipeline.reduceBacklog(max, SEND_BUDGET_MS))) await this.#pause(200);
    }
    return false;
  }

  async #watch(): Promise<void> {
    if (this.#isStopped) return;
    this.#settledAfterMs = ALONE_SETTLED_AFTER_MS;
    log.info("watching the session store");
    while (!this.#isStopped && !this.#isOff) {
      const before = performance.now();
      await this.#look();
      const duration = performance.now() - before;
      await this.#pause(Math.max(LOOK_EVERY_MS, this.#store.pauseAfter(duration)));
    }
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  async #end(): Promise<number> {
    const isOwner = this.#isOwner;
    const ofStore = this.#storeProblem ? [this.#storeProblem] : [];
    const { history: past, outcome } = this.#store;
    const ofReading = [...ofStore, ...(past?.problems ?? []), ...(outcome?.problems ?? [])];
    const since = this.#store.floor();
    this.#store.close();
    await endPipeline(this.#pipeline);
    const status = this.#pipeline.ended as Record<string, number> & {
      off?: boolean;
      dropped?: Record<string, number>;
      ignored?: Record<string, number>;
    };
    const { waiting = 0, delivered = 0, confirmed = 0, from_store = 0 } = status;
    const isOff = status.off === true;
    const problems = isOff ? [SWITCHED_OFF, ...ofReading] : ofReading;
    const skipped = { ...this.#skipped, ...status.ignored, ...status.dropped };
    const history = this.#store.history;
    const summary: SyncSummary = {
      since_ms: isOwner ? (since ?? null) : null,
      handed_over: !isOwner && !isOff,
      complete: this.#complete,
      sessions: history?.sessions ?? 0,
      megabytes: Math.round((history?.bytes ?? 0) / 1_048_576),
      calls: from_store,
      sent: delivered + confirmed,
      waiting,
      skipped,
      problems: [...new Set(problems)],
    };
    this.#report(summary);
    if (summary.handed_over) return 0;
    const isUnfinished = isOff || this.#isReceiverAway || waiting > 0 || (this.#isStopped && !this.#complete);
    if (isUnfinished) return 2;
    return summary.problems.length > 0 ? 1 : 0;
  }

  #report(summary: SyncSummary): void {
    if (this.#options.json) print(JSON.stringify(summary));
    if (summary.handed_over) return;
    const { calls, sent, waiting, skipped, complete } = summary;
    log.info(
      `${counted(calls, "call")} counted, ${sent} sent, ${waiting} waiting; left out: ${tally(skipped)}`,
    );
    if (this.#isReceiverAway)
      log.warn(
        `AgentWatch accepts nothing (${String(this.#pipeline.ended?.last_error ?? "no answer")}); pending calls stay on disk, and the next sync continues`,
      );
    else if (!complete && this.#isStopped)
      log.info("stopped before its end; the next sync continues from here");
  }
}

function checkHistory(history: string | undefined): void {
  if (history !== undefined && !["costs", "usage"].includes(history))
    throw new SettingError(`--history ${history}: not one of costs, usage; costs is the default`);
}

const MEND = "name the gateway's state directory with --state-dir or OPENCLAW_STATE_DIR";

/** @throws SettingError where neither the state directory nor the configured path has a session store */
function checkStore(stateDir: string, store: SessionStore | undefined): void {
  const isNamed = () => store !== undefined && hasStore(instantiate(log.warn), stateDir, store);
  const agents = join(stateDir, "agents");
  try {
    if (statSync(agents).isDirectory() || isNamed()) return;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR")
      throw new SettingError(`--state-dir ${stateDir}: ${message}; run this as the gateway's user`);
    if (isNamed()) return;
  }
  const named = store ? `, nor anything at session.store ${store.path}` : "";
  throw new SettingError(
    `--state-dir ${stateDir}: no session store there (${agents} is no folder${named}); ${MEND}`,
  );
}

function date(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
