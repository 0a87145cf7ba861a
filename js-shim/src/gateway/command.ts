/** The command `agentwatch-openclaw sync --gateway`: reads a gateway's calls through its API instead of its files. */

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { GATEWAYS, stateFolder } from "../base/installation.js";
import { livingOwner } from "../base/owner.js";
import { reason } from "../base/promises.js";
import { isTime } from "../base/shape.js";
import { print } from "../base/terminal.js";
import { instantiate } from "../base/wasm.js";
import { counted, SWITCHED_OFF } from "../base/words.js";
import { type Device, openDevice } from "../commands/gateway-device.js";
import { SettingError } from "../commands/listen.js";
import { endPipeline, log, makePipeline, pipelineSettings, tally } from "../commands/pipeline.js";
import { findPlace } from "../commands/place.js";
import { parseSince } from "../commands/span.js";
import type { SyncOptions, SyncSummary } from "../commands/sync.js";
import { judge } from "../doctor/doctor.js";
import { environmentAllowsPlain, environmentStateDir } from "../plugin/env.js";
import type { Pipeline } from "../worker/pipeline.js";
import { type GatewayAddress, parseGateway } from "./address.js";
import { ConnectionError, GatewayLink } from "./link.js";
import { type Trouble, troubleOf } from "./mend.js";
import { OtherSenders, ReceiverUnreachable } from "./others.js";
import { GatewayPoll, type PolledCall } from "./poll.js";
import { type Access, findAccess, remoteSettings } from "./secret.js";

/** Wait for the plugin's records, in ms, if the receiver lists calls: the plugin's records have more fields. */
const OTHERS_FIRST_MS = 4_000;
/** Maximum backlog at which reading continues, in calls. */
const MAX_PENDING = 2_000;
/** Maximum time of one attempt to reduce the backlog, in ms. */
const SEND_BUDGET_MS = 10_000;
/** Pauses between retries, in ms. */
const BACKOFF = { first: 1_000, max: 30_000 } as const;
/** Time for which a run without `--watch` retries an unreachable gateway or receiver, in ms. */
const RETRY_TIME_MS = 30_000;
/** Bookmark: the time since which calls are counted. */
const SINCE = "/gateway/since";
/** Bookmark: the time of the last search for sessions that are not listed. */
const FOUND = "/gateway/found";
/** Tries of the search for sessions that are not listed. */
const SEARCHES = 3;
/** The search takes dates, so it begins one day earlier. */
const DAY_MS = 86_400_000;

/** Reads a gateway. @returns the exit status */
export async function gatewayCommand(text: string, options: SyncOptions): Promise<number> {
  const sync = await GatewaySync.open(text, options);
  return sync.run();
}

/** The command's own state directory for one gateway: it holds the journal and the device's key. */
function ownDir({ host, port }: GatewayAddress, options: SyncOptions): string {
  const name = `${host.replace(/[^A-Za-z0-9.-]/g, "_")}_${port}`;
  const named = options["state-dir"];
  if (named) return named;
  const stateDir = environmentStateDir(options.profile);
  if (!stateDir) throw new SettingError("there is no folder for the journal; name one with --state-dir");
  return join(stateFolder(stateDir), GATEWAYS, name);
}

class GatewaySync {
  readonly #address: GatewayAddress;
  readonly #options: SyncOptions;
  readonly #access: Access;
  readonly #device: Device;
  readonly #stateDir: string;
  readonly #pipeline: Pipeline;
  readonly #others: OtherSenders;
  readonly #stop = new AbortController();
  /** Wait for records of other senders, in ms. */
  #othersFirstMs = OTHERS_FIRST_MS;
  /** Calls that were read and not counted yet, oldest first. Their mark is journalled together with them. */
  readonly #read: { at: number; calls: PolledCall[]; name: string; mark: string }[] = [];
  #sinceMs = 0;
  #marks = new Map<string, string>();
  #poll!: GatewayPoll;
  #skippedOthers = 0;
  #isComplete = false;
  #isUnreachable = false;
  /** Number of searches for sessions that are not listed. */
  #searches = 0;
  /** Time at which the search succeeded whose sessions are not all read yet, in ms since 1970. */
  #foundAt: number | undefined;
  /** The last logged problem: a repeated problem is logged once. */
  #loggedProblem = "";

  private constructor(
    address: GatewayAddress,
    options: SyncOptions,
    access: Access,
    device: Device,
    stateDir: string,
    settings: Record<string, unknown>,
  ) {
    this.#address = address;
    this.#options = options;
    this.#access = access;
    this.#device = device;
    this.#stateDir = stateDir;
    const gateway = String(settings.gateway ?? address.url.host);
    this.#pipeline = makePipeline("sync", { ...settings, gateway }, stateDir, undefined);
    const { url, token } = judge({ ...settings, gateway });
    this.#others = new OtherSenders(settings.url === false ? undefined : url, token, gateway);
  }

