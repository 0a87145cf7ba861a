/**
 * The pipeline of one process: it takes events in, passes them to the engine, which counts and journals them, and makes the
 * engine's requests.
 */

import { randomInt } from "node:crypto";
import { HostFiles } from "../base/host-files.js";
import { type Inbox, type Moment, passToEngine, Queue, type QueuedEvent, spansOf } from "../base/inbox.js";
import { Pack } from "../base/pack.js";
import { SOURCES } from "../base/pickers.js";
import { Prices } from "../base/prices.js";
import { reason, withDeadline } from "../base/promises.js";
import { Scheduler, TICK_MS } from "../base/scheduler.js";
import {
  type Caller,
  type Engine,
  type Fact,
  type Instance,
  makeEngine,
  type Refusal,
  SEEDS,
} from "../base/wasm.js";
import { SWITCHED_OFF } from "../base/words.js";
import { type CollectorTarget, collectorOf, encoded } from "./collector.js";
import { EngineRunner } from "./engine-runner.js";
import { JournalWatch } from "./journal-watch.js";
import { Metrics } from "./metrics.js";
import { Poster } from "./poster.js";
import { REQUEST_TIMEOUT_MS, RequestLoop } from "./request-loop.js";
import { StatusWriter } from "./status.js";
import { type StoreHost, StoreWatch } from "./store-watch.js";

/** The log of the process. */
export interface Log {
  info(text: string): void;
  warn(text: string): void;
}

/** The functions of the process that a pipeline calls; tests have their own. */
export interface Host {
  /** Makes an instance of the module. */
  instantiate(): Instance;
  /** Reads the built-in table of list prices. */
  priceTable(): string;
  log: Log;
  /** ms since 1970. */
  wall(): number;
  /** ms of the monotonic clock. */
  mono(): number;
  /** The plugin's folder in the gateway's state directory; without one nothing is written to disk. */
  folder?: string | undefined;
  /** The session store that is compared with the counted calls; only with a folder. */
  store?: StoreHost | undefined;
  /** Name of this process for others that share the folder: `gateway`, `ingest`, … */
  role?: string;
  /** Whether it claims the journal of a proxy; see `crate/src/lease`. Default: no. */
  claims?(): boolean;
  /** Events of another thread; without it the pipeline reads the events of {@link Pipeline.accept}. */
  inbox?: Inbox;
}

/** Bookmark of the inbox's position. It is journalled with the events before it, so a crash leaves both or neither. */
const INBOX_MARK = "/inbox";

/** How long a pipeline that closes waits for the requests to the collector and to the webhook, in ms. */
const IDLE_WITHIN_MS = 500;

/** The folder's files, whose inbox learns of each write: until it is acknowledged, its events are on disk and in the inbox. */
class JournalFiles extends HostFiles {
  readonly #inbox: Inbox;

  constructor(folder: string, inbox: Inbox) {
    super(folder);
    this.#inbox = inbox;
  }

  // The journal and the spool are written by it alone.
  override append(...args: Parameters<HostFiles["append"]>): void {
    this.#inbox.writing();
    super.append(...args);
  }
}

/** One process's pipeline. */
export class Pipeline {
  readonly #host: Host;
  #settings: Record<string, unknown>;
  #prices: Prices;
  #collector: CollectorTarget | undefined;
  readonly #runner: EngineRunner;
  /** Requests to AgentWatch. */
  readonly #requests: RequestLoop;
  /** Requests to the OpenTelemetry collector. */
  readonly #exports: RequestLoop;
  /** Requests to the webhook. */
  readonly #notices: RequestLoop;
  readonly #poster: Poster;
  readonly #pack = new Pack();
  readonly #queue: Queue;
  readonly #inbox: Inbox;
  readonly #journalWatch: JournalWatch;
  readonly #statusWriter: StatusWriter;
  readonly #metrics: Metrics;
  readonly #scheduler: Scheduler;
  #expectDiagnostics = false;
  /** Resolves the promise of {@link Pipeline.tick}. */
  #endTick: (hadEvents: boolean) => void = () => {};
  /** The watch of the session store, where there is one. */
  readonly store: StoreWatch | undefined;
  /** The sources that calls are counted by, as a text for the status. */
  countedBy: string | undefined;
  /** Number of calls that passed since this thread did not answer the gateway's gates in time. */
  unanswered = 0;
  /** The last status, once the pipeline is closed. */
  ended: Record<string, unknown> | undefined;

