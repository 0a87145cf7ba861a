/** The command `agentwatch-openclaw sync`. */

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  COMMON_OPTIONS,
  endPipeline,
  log,
  openPipeline,
  type PipelineOptions,
  runCommand,
  tally,
} from "./cli-pipeline.js";
import { stateFolder } from "./installation.js";
import { livingOwner } from "./lease.js";
import { SettingError } from "./listen.js";
import type { Pipeline } from "./pipeline.js";
import { findPlace } from "./place.js";
import { ProgressBar } from "./progress.js";
import { sessionStoreOf } from "./session-store.js";
import { parseSince } from "./span.js";
import { LOOK_MS, spoolFolder } from "./spool.js";
import { countSessions } from "./store.js";
import { hasStore, type SessionStore } from "./store-places.js";
import { ALONE_SETTLED_AFTER_MS, type StoreWatch } from "./store-watch.js";
import { print } from "./terminal.js";
import { counted } from "./words.js";

const USAGE = `agentwatch-openclaw sync [--gateway <ws address>] [--watch] [--since <time>] [--json] [--url <address>] [--state-dir <folder>]

  Counts the model calls that a gateway's session store holds, without a plugin, and sends them to AgentWatch. Calls that
  were counted before, by whatever way on this state directory, are not counted again. It may be stopped at any time; the
  next one goes on where it was.

  --since     from when on: 12h, 30d, 4w, or a date such as 2026-11-01. Without it: all since the last sync, and the first
              time on a state directory all that its store holds.
  --watch     stays, and sends calls within 10 s of their end
  --history   costs, or usage: what AgentWatch 0.1.0, which dates usage by its arrival, is told of calls older than
              15 minutes; costs. Receivers that know ids are told everything.
  --json      what was done, as one JSON document on standard output
  --url, --agent-name, --state-dir, --profile  as with ingest

  --gateway ws://host:18789   asks a gateway's API instead, from anywhere: no plugin, no files of its host. Its token stands in
              OPENCLAW_GATEWAY_TOKEN, or in gateway.remote of OpenClaw's configuration here. --state-dir is then where
              this command keeps its own files.
  --tls-fingerprint <SHA-256>   the certificate of a wss:// gateway, where no authority vouches for it

Where another process owns the state directory, a gateway with the plugin say, that one is asked to do it.
Exit status: 0 all was read and sent or handed over, 1 something could not be read, which is named, 2 not everything could
be sent, it was stopped before its end, or wrong usage or settings.`;

/** How often the store is looked at, in ms. */
const LOOK_EVERY_MS = 2_000;
/** How many calls may wait to be sent while reading goes on. */
const MOST_WAITING = 2_000;
/** How long a single run waits for a receiver that takes nothing, in ms; the next one goes on. */
const PATIENCE_MS = 60_000;
/** How long a receiver that takes something is waited for at a time, in ms. */
const RELIEF_MS = 10_000;

const OPTIONS = {
  ...COMMON_OPTIONS,
  since: { type: "string" },
  watch: { type: "boolean" },
  history: { type: "string" },
  json: { type: "boolean" },
  gateway: { type: "string" },
  "tls-fingerprint": { type: "string" },
} as const;

/** The options, read. */
export interface SyncOptions extends PipelineOptions {
  since?: string | undefined;
  watch?: boolean | undefined;
  json?: boolean | undefined;
  gateway?: string | undefined;
  "tls-fingerprint"?: string | undefined;
}

/** Reads the session store, or asks a gateway; the exit status. */
export function syncCommand(args: string[]): Promise<number> {
  return runCommand(
    USAGE,
    () => parseArgs({ args, options: OPTIONS }),
    async (values) => {
      checkHistory(values.history);
      if (values.gateway !== undefined)
        return (await import("./cli-gateway.js")).gatewayCommand(values.gateway, values);
      if (values["tls-fingerprint"] !== undefined)
        throw new SettingError("--tls-fingerprint: it is of a gateway; name that with --gateway");
      const sync = new Sync(values);
      await sync.open();
      return sync.run();
    },
  );
}

/** What came of it. Times are ms since 1970. */
export interface SyncSummary {
  /** From when on calls are counted now; none where another process owns the state directory. */
  since_ms: number | null;
  /** Whether another process was asked to do it. */
  handed_over: boolean;
  /** Whether everything that was there at its start was read. */
  complete: boolean;
  sessions: number;
  megabytes: number;
  calls: number;
  sent: number;
  waiting: number;
  /** Lines that could not be used, and calls that are none or came to nothing, by reason. */
  skipped: Record<string, number>;
  problems: string[];
}

