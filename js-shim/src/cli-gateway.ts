/** The command `agentwatch-openclaw sync --gateway`: a gateway's calls by its API, for whoever may not read its files. */

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { endPipeline, log, makePipeline, pipelineSettings, tally } from "./cli-pipeline.js";
import type { SyncOptions, SyncSummary } from "./cli-sync.js";
import { judge } from "./doctor.js";
import { environmentAllowsPlain, environmentStateDir } from "./env.js";
import { type GatewayAddress, parseGateway } from "./gateway-address.js";
import { type Device, openDevice } from "./gateway-device.js";
import { Away, GatewayLink } from "./gateway-link.js";
import { type Trouble, troubleOf } from "./gateway-mend.js";
import { OthersCalls, ReceiverAway } from "./gateway-others.js";
import { GatewayPoll, type PolledCall } from "./gateway-poll.js";
import { type Access, findAccess, remoteSettings } from "./gateway-secret.js";
import { stateFolder } from "./installation.js";
import { livingOwner } from "./lease.js";
import { SettingError } from "./listen.js";
import type { Pipeline } from "./pipeline.js";
import { findPlace } from "./place.js";
import { isTime } from "./shape.js";
import { parseSince } from "./span.js";
import { print } from "./terminal.js";
import { instantiate } from "./wasm.js";
import { counted } from "./words.js";

/** Where AgentWatch lists calls, those that were read wait so long, in ms, for the plugin's telling: it knows more. */
const OTHERS_FIRST_MS = 4_000;
/** How many calls may wait to be sent while reading goes on. */
const MOST_WAITING = 2_000;
const RELIEF_MS = 10_000;
/** Pauses between tries, in ms. */
const BACKOFF = { first: 1_000, most: 30_000 } as const;
/** How long a single run tries to reach a gateway or a receiver, in ms. */
const PATIENCE_MS = 30_000;
/** Marks of the journal: from when on calls are counted, and until when sessions were found. */
const SINCE = "/gateway/since";
const FOUND = "/gateway/found";
/** Sessions are found by days. */
const DAY_MS = 86_400_000;

/** Follows a gateway; the exit status. */
export async function gatewayCommand(text: string, options: SyncOptions): Promise<number> {
  const sync = await GatewaySync.open(text, options);
  return sync.run();
}

/** Where this command keeps what belongs to a gateway: its journal and the device's key. */
function ownDir({ host, port }: GatewayAddress, options: SyncOptions): string {
  const name = `${host.replace(/[^A-Za-z0-9.-]/g, "_")}_${port}`;
  const named = options["state-dir"];
  if (named) return named;
  const stateDir = environmentStateDir(options.profile);
  if (!stateDir)
    throw new SettingError("no folder is known to keep the journal in; name one with --state-dir");
  return join(stateFolder(stateDir), "gateways", name);
}