  constructor(host: Host, settings: Record<string, unknown>) {
    const { wall, mono, log, folder, role = "gateway" } = host;
    this.#host = host;
    this.#scheduler = new Scheduler(mono, () => this.#runTick());
    // These events are in memory alone: the process stays alive for them.
    this.#queue = new Queue(mono, (ms) => this.#scheduler.schedule(ms, true));
    this.#inbox = host.inbox ?? this.#queue;
    this.#settings = settings;
    this.#pack.hasPreviews = settings.preview === true;
    this.#poster = new Poster(host.instantiate);
    this.#prices = this.#pricesOf(settings);
    this.#runner = new EngineRunner({
      make: () => this.#makeEngine(),
      rewind: () => this.#inbox.rewind(),
      switchedOff: () => {
        this.#discardEvents();
        this.#scheduler.clear();
        this.#endTick(false);
      },
      mono,
      warn: (text) => log.warn(text),
    });
    const runner = this.#runner;
    const advance = () => this.#advance();
    this.#journalWatch = new JournalWatch({
      ...{ runner, role, log, wall, mono, advance, folder },
      files: folder === undefined ? undefined : new JournalFiles(folder, this.#inbox),
      flush: () => this.flush(),
      claims: host.claims ?? (() => false),
      isIdle: () => [this.#requests, this.#exports, this.#notices].every((loop) => loop.isIdle),
      logLines: (lines) => this.#logLines(lines),
    });
    const loop = {
      runner,
      poster: this.#poster,
      mono,
      maySend: () => !this.#journalWatch.isClaimed && this.#holdsJournal(),
      done: advance,
    };
    this.#requests = new RequestLoop({
      ...loop,
      begin: (engine, hurry) => engine.begin(wall(), mono(), hurry),
      answered: (engine, reply) => engine.answered(reply, wall(), mono()),
    });
    this.#exports = new RequestLoop({
      ...loop,
      begin: (engine, hurry) => encoded(engine.beginCollector(wall(), mono(), hurry)),
      answered: (engine, reply) => {
        engine.answeredCollector(reply, wall(), mono());
        return undefined;
      },
    });
    this.#notices = new RequestLoop({
      ...loop,
      begin: (engine, hurry) => engine.beginWebhook(wall(), mono(), hurry),
      answered: (engine, reply) => {
        engine.answeredWebhook(reply, wall(), mono());
        return undefined;
      },
    });
    this.#statusWriter = new StatusWriter(folder ?? "", wall);
    this.#metrics = new Metrics({
      port: () => this.#metricsPort(),
      text: () => this.#metricsText(),
      log,
      mono,
    });
    this.store = host.store && folder ? this.#watchStore(host.store, folder) : undefined;
  }

  get #isStarted(): boolean {
    return this.#runner.engine !== undefined;
  }

  /** Takes an event in: copies its fields now, and counts it later. Throws nothing, waits for nothing. */
  accept(source: string, args: readonly unknown[]): void {
    if (this.#runner.isOff) return;
    try {
      this.start();
      const { wall, mono } = this.#now();
      for (const { pick } of SOURCES[source] ?? [])
        if (pick(args[0], args[1], this.#pack, wall, mono)) this.#queue.add(this.#pack.copy());
    } catch (error) {
      this.#runner.switchOff(error);
    }
  }

  /** Whether there is a source of this name. */
  hasSource(source: string): boolean {
    return SOURCES[source] !== undefined;
  }

  /**
   * Counts an event at once.
   *
   * @returns why the event could not be read
   */
  take(source: string, args: readonly unknown[]): string | undefined {
    this.start();
    if (this.#runner.isOff) return SWITCHED_OFF;
    let problem: string | undefined;
    const { wall, mono } = this.#now();
    for (const { pick } of SOURCES[source] ?? []) {
      if (!pick(args[0], args[1], this.#pack, wall, mono)) continue;
      const event = this.#queue.addTaken(this.#pack.copy());
      this.#runner.run((engine) => {
        passToEngine(engine, [event], 0);
        problem = this.#observe(engine, event) ?? problem;
      });
    }
    this.#scheduler.schedule(TICK_MS);
    return problem;
  }

  /**
   * Counts rows of the source `stored`, which match no other observation, and journals a bookmark with them.
   *
   * @returns whether the engine has them
   */
  takeStored(rows: readonly Fact[][], name: string, mark: string): boolean {
    const source = SOURCES.stored?.[0]?.index;
    const { wall, mono } = this.#now();
    const isTaken =
      source !== undefined &&
      this.#runner.run((engine) => engine.takeRows(source, [...rows], name, mark, true, wall, mono));
    this.#advance();
    return isTaken;
  }

  /**
   * Whether a call that begins now may pass, by every event that came so far: undefined where it may. It is then under way
   * until it is counted, or until {@link Pipeline.endRequest}. Other due work follows the answer.
   *
   * @param request a number of a proxy's request
   */
  admit(caller: Caller, request?: number): Refusal | undefined {
    if (!this.#hasAllowance) return undefined;
    let refused: Refusal | undefined;
    this.start();
    if (this.#passAll(() => {})) this.#scheduler.schedule(0);
    const { wall, mono } = this.#now();
    this.#runner.run((engine) => {
      this.#prices.answer(engine);
      refused = engine.admit(caller, request, wall, mono);
      this.#logLines(engine.logLines());
    });
    return refused;
  }

  get #hasAllowance(): boolean {
    const { allowance } = this.#settings;
    return Array.isArray(allowance) && allowance.length > 0;
  }

  /** A proxy's request is over. */
  endRequest(request: number): void {
    if (!this.#hasAllowance) return;
    // Its call is reported in an event that waits.
    this.drain();
    this.#runner.run((engine) => engine.endRequest(request));
  }

  /** The bookmarks of the journal, by their names. */
  bookmarks(): Map<string, string> {
    let marks: [name: string, mark: string][] = [];
    this.#runner.run((engine) => {
      marks = JSON.parse(engine.bookmarks());
    });
    return new Map(marks);
  }

  /** Loads the engine and reads the journal, where that is not done yet. */
  start(): void {
    if (this.#isStarted || this.#runner.isOff) return;
    if (this.#host.folder !== undefined) {
      process.once("exit", this.#atExit);
      this.#journalWatch.start();
    }
    this.#collector = this.#collectorOf(this.#settings);
    this.#runner.renew();
    if (this.#runner.isOff) return;
    if (this.#host.folder !== undefined) this.#metrics.start();
    this.store?.open();
    this.drain();
    this.#advance();
    // A call that begins now is judged by it already.
    if (this.#journalWatch.standing === "owner") this.#journalWatch.takeLift();
  }

  /** Does the same as {@link Pipeline.start}. */
  async open(): Promise<void> {
    this.start();
  }

  #watchStore(store: StoreHost, folder: string): StoreWatch {
    const { instantiate, wall, mono, log } = this.#host;
    return new StoreWatch(store, {
      folder,
      isOwner: () => this.#journalWatch.standing === "owner",
      isOff: () => this.#runner.isOff,
      source: () => SOURCES.stored?.[0]?.index,
      run: (work) => this.#runner.run(work),
      advance: () => this.#advance(),
      backlog: () => this.backlog(),
      instantiate,
      warn: log.warn,
      wall,
      mono,
    });
  }

  /** Takes other settings; pending calls stay in the journal. */
  configure(settings: Record<string, unknown>): void {
    if (JSON.stringify(settings) === JSON.stringify(this.#settings)) return;
    this.drain();
    this.flush();
    this.#settings = settings;
    this.#pack.hasPreviews = settings.preview === true;
    this.#prices = this.#pricesOf(settings);
    if (!this.#isStarted) return;
    this.#collector = this.#collectorOf(settings);
    this.#runner.renew();
    this.#metrics.look();
    this.#advance();
  }

  /** Sets whether the gateway sends diagnostic events, which the engine then waits for. */
  expectDiagnostics(expected: boolean): void {
    this.#expectDiagnostics = expected;
    this.#runner.run((engine) => engine.expectDiagnostics(expected));
  }

  /** Passes every event of the inbox to the engine, and runs due work. @returns whether there were events */
  drain(): boolean {
    let wakeInMs = -1;
    const isPassed = this.#passAll((engine) => {
      wakeInMs = this.#runDue(engine, this.#now());
    });
    if (isPassed) this.#followUp(wakeInMs);
    return isPassed;
  }

  /** Awaits the next run of due work, in at most {@link TICK_MS} ms. @returns whether the inbox had events for it */
  tick(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#endTick = resolve;
      this.#scheduler.schedule(TICK_MS);
    });
  }

  #runTick(): void {
    this.#endTick(!this.#runner.isOff && this.#advance());
  }

  /** Passes every event of the inbox to the engine, and runs `last` in it. @returns whether there were events */
  #passAll(last: (engine: Engine) => void): boolean {
    // What comes behind the end stays in the inbox, for the next reader.
    if (this.#runner.isClosed) return false;
    if (this.#runner.isOff) {
      this.#discardEvents();
      return false;
    }
    if (this.#inbox.isEmpty || !this.#isStarted) return false;
    // After a trap the inbox has the events that are not journalled once more.
    for (let isDone = false; !isDone && !this.#runner.isOff; ) {
      isDone = spansOf(this.#inbox.take()).every(([events, until]) =>
        this.#runner.run((engine) => {
          this.#passEvents(engine, events);
          if (until) this.#runDue(engine, until);
          else last(engine);
        }),
      );
    }
    return true;
  }

  #discardEvents(): void {
    this.#inbox.take();
    this.#inbox.acknowledge();
  }

  /** Both clocks at once. */
  #now(): Moment {
    return { wall: this.#host.wall(), mono: this.#host.mono() };
  }

  /** Passes events to the engine, and journals the inbox's position with them. */
  #passEvents(engine: Engine, events: QueuedEvent[]): void {
    const { wall, mono } = this.#now();
    let passed = 0;
    for (const [index, event] of events.entries()) {
      if (index >= passed) passed = passToEngine(engine, events, index);
      this.#observe(engine, event);
    }
    const mark = this.#inbox.mark(events);
    if (mark) engine.takeRows(0, [], INBOX_MARK, mark, false, wall, mono);
  }

  #observe(engine: Engine, event: QueuedEvent): string | undefined {
    this.#inbox.observing(event);
    const problem = engine.observe();
    this.#inbox.observing(undefined);
    return problem;
  }

  /**
   * Makes every call final and sends pending calls, for at most `budgetMs` ms.
   *
   * @returns the number of calls that are still pending
   */
  async stop(budgetMs: number): Promise<number> {
    if (!this.#isStarted) return 0;
    const until = this.#host.mono() + budgetMs;
    this.drain();
    // The collector gets the last calls at the same time as AgentWatch.
    if (this.#collector) this.#closeCalls();
    const exported = Promise.all([
      this.#exports.sendAll(until),
      this.#notices.sendUntil(until, 0, () => this.#noticesLeft()),
    ]);
    // An engine that was replaced meanwhile has open calls again.
    for (let restarts = -1; restarts !== this.#runner.restarts; ) {
      restarts = this.#runner.restarts;
      this.#closeCalls();
      await this.#requests.sendUntil(until, 0, () => this.backlog());
    }
    this.flush();
    await exported;
    return Number(this.status().waiting ?? 0);
  }

  /** Makes every call final, and journals them. */
  #closeCalls(): void {
    this.#runner.run((engine) => {
      this.#prices.answer(engine);
      engine.close(this.#host.wall(), this.#host.mono());
    });
    this.#advance();
  }

  /** Writes everything now, before another engine goes on. @returns whether it is on disk */
  flush(): boolean {
    return this.#written((engine) => engine.flushAll(this.#host.wall(), this.#host.mono()));
  }

  #written(write: (engine: Engine) => boolean): boolean {
    let isWritten = false;
    this.#runner.run((engine) => {
      isWritten = write(engine);
      this.#logLines(engine.logLines());
    });
    this.#acknowledge();
    return isWritten;
  }

  /**
   * Journals every event that was taken in so far.
   *
   * @throws where the disk cannot be written
   */
  async journalled(): Promise<void> {
    this.drain();
    const isWritten = this.#written((engine) => engine.flush(this.#host.wall(), this.#host.mono()));
    if (!isWritten) throw new Error("the journal cannot be written");
  }

  /** Ends the pipeline behind {@link Pipeline.stop} and releases the journal. Later events stay in the inbox. */
  async close(): Promise<void> {
    // Events that came behind the stop are journalled for the next owner.
    this.drain();
    this.flush();
    const status = this.status();
    this.ended = status;
    this.#runner.close();
    await this.#metrics.close();
    this.#scheduler.clear();
    this.store?.close();
    this.#statusWriter.close();
    this.#journalWatch.close();
    // What a server that hangs does not answer is in the journal, and is sent again.
    const idle = Promise.all([this.#exports.idle(), this.#notices.idle()]);
    await withDeadline(idle, IDLE_WITHIN_MS).catch(() => {});
    if (this.#ownsJournal()) this.#statusWriter.write(status);
    process.off("exit", this.#atExit);
    this.#journalWatch.release();
  }

  /**
   * Journals every event at once, since the process ends, and releases the journal.
   *
   * @throws where the disk cannot be written
   */
  finishSync(): void {
    try {
      this.drain();
      // A process that lost the journal writes spool files instead.
      this.#journalWatch.loseUnlessHeld();
      if (!this.flush()) throw new Error("the journal cannot be written");
    } finally {
      this.#journalWatch.release();
    }
  }

  readonly #atExit = (): void => {
    try {
      this.finishSync();
    } catch (error) {
      this.#host.log.warn(`the journal could not be written at the end (${reason(error)})`);
    }
  };

  #ownsJournal(): boolean {
    return this.#journalWatch.standing === "owner" && this.#journalWatch.isHeld;
  }

  /** Whether no other process took the journal over; if one did, this process writes spool files from here on. */
  #holdsJournal(): boolean {
    if (this.#journalWatch.isHeld) return true;
    this.#journalWatch.loseJournal();
    return false;
  }

  /**
   * Sends until the backlog is at most `max`, for callers that bring events faster than they are sent.
   *
   * @returns whether that was reached within `budgetMs` ms
   */
  async reduceBacklog(max: number, budgetMs: number): Promise<boolean> {
    this.#advance();
    await this.#requests.sendUntil(this.#host.mono() + budgetMs, max, () => this.backlog());
    return this.backlog() <= max;
  }

  /** The status: counters, and times in ms since 1970; see `crate/src/engine/status.rs`. */
  status(): Record<string, unknown> {
    let status: Record<string, unknown> = {};
    this.#runner.run((engine) => {
      status = JSON.parse(engine.status());
    });
    const { standing } = this.#journalWatch;
    // The engine reports null, as for an unusable url.
    const unset = this.#settings.url === false && { url: false };
    const { dropped, skipped } = this.#inbox;
    const { restarts, isOff: off } = this.#runner;
    const counts = {
      ...{ core_restarts: restarts, dropped_trap: skipped, dropped_queue_full: dropped },
      ...(status.brake ? { brake_unanswered: this.unanswered } : {}),
    };
    const state = { standing, counted_by: this.countedBy, off };
    const metrics = this.#metrics.status();
    return { ...status, ...unset, ...counts, ...this.store?.status(), ...state, ...(metrics && { metrics }) };
  }

  /** The port of `/metrics`; undefined where it is not set, or another process owns the journal and counts. */
  #metricsPort(): number | undefined {
    let port: number | undefined;
    if (this.#ownsJournal())
      this.#runner.run((engine) => {
        port = engine.metricsPort();
      });
    return port;
  }

  #metricsText(): string | undefined {
    let text: string | undefined;
    const { dropped, skipped } = this.#inbox;
    this.#runner.run((engine) => {
      text = engine.metrics(this.#host.wall(), dropped, skipped);
    });
    return text;
  }

  /** Number of calls and other records that are not sent yet. */
  backlog(): number {
    const { waiting = 0, records_waiting = 0 } = this.status() as Record<string, number>;
    return waiting + records_waiting;
  }

  /** Number of notices that wait for the webhook. */
  #noticesLeft(): number {
    const { webhook } = this.status() as { webhook?: { waiting: number } };
    return webhook?.waiting ?? 0;
  }

  #makeEngine(): Engine {
    const engine = makeEngine(this.#host.instantiate(), this.#settings, randomInt);
    engine.expectDiagnostics(this.#expectDiagnostics);
    if (this.#collector) {
      const { url, headers, form } = this.#collector;
      engine.tellCollector(url, headers, JSON.stringify(form), randomInt(SEEDS));
    }
    this.#journalWatch.join(engine);
    const marks = JSON.parse(engine.bookmarks()) as [name: string, mark: string][];
    const found = marks.find(([name]) => name === INBOX_MARK);
    if (found) this.#inbox.resume(found[1]);
    return engine;
  }

  #pricesOf(settings: Record<string, unknown>): Prices {
    const { priceTable, log } = this.#host;
    const io = () => this.#poster.io();
    return new Prices({ io, table: priceTable, warn: (text) => log.warn(text) }, settings);
  }

  /** The collector of the settings; undefined where none is set, or where the setting is unusable. */
  #collectorOf(settings: Record<string, unknown>): CollectorTarget | undefined {
    const { folder, log } = this.#host;
    return folder === undefined ? undefined : collectorOf(() => this.#poster.io(), settings, log);
  }

  /** Runs due work. @returns whether the inbox had events */
  #advance(): boolean {
    // Events that wait are older than the due work: a call that one of them belongs to must not become final before.
    if (!this.#inbox.isEmpty) return this.drain();
    let wakeInMs = -1;
    this.#runner.run((engine) => {
      wakeInMs = this.#runDue(engine, this.#now());
    });
    this.#followUp(wakeInMs);
    return false;
  }

  /** Runs the engine's due work. @returns ms until more is due; negative where that waits for the next event */
  #runDue(engine: Engine, { wall, mono }: Moment): number {
    this.#prices.answer(engine);
    const wakeInMs = engine.advance(wall, mono);
    this.#logLines(engine.logLines());
    return wakeInMs;
  }

  /** Follows up the engine's work: acknowledges events, wakes the outlets, and schedules the next due work. */
  #followUp(wakeInMs: number): void {
    this.#acknowledge();
    if (this.#journalWatch.standing === "owner")
      this.#statusWriter.schedule(() => (this.#ownsJournal() ? this.status() : undefined));
    this.#requests.send(false, REQUEST_TIMEOUT_MS);
    if (this.#collector) this.#exports.send(false, REQUEST_TIMEOUT_MS);
    if (this.#settings.webhook) this.#notices.send(false, REQUEST_TIMEOUT_MS);
    if (wakeInMs >= 0 && !this.#runner.isOff)
      this.#scheduler.schedule(Math.min(Math.max(wakeInMs, TICK_MS), 60_000));
  }

  /** Acknowledges the events that are on disk. */
  #acknowledge(): void {
    this.#runner.run((engine) => {
      if (engine.isKept()) this.#inbox.acknowledge();
    });
  }

  #logLines(lines: string | undefined): void {
    const all = JSON.parse(lines ?? "[]") as { level: keyof Log; text: string }[];
    for (const { level, text } of all) this.#host.log[level](text);
  }
}