class Sync {
  readonly #options: SyncOptions;
  readonly #stateDir: string;
  readonly #sessionStore: SessionStore | undefined;
  readonly #since: number | undefined;
  readonly #began = Date.now();
  readonly #stop = new AbortController();
  readonly #skipped: Record<string, number> = {};
  // Both are there once it is open.
  #pipeline!: Pipeline;
  #store!: StoreWatch;
  #bar: ProgressBar | undefined;
  /** How old a row has to be, in ms: where others told of calls, theirs come first, as they tell more. */
  #settledAfterMs = ALONE_SETTLED_AFTER_MS;
  #complete = false;
  #isAway = false;

  constructor(options: SyncOptions) {
    this.#options = options;
    this.#since = options.since === undefined ? undefined : parseSince(options.since, this.#began);
    const { stateDir, config } = findPlace(options);
    if (!stateDir) throw new SettingError(`no state directory is known; ${MEND}`);
    this.#stateDir = stateDir;
    this.#sessionStore = sessionStoreOf(config);
  }

  /** Makes the pipeline. */
  async open(): Promise<void> {
    await checkStore(this.#stateDir, this.#sessionStore);
    this.#pipeline = await openPipeline("sync", this.#options, {
      begins: true,
      settledAfterMs: () => this.#settledAfterMs,
      most: { history: MOST_WAITING, gaps: MOST_WAITING },
    });
    const { store } = this.#pipeline;
    // It is made wherever there is a state directory.
    if (!store) throw new SettingError("--state-dir: no state directory");
    this.#store = store;
    store.waitForRoom = (most) => this.#waitForRoom(most);
  }

  async run(): Promise<number> {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => this.#stop.abort());
    await this.#pipeline.open();
    if (this.#isOwner) await this.#hearOthers();
    if (this.#isOwner) await this.#once();
    else await this.#handOver();
    if (this.#options.watch) await this.#watch();
    return this.#end();
  }

  get #isOwner(): boolean {
    return this.#pipeline.status().standing === "owner";
  }

  get #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  async #handOver(): Promise<void> {
    const owner = await livingOwner(stateFolder(this.#stateDir));
    const who = owner ? `${owner.role}, process ${owner.pid} on ${owner.host}` : "another process";
    this.#store.ask(this.#since ?? null);
    const what =
      this.#since === undefined ? "" : `, and was asked to fill in calls since ${date(this.#since)}`;
    log.info(
      `the state directory belongs to another process (${who}): it counts what the session store holds${what}; agentwatch-openclaw status shows how far it is`,
    );
  }

  /** What other processes told is taken in first. */
  async #hearOthers(): Promise<void> {
    const spool = spoolFolder(stateFolder(this.#stateDir));
    if (statSync(spool, { throwIfNoEntry: false })?.isDirectory() && readdirSync(spool).length > 0)
      await this.#pause(1.5 * LOOK_MS);
    else this.#settledAfterMs = 0;
  }

  /** Everything that was there when this began. */
  async #once(): Promise<void> {
    const since = this.#since ?? (this.#store.isFresh() ? 0 : undefined);
    this.#say(since);
    let span = since === undefined ? this.#store.planned() : this.#store.plan(since);
    // What an earlier run began comes first; then what lies before it.
    for (let before: number | undefined; span && span.since !== before && !this.#isStopped; ) {
      before = span.since;
      await this.#fillIn();
      span = since === undefined ? undefined : this.#store.plan(since);
    }
    await this.#pause(Math.max(0, this.#began + this.#settledAfterMs + 1 - Date.now()));
    if (this.#isStopped) return;
    do await this.#look();
    while (!this.#isStopped && !this.#isAway && this.#store.outcome?.isDone === false);
    const isRead = this.#store.outcome?.isDone !== false && this.#store.planned() === undefined;
    this.#complete = isRead && !this.#isStopped;
  }

  #say(since: number | undefined): void {
    const floor = this.#store.floor() ?? this.#began;
    const planned = this.#store.planned();
    if (planned) log.info(`going on with an earlier sync of calls since ${date(planned.since)}`);
    if (since === undefined) {
      const older = floor > 0 ? `; those before ${date(floor)} are counted only with --since` : "";
      log.info(`calls since the last sync${older}`);
    } else if (since >= floor)
      log.info(`calls since ${date(floor)} are counted already, so only what is new is read`);
    else if (since === 0) log.info("all calls that the session store holds");
    else log.info(`calls since ${date(since)}`);
  }

  async #fillIn(): Promise<void> {
    this.#bar = new ProgressBar(process.stderr, await countSessions(this.#stateDir, this.#sessionStore), () =>
      performance.now(),
    );
    do {
      await this.#look();
      if (this.#store.history) this.#bar.show(this.#store.history);
    } while (!this.#isStopped && !this.#isAway && this.#isOwner && this.#store.history?.isDone === false);
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

  /** Waits until little enough waits to be sent: reading goes on only then. */
  async #waitForRoom(most: number): Promise<boolean> {
    if (this.#store.history) this.#bar?.show(this.#store.history);
    for (let since = performance.now(), least = Number.POSITIVE_INFINITY; !this.#isStopped; ) {
      const waiting = this.#pipeline.backlog();
      if (waiting <= most) return true;
      if (waiting < least) [since, least] = [performance.now(), waiting];
      // Sending without pauses is for receivers that take something.
      else if (performance.now() - since > RELIEF_MS) await this.#pause(1_000);
      if (!this.#options.watch && performance.now() - since > PATIENCE_MS) {
        this.#isAway = true;
        return false;
      }
      if (!(await this.#pipeline.reduceBacklog(most, RELIEF_MS))) await this.#pause(200);
    }
    return false;
  }

  async #watch(): Promise<void> {
    if (this.#isStopped) return;
    this.#settledAfterMs = ALONE_SETTLED_AFTER_MS;
    log.info("watching the session store");
    while (!this.#isStopped) {
      const before = performance.now();
      await this.#look();
      const took = performance.now() - before;
      await this.#pause(Math.max(LOOK_EVERY_MS, this.#store.pauseAfter(took)));
    }
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  async #end(): Promise<number> {
    const isOwner = this.#isOwner;
    const problems = [...(this.#store.history?.problems ?? []), ...(this.#store.outcome?.problems ?? [])];
    const since = this.#store.floor();
    this.#store.close();
    await endPipeline(this.#pipeline);
    const status = this.#pipeline.ended as Record<string, number> & {
      dropped?: Record<string, number>;
      ignored?: Record<string, number>;
    };
    const { waiting = 0, delivered = 0, confirmed = 0, from_store = 0 } = status;
    const skipped = { ...this.#skipped, ...status.ignored, ...status.dropped };
    const history = this.#store.history;
    const summary: SyncSummary = {
      since_ms: isOwner ? (since ?? null) : null,
      handed_over: !isOwner,
      complete: this.#complete,
      sessions: history?.sessions ?? 0,
      megabytes: Math.round((history?.bytes ?? 0) / 1_048_576),
      calls: from_store,
      sent: delivered + confirmed,
      waiting,
      skipped,
      problems: [...new Set(problems)],
    };
    this.#tell(summary);
    if (!isOwner) return 0;
    const isLate = this.#isAway || waiting > 0 || (this.#isStopped && !this.#complete);
    if (isLate) return 2;
    return summary.problems.length > 0 ? 1 : 0;
  }

  #tell(summary: SyncSummary): void {
    if (this.#options.json) print(JSON.stringify(summary));
    if (summary.handed_over) return;
    const { calls, sent, waiting, skipped, complete } = summary;
    log.info(
      `${counted(calls, "call")} counted, ${sent} sent, ${waiting} waiting; left out: ${tally(skipped)}`,
    );
    if (this.#isAway)
      log.warn(
        `AgentWatch takes nothing (${String(this.#pipeline.ended?.last_error ?? "no answer")}); what waits is kept, and the next sync goes on`,
      );
    else if (!complete && this.#isStopped)
      log.info("stopped before its end; the next sync goes on from here");
  }
}

function checkHistory(history: string | undefined): void {
  if (history !== undefined && !["costs", "usage"].includes(history))
    throw new SettingError(`--history ${history}: not one of costs, usage; costs is the default`);
}

const MEND = "name the gateway's state directory with --state-dir or OPENCLAW_STATE_DIR";

/** @throws where there is no session store: neither in the state directory, nor where its configuration says */
async function checkStore(stateDir: string, store: SessionStore | undefined): Promise<void> {
  const agents = join(stateDir, "agents");
  try {
    if (statSync(agents).isDirectory() || (store && (await hasStore(stateDir, store)))) return;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR")
      throw new SettingError(`--state-dir ${stateDir}: ${message}; run this as the gateway's user`);
    if (store && (await hasStore(stateDir, store))) return;
  }
  const named = store ? `, nor anything at session.store ${store.path}` : "";
  throw new SettingError(
    `--state-dir ${stateDir}: no session store there (${agents} is no folder${named}); ${MEND}`,
  );
}

function date(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