class GatewaySync {
  readonly #address: GatewayAddress;
  readonly #options: SyncOptions;
  readonly #access: Access;
  readonly #device: Device;
  readonly #stateDir: string;
  readonly #pipeline: Pipeline;
  readonly #others: OthersCalls;
  readonly #stop = new AbortController();
  /** How long calls wait for others' telling, in ms. */
  #othersFirstMs = OTHERS_FIRST_MS;
  /** What was read and waits, the oldest first; the journal has its mark when it has the calls. */
  readonly #read: { at: number; calls: PolledCall[]; name: string; mark: string }[] = [];
  #sinceMs = 0;
  #marks = new Map<string, string>();
  #poll!: GatewayPoll;
  #skippedOthers = 0;
  #isComplete = false;
  #isAway = false;
  #hasFound = false;
  /** What was said last of a trouble: it is said once. */
  #said = "";

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
    this.#others = new OthersCalls(settings.url === false ? undefined : url, token, gateway);
  }

  static async open(text: string, options: SyncOptions): Promise<GatewaySync> {
    // Settings that are wrong are said before anything is made.
    const { config, problem } = findPlace({ profile: options.profile });
    if (problem) log.warn(problem);
    const rough = parseGateway(text, undefined, environmentAllowsPlain());
    const remote = remoteSettings(config, text);
    const pinned = options["tls-fingerprint"] ?? (rough.isTls ? remote.tlsFingerprint : undefined);
    const fingerprint = typeof pinned === "string" && pinned !== "" ? pinned : undefined;
    const address = parseGateway(text, fingerprint, environmentAllowsPlain());
    const access = await findAccess(remote, config);
    const stateDir = ownDir(address, options);
    const { "state-dir": _, ...elsewhere } = options;
    const { settings } = await pipelineSettings(elsewhere, stateDir);
    return new GatewaySync(address, options, access, openDevice(stateDir), stateDir, settings);
  }

  async run(): Promise<number> {
    for (const signal of ["SIGINT", "SIGTERM"] as const)
      process.once(signal, () => {
        this.#stop.abort();
        this.#poll?.wake();
      });
    await this.#pipeline.open();
    if (this.#pipeline.status().standing !== "owner") await this.#refuse();
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
    const who = owner ? `${owner.role}, process ${owner.pid} on ${owner.host}` : "another process";
    throw new SettingError(
      `--state-dir ${this.#stateDir}: it belongs to ${who}; stop that one, or name another folder`,
    );
  }

  /** From when on calls are counted: what the first run said, since a session's sums know no other. */
  #since(): number {
    const kept = Number(this.#marks.get(SINCE) ?? Number.NaN);
    const asked = this.#options.since === undefined ? undefined : parseSince(this.#options.since, Date.now());
    if (!isTime(kept)) {
      const since = asked ?? 0;
      this.#pipeline.takeStored([], SINCE, String(since));
      log.info(since === 0 ? "all calls that the gateway tells of" : `calls since ${date(since)}`);
      return since;
    }
    if (asked !== undefined && asked < kept)
      log.warn(
        `--since ${this.#options.since}: an earlier sync left out what was before ${date(kept)}, and so does this one; name another --state-dir to count it`,
      );
    log.info("calls since the last sync");
    return Math.max(kept, asked ?? 0);
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

  /** Counts what was read and has waited. @throws ReceiverAway where it cannot be compared; it waits on */
  async #countRead(): Promise<void> {
    for (let first = this.#read[0]; first && first.at <= performance.now(); first = this.#read[0]) {
      const { calls, name, mark } = first;
      const own = await this.#others.without(calls);
      if (this.#others.problem) this.#warnOnce(this.#others.problem);
      const rows = own.map(({ row }) => row);
      if (!this.#pipeline.takeStored(rows, name, mark))
        throw new ReceiverAway("the calls could not be taken in");
      this.#skippedOthers += calls.length - own.length;
      this.#read.shift();
      while (this.#pipeline.backlog() > MOST_WAITING && !this.#isStopped) {
        if (await this.#pipeline.reduceBacklog(MOST_WAITING, RELIEF_MS)) break;
        // What waits is kept; a single run reads no more than there is room for.
        if (!this.#options.watch) throw new ReceiverAway("AgentWatch takes nothing");
        await this.#pause(BACKOFF.first);
      }
    }
  }

  get #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Connects, follows, and connects again until that is to end. */
  async #follow(): Promise<void> {
    const began = performance.now();
    for (let pause: number = BACKOFF.first; !this.#isStopped; ) {
      try {
        this.#othersFirstMs = (await this.#others.lists()) ? OTHERS_FIRST_MS : 0;
        await this.#connection(() => {
          pause = BACKOFF.first;
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
        if (!this.#options.watch && performance.now() - began > PATIENCE_MS) {
          this.#isAway = true;
          return;
        }
        await this.#pause(Math.max(pause, Math.min(trouble.afterMs ?? 0, 2 * BACKOFF.most)));
        pause = Math.min(2 * pause, BACKOFF.most);
      }
    }
  }

  #trouble(error: unknown): Trouble {
    if (error instanceof ReceiverAway) return { says: error.message, mayPass: true };
    return troubleOf(error, this.#address, this.#access.from);
  }

  /** One connection, to its end. @throws what ended it */
  async #connection(isUp: () => void): Promise<void> {
    let lost: Error | undefined;
    const link = await GatewayLink.open(
      this.#address,
      this.#device,
      this.#access,
      "agentwatch-openclaw",
      (event) => this.#poll.hear(event),
      (why) => {
        lost = new Error(why);
        this.#poll.wake();
      },
    );
    try {
      isUp();
      if (this.#said !== "" || this.#options.watch)
        log.info(
          `connected to OpenClaw ${link.version || "of an unknown version"} at ${this.#address.url.host}`,
        );
      this.#said = "";
      await this.#poll.use(link);
      await this.#poll.listAll();
      await this.#find();
      while (!this.#isStopped && !lost) {
        await this.#poll.step(500);
        await this.#countRead();
        if (!this.#poll.isIdle || this.#read.length > 0) continue;
        const isFirst = !this.#isComplete;
        this.#isComplete = true;
        if (!this.#options.watch) return;
        if (isFirst) log.info("watching the gateway");
      }
      if (lost && !this.#isStopped) throw new Away(lost);
    } finally {
      link.close();
    }
  }

  /** Finds sessions that are not listed, once a run. */
  async #find(): Promise<void> {
    if (this.#hasFound) return;
    const before = Number(this.#marks.get(FOUND) ?? Number.NaN);
    const now = String(Date.now());
    await this.#poll.discover(Math.max(this.#sinceMs, isTime(before) ? before - DAY_MS : 0));
    this.#pipeline.takeStored([], FOUND, now);
    this.#marks.set(FOUND, now);
    this.#hasFound = true;
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  #warnOnce(text: string): void {
    if (text === this.#said) return;
    this.#said = text;
    log.warn(text);
  }

  #end(): number {
    const status = (this.#pipeline.ended ?? {}) as Record<string, number> & {
      dropped?: Record<string, number>;
      ignored?: Record<string, number>;
    };
    const { waiting = 0, delivered = 0, confirmed = 0, from_store = 0 } = status;
    const { sessions, skipped, problems } = this.#poll.reading;
    const told = this.#skippedOthers > 0 && { told_by_others: this.#skippedOthers };
    const summary: SyncSummary = {
      since_ms: this.#sinceMs,
      handed_over: false,
      complete: this.#isComplete && !this.#isAway,
      sessions,
      megabytes: 0,
      calls: from_store,
      sent: delivered + confirmed,
      waiting,
      skipped: { ...skipped, ...told, ...status.ignored, ...status.dropped },
      problems: [...problems],
    };
    if (this.#options.json) print(JSON.stringify(summary));
    for (const problem of problems) log.warn(problem);
    log.info(
      `${counted(summary.calls, "call")} of ${counted(sessions, "session")} counted, ${summary.sent} sent, ${waiting} waiting; left out: ${tally(summary.skipped)}`,
    );
    if (!summary.complete || waiting > 0) return 2;
    return problems.size > 0 ? 1 : 0;
  }
}

function date(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