  static async open(text: string, options: SyncOptions): Promise<GatewaySync> {
    // Checks all settings before it creates a file.
    const { config, problem } = findPlace({ profile: options.profile });
    if (problem) log.warn(problem);
    const parsed = parseGateway(text, undefined, environmentAllowsPlain());
    const remote = remoteSettings(config, text);
    const pinned = options["tls-fingerprint"] ?? (parsed.isTls ? remote.tlsFingerprint : undefined);
    const fingerprint = typeof pinned === "string" && pinned !== "" ? pinned : undefined;
    const address = parseGateway(text, fingerprint, environmentAllowsPlain());
    const access = await findAccess(remote, config);
    const stateDir = ownDir(address, options);
    const { "state-dir": _, ...others } = options;
    const { settings } = await pipelineSettings(others, stateDir);
    return new GatewaySync(address, options, access, openDevice(stateDir), stateDir, settings);
  }

  async run(): Promise<number> {
    for (const signal of ["SIGINT", "SIGTERM"] as const)
      process.once(signal, () => {
        this.#stop.abort();
        this.#poll?.wake();
      });
    await this.#pipeline.open();
    const { standing, off } = this.#pipeline.status();
    if (off) {
      await endPipeline(this.#pipeline);
      throw new SettingError(SWITCHED_OFF);
    }
    if (standing !== "owner") await this.#refuse();
    this.#marks = this.#pipeline.bookmarks();
    this.#sinceMs = this.#since();
    this.#poll = this.#makePoll();
    try {
      await this.#follow();
    } finally {
      await endPipeline(this.#pipeline);
    }
    return this.#end();
  }

  async #refuse(): Promise<never> {
    const owner = await livingOwner(stateFolder(this.#stateDir));
    await endPipeline(this.#pipeline);
    const holder = owner ? `${owner.role}, process ${owner.pid} on ${owner.host}` : "another process";
    throw new SettingError(
      `--state-dir ${this.#stateDir}: it belongs to ${holder}; stop that process, or name another folder`,
    );
  }

  /**
   * Time since which calls are counted, in ms since 1970. The first run decides it: a session's sums cover this span
   * only.
   */
  #since(): number {
    const stored = Number(this.#marks.get(SINCE) ?? Number.NaN);
    const asked = this.#options.since === undefined ? undefined : parseSince(this.#options.since, Date.now());
    if (!isTime(stored)) {
      const since = asked ?? 0;
      this.#pipeline.takeStored([], SINCE, String(since));
      log.info(since === 0 ? "all calls of the gateway" : `calls since ${date(since)}`);
      return since;
    }
    if (asked !== undefined && asked < stored)
      log.warn(
        `--since ${this.#options.since}: an earlier sync left out calls before ${date(stored)}, and so does this one; name another --state-dir to count them`,
      );
    // A later time than the stored one would leave out the calls between the last run and that time.
    log.info("calls since the last sync");
    return stored;
  }

  #makePoll(): GatewayPoll {
    const { wall, mono } = { wall: () => Date.now(), mono: () => performance.now() };
    return new GatewayPoll(
      {
        instantiate: () => instantiate(log.warn),
        mark: (name) => this.#marks.get(name),
        take: (calls, name, mark) => {
          this.#marks.set(name, mark);
          this.#read.push({ at: mono() + this.#othersFirstMs, calls, name, mark });
        },
        room: () => this.#countRead(),
        warn: log.warn,
        wall,
        mono,
      },
      this.#sinceMs,
    );
  }

  /** Counts the calls whose wait is over. @throws ReceiverUnreachable if they cannot be compared yet */
  async #countRead(): Promise<void> {
    for (let first = this.#read[0]; first && first.at <= performance.now(); first = this.#read[0]) {
      const { calls, name, mark } = first;
      const own = await this.#others.without(calls);
      if (this.#others.problem) this.#warnOnce(this.#others.problem);
      const rows = own.map(({ row }) => row);
      if (!this.#pipeline.takeStored(rows, name, mark))
        throw new ReceiverUnreachable("the calls could not be taken in");
      this.#skippedOthers += calls.length - own.length;
      this.#read.shift();
      while (this.#pipeline.backlog() > MAX_PENDING && !this.#isStopped) {
        if (await this.#pipeline.reduceBacklog(MAX_PENDING, SEND_BUDGET_MS)) break;
        // Pending calls are on disk; a run without `--watch` ends here.
        if (!this.#options.watch) throw new ReceiverUnreachable("AgentWatch accepts nothing");
        await this.#pause(BACKOFF.first);
      }
    }
  }

  get #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Connects and reads, and reconnects until the run ends. */
  async #follow(): Promise<void> {
    let failing: number | undefined;
    for (let pause: number = BACKOFF.first; !this.#isStopped; ) {
      try {
        this.#othersFirstMs = (await this.#others.lists()) ? OTHERS_FIRST_MS : 0;
        await this.#connection(() => {
          pause = BACKOFF.first;
          failing = undefined;
        });
        if (!this.#options.watch) return;
      } catch (error) {
        const trouble = this.#trouble(error);
        if (!trouble.mayPass) {
          throw new SettingError(trouble.says);
        }
        this.#warnOnce(
          `${trouble.says}; ${this.#options.watch ? "it is tried again" : "it is tried for half a minute"}`,
        );
        failing ??= performance.now();
        if (!this.#options.watch && performance.now() - failing > RETRY_TIME_MS) {
          this.#isUnreachable = true;
          return;
        }
        await this.#pause(Math.max(pause, Math.min(trouble.afterMs ?? 0, 2 * BACKOFF.max)));
        pause = Math.min(2 * pause, BACKOFF.max);
      }
    }
  }

  #trouble(error: unknown): Trouble {
    if (error instanceof ReceiverUnreachable) return { says: error.message, mayPass: true };
    return troubleOf(error, this.#address, this.#access.from);
  }

  /** Reads through one connection until it ends. @throws the error that ended it */
  async #connection(isUp: () => void): Promise<void> {
    let lost: Error | undefined;
    const link = await GatewayLink.open(
      this.#address,
      this.#device,
      this.#access,
      "agentwatch-openclaw",
      (event) => this.#poll.onEvent(event),
      (why) => {
        lost = new Error(why);
        this.#poll.wake();
      },
    );
    try {
      isUp();
      if (this.#loggedProblem !== "" || this.#options.watch)
        log.info(
          `connected to OpenClaw ${link.version || "of an unknown version"} at ${this.#address.url.host}`,
        );
      this.#loggedProblem = "";
      await this.#poll.use(link);
      await this.#poll.listAll();
      while (!this.#isStopped && !lost) {
        await this.#poll.step(500);
        await this.#countRead();
        if (!this.#poll.isIdle || this.#read.length > 0 || (await this.#searchUnlisted())) continue;
        const isFirst = !this.#isComplete;
        this.#isComplete = true;
        if (!this.#options.watch) return;
        if (isFirst) log.info("watching the gateway");
      }
      if (lost && !this.#isStopped) throw new ConnectionError(lost);
    } finally {
      link.close();
    }
  }

  /**
   * Searches for sessions that are not listed, once per run, when all listed ones are read: a gateway may read its whole
   * store for it. @returns whether there may be more to read
   */
  async #searchUnlisted(): Promise<boolean> {
    if (this.#foundAt !== undefined) {
      // All that it found is counted: the next run searches from here on.
      const found = String(this.#foundAt);
      this.#pipeline.takeStored([], FOUND, found);
      this.#marks.set(FOUND, found);
      this.#foundAt = undefined;
    }
    if (this.#searches === SEARCHES) return false;
    const before = Number(this.#marks.get(FOUND) ?? Number.NaN);
    const now = Date.now();
    this.#searches += 1;
    try {
      await this.#poll.discover(Math.max(this.#sinceMs, isTime(before) ? before - DAY_MS : 0));
      this.#searches = SEARCHES;
      this.#foundAt = now;
    } catch (error) {
      if (this.#searches < SEARCHES) throw error;
      this.#poll.reading.problems.add(`sessions that are not listed were not searched (${reason(error)})`);
    }
    return true;
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  #warnOnce(text: string): void {
    if (text === this.#loggedProblem) return;
    this.#loggedProblem = text;
    log.warn(text);
  }

  #end(): number {
    const status = (this.#pipeline.ended ?? {}) as Record<string, number> & {
      off?: boolean;
      dropped?: Record<string, number>;
      ignored?: Record<string, number>;
    };
    const { waiting = 0, delivered = 0, confirmed = 0, from_store = 0 } = status;
    const { sessions, skipped, problems } = this.#poll.reading;
    if (status.off) problems.add(SWITCHED_OFF);
    const others = this.#skippedOthers > 0 && { told_by_others: this.#skippedOthers };
    const summary: SyncSummary = {
      since_ms: this.#sinceMs,
      handed_over: false,
      complete: this.#isComplete && !this.#isUnreachable,
      sessions,
      megabytes: 0,
      calls: from_store,
      sent: delivered + confirmed,
      waiting,
      skipped: { ...skipped, ...others, ...status.ignored, ...status.dropped },
      problems: [...problems],
    };
    if (this.#options.json) print(JSON.stringify(summary));
    for (const problem of problems) log.warn(problem);
    log.info(
      `${counted(summary.calls, "call")} of ${counted(sessions, "session")} counted, ${summary.sent} sent, ${waiting} waiting; left out: ${tally(summary.skipped)}`,
    );
    if (status.off || !summary.complete || waiting > 0) return 2;
    return problems.size > 0 ? 1 : 0;
  }
}

function date(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
