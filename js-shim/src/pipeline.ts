/**
 * What runs: events are picked on the hook path, handed to the core a moment later, journalled, and sent from there.
 *
 * An instance of the module that trapped is dead. A fresh one goes on from the journal, and the events that were not
 * journalled are handed over again.
 */

import { randomInt } from "node:crypto";
import { BEAT_MS, Beat } from "./beat.js";
import { give, type Inbox, type Moment, Queue, spansOf, type Waiting } from "./inbox.js";
import { ARCHIVE, type Otlp, openOtlp } from "./otlp.js";
import { Ownership } from "./ownership.js";
import { Pack } from "./pack.js";
import { SOURCES } from "./pickers.js";
import { type Order, Poster } from "./poster.js";
import { Prices } from "./prices.js";
import { reason, withDeadline } from "./promises.js";
import { LOOK_MS } from "./spool.js";
import { WRITE_EVERY_MS, writeStatus } from "./status.js";
import { type StoreHost, StoreWatch } from "./store-watch.js";
import { type Core, type Fact, type Instance, type Io, makeCore } from "./wasm.js";

/** How the pipeline speaks to the gateway's log. */
export interface Log {
  info(text: string): void;
  warn(text: string): void;
}

/** What the pipeline needs of its host; replaced in tests. */
export interface Host {
  /** Makes what counts. */
  instantiate(): Instance;
  /** Makes what sends. */
  instantiateIo(): Io;
  /** Reads the built-in table of list prices. */
  priceTable(): string;
  log: Log;
  /** ms since 1970. */
  wall(): number;
  /** ms of a clock that never goes back. */
  mono(): number;
  /** Our folder in the gateway's state directory; without one everything lives as long as the process. */
  folder?: string | undefined;
  /** The session store that is to be compared with what was told; only with a folder. */
  store?: StoreHost | undefined;
  /** What this process is, for others that share the folder: `gateway`, `ingest`, … */
  role?: string;
  /** Where events wait that another thread heard; without it they are those of {@link Pipeline.accept}. */
  inbox?: Inbox;
}

interface LogLine {
  level: "info" | "warn";
  text: string;
}

/** The bookmark of how far the inbox was read: it is journalled with what was read, so a crash leaves both or neither. */
const INBOX_MARK = "/inbox";

/** Said where this process was held up for so long that another one took the journal over. */
const LOST = "another process took the journal over; it is told what this one sees";

/** How long a request may take, in ms. */
const REQUEST_TIMEOUT_MS = 10_000;
/** More restarts of the core than this within a minute switch the pipeline off. */
const MAX_RESTARTS = 5;

/** One gateway's pipeline. */
export class Pipeline {
  readonly #host: Host;
  #settings: Record<string, unknown>;
  #prices: Prices;
  #otlp: Otlp | undefined;
  #core: Core | undefined;
  readonly #poster: Poster;
  readonly #pack = new Pack();
  /** Events of this thread. */
  readonly #queue: Queue;
  readonly #inbox: Inbox;
  readonly #ownership: Ownership;
  #lookTimer: NodeJS.Timeout | undefined;
  #statusTimer: NodeJS.Timeout | undefined;
  /** What watches the session store, where there is one. */
  readonly store: StoreWatch | undefined;
  readonly #beat: Beat;
  #sending: Promise<void> | undefined;
  #expectDiagnostics = false;
  #restarts: number[] = [];
  #isOff = false;
  /** What the calls are counted by, in words. */
  countedBy: string | undefined;
  /** The last status, once it was closed. */
  ended: Record<string, unknown> | undefined;
  /** What the core cannot count: it was dead, or never saw it. */
  readonly counts = { core_restarts: 0 };

  constructor(host: Host, settings: Record<string, unknown>) {
    this.#host = host;
    this.#beat = new Beat(host.mono, () => this.#onBeat());
    // What waits there is nowhere else.
    this.#queue = new Queue(host.mono, (ms) => this.#beat.within(ms, true));
    this.#inbox = host.inbox ?? this.#queue;
    this.#settings = settings;
    this.#pack.hasPreviews = settings.preview === true;
    this.#prices = this.#pricesOf(settings);
    this.#ownership = new Ownership(host.folder, host.role ?? "gateway");
    this.#poster = new Poster(host.instantiateIo);
    this.store = host.store && host.folder ? this.#watchStore(host.store, host.folder) : undefined;
  }

  /** Whether the core is loaded. */
  get isStarted(): boolean {
    return this.#core !== undefined;
  }

  /** Takes an event in: copies its fields now, and does the rest later. Throws nothing, waits for nothing. */
  accept(source: string, args: readonly unknown[]): void {
    if (this.#isOff) return;
    try {
      if (!this.#core) this.start();
      const { wall, mono } = this.#now();
      for (const { pick } of SOURCES[source] ?? [])
        if (pick(args[0], args[1], this.#pack, wall, mono)) this.#queue.add(this.#pack.copy());
    } catch (error) {
      this.#switchOff(error);
    }
  }

  /** Whether there is such a source of events. */
  knows(source: string): boolean {
    return SOURCES[source] !== undefined;
  }

  /**
   * Takes an event in at once, for those who want to hear what is wrong with it.
   *
   * @returns why it could not be read
   */
  take(source: string, args: readonly unknown[]): string | undefined {
    this.start();
    let problem: string | undefined;
    const { wall, mono } = this.#now();
    for (const { pick } of SOURCES[source] ?? []) {
      if (!pick(args[0], args[1], this.#pack, wall, mono)) continue;
      const event = this.#queue.addTaken(this.#pack.copy());
      this.#guarded((core) => {
        give(core, [event], 0);
        problem = this.#observe(core, event) ?? problem;
      });
    }
    return problem;
  }

  /**
   * Counts rows of the source `stored`, and keeps a bookmark with them: a crash leaves both or neither. They are matched with
   * nothing.
   */
  takeStored(rows: readonly Fact[][], name: string, mark: string): boolean {
    const source = SOURCES.stored?.[0]?.index;
    const { wall, mono } = this.#now();
    const isTaken =
      source !== undefined &&
      this.#guarded((core) => core.takeRows(source, [...rows], name, mark, true, wall, mono));
    this.#advance();
    return isTaken;
  }

  /** The bookmarks of the journal, by their names. */
  bookmarks(): Map<string, string> {
    let marks: [name: string, mark: string][] = [];
    this.#guarded((core) => {
      marks = JSON.parse(core.bookmarks());
    });
    return new Map(marks);
  }

  /** Loads the core, and reads the journal. Called by the first event, or before it. */
  start(): void {
    if (this.#core || this.#isOff) return;
    this.#ownership.take();
    if (this.#host.folder !== undefined) {
      process.once("exit", this.#atExit);
      this.#lookTimer = setInterval(() => this.#look(), LOOK_MS);
      this.#lookTimer.unref();
    }
    this.#openOtlp();
    this.#renew();
    if (this.#isOff) return;
    this.store?.open();
    this.drain();
    this.#advance();
  }

  /** Loads the core where it is not loaded yet; a promise, as the worker answers with one. */
  async open(): Promise<void> {
    this.start();
  }

  #watchStore(store: StoreHost, folder: string): StoreWatch {
    const { instantiateIo, wall, mono, log } = this.#host;
    return new StoreWatch(store, {
      folder,
      isOwner: () => this.#ownership.standing === "owner",
      isOff: () => this.#isOff,
      source: () => SOURCES.stored?.[0],
      run: (work) => this.#guarded(work),
      advance: () => this.#advance(),
      backlog: () => this.backlog(),
      spooled: () => Number(this.status().spooled ?? 0),
      instantiateIo,
      warn: log.warn,
      wall,
      mono,
    });
  }

  /** Goes on with other settings; what waits is kept. */
  configure(settings: Record<string, unknown>): void {
    if (JSON.stringify(settings) === JSON.stringify(this.#settings)) return;
    this.drain();
    this.flush();
    this.#settings = settings;
    this.#pack.hasPreviews = settings.preview === true;
    this.#prices = this.#pricesOf(settings);
    if (!this.#core) return;
    this.#openOtlp();
    this.#renew();
    this.#advance();
  }

  /** A fresh core, with other settings or another journal. */
  #renew(): void {
    try {
      this.#core = this.#makeCore();
    } catch (error) {
      this.#switchOff(error);
    }
  }

  /** Tells whether the gateway's diagnostics are heard. */
  expectDiagnostics(expected: boolean): void {
    this.#expectDiagnostics = expected;
    this.#guarded((core) => core.expectDiagnostics(expected));
  }

  /** Hands every waiting event to the core, and does what is due. */
  drain(): void {
    if (this.#isOff) {
      this.#inbox.take();
      return this.#inbox.acknowledge();
    }
    if (this.#inbox.isEmpty || !this.#core) return;
    let wakeInMs = -1;
    // Where the core died, a fresh one begins with what is not kept.
    for (let isDone = false; !isDone && !this.#isOff; ) {
      isDone = spansOf(this.#inbox.take()).every(([events, until]) =>
        this.#guarded((core) => {
          this.#handOver(core, events);
          wakeInMs = this.#settle(core, until ?? this.#now());
        }),
      );
    }
    this.#follow(wakeInMs);
  }

  /** Both clocks at once. */
  #now(): Moment {
    return { wall: this.#host.wall(), mono: this.#host.mono() };
  }

  /** Hands events over, and how far reading is with them: a crash leaves both, or neither. */
  #handOver(core: Core, events: Waiting[]): void {
    const { wall, mono } = this.#now();
    let given = 0;
    for (const [index, event] of events.entries()) {
      if (index >= given) given = give(core, events, index);
      this.#observe(core, event);
    }
    const mark = this.#inbox.mark(events);
    if (mark) core.takeRows(0, [], INBOX_MARK, mark, false, wall, mono);
  }

  #observe(core: Core, event: Waiting): string | undefined {
    this.#inbox.observing(event);
    const problem = core.observe();
    this.#inbox.observing(undefined);
    return problem;
  }

  /**
   * Makes every call final and sends what waits, for at most so many ms.
   *
   * @returns how many calls still wait
   */
  async stop(budgetMs: number): Promise<number> {
    if (!this.#core) return 0;
    const until = this.#host.mono() + budgetMs;
    this.drain();
    // Where there is a collector, it is told the last calls beside AgentWatch.
    if (this.#otlp) this.#close();
    const told = this.#otlp?.finish(until - this.#host.mono());
    // A core that was made anew meanwhile has calls open again.
    for (let restarts = -1; restarts !== this.counts.core_restarts; ) {
      restarts = this.counts.core_restarts;
      this.#close();
      await this.#sendUntil(until, 0);
    }
    this.flush();
    await told;
    return Number(this.status().waiting ?? 0);
  }

  /** Makes every call final, and writes what comes of that. */
  #close(): void {
    this.#guarded((core) => {
      this.#prices.answer(core);
      core.close(this.#host.wall(), this.#host.mono());
    });
    this.#advance();
  }

  /** Writes everything now; whether it is on disk. */
  flush(): boolean {
    let isKept = false;
    this.#guarded((core) => {
      isKept = core.flush(this.#host.wall(), this.#host.mono());
      this.#say(core.said());
    });
    this.#acknowledge();
    return isKept;
  }

  /**
   * Brings everything that was taken so far to the disk.
   *
   * @throws where the disk does not take it
   */
  async journalled(): Promise<void> {
    this.drain();
    if (!this.flush()) throw new Error("the journal cannot be written");
  }

  /** Ends for good behind {@link Pipeline.stop}: the journal is free for others. Events that still come are dropped. */
  async close(): Promise<void> {
    // What came behind the stop is the next one's, who finds it in the journal.
    this.drain();
    this.flush();
    const status = this.status();
    this.ended = status;
    this.#isOff = true;
    this.#beat.clear();
    this.store?.close();
    clearTimeout(this.#statusTimer);
    clearInterval(this.#lookTimer);
    await this.#otlp?.close();
    if (this.#ownership.standing === "owner" && this.#ownership.isHeld) await this.#writeStatus(status);
    process.off("exit", this.#atExit);
    this.#ownership.release();
  }

  /**
   * Brings what was heard to the disk at once, since the process ends, and lets the journal go.
   *
   * @throws where the disk does not take it
   */
  finishSync(): void {
    try {
      this.drain();
      // A journal that another process took over is not ours to write to.
      if (!this.#ownership.isHeldForCertain) this.#guarded((core) => this.#ownership.lose(core));
      if (!this.flush()) throw new Error("the journal cannot be written");
    } finally {
      this.#ownership.release();
    }
  }

  readonly #atExit = (): void => {
    try {
      this.finishSync();
    } catch (error) {
      this.#host.log.warn(`the journal could not be written at the end (${reason(error)})`);
    }
  };

  /** What the owner does now and then, and what the others do to become it. */
  #look(): void {
    if (this.#isOff) return;
    try {
      if (this.#ownership.standing === "spool") return this.#takeOver();
    } catch (error) {
      this.#host.log.warn(`the journal's folder cannot be looked at (${reason(error)})`);
      return;
    }
    if (!this.#ownership.isHeld) return this.#lose();
    let isNew = false;
    this.#guarded((core) => {
      isNew = core.takeSpools(this.#host.wall(), this.#host.mono());
      this.#say(core.said());
    });
    if (isNew) this.#advance();
  }

  #takeOver(): void {
    // What this process told the former owner lies in files that it now reads itself.
    this.flush();
    if (!this.#ownership.takeOver()) return;
    this.#host.log.info("the journal is this process's now");
    this.#renew();
    this.#advance();
  }

  #lose(): void {
    this.#host.log.warn(LOST);
    this.#guarded((core) => this.#ownership.lose(core));
    this.flush();
    this.#renew();
  }

  /**
   * Waits until at most so much waits to be sent, for those who bring more than is sent in the same time.
   *
   * @returns whether that was reached in time
   */
  async relieve(most: number, budgetMs: number): Promise<boolean> {
    this.#advance();
    await this.#sendUntil(this.#host.mono() + budgetMs, most);
    return this.backlog() <= most;
  }

  /** Everything that a status shows. */
  status(): Record<string, unknown> {
    let status: Record<string, unknown> = {};
    this.#guarded((core) => {
      status = JSON.parse(core.status());
    });
    const otlp = this.#otlp && { otlp: this.#otlp.status() };
    const { standing } = this.#ownership;
    // Off on purpose, and not unusable.
    const unset = this.#settings.url === false && { url: false };
    const { dropped, skipped } = this.#inbox;
    const counts = { ...this.counts, dropped_trap: skipped, dropped_queue_full: dropped };
    const told = { standing, counted_by: this.countedBy, off: this.#isOff };
    return { ...status, ...unset, ...counts, ...this.store?.status(), ...otlp, ...told };
  }

  /** What waits to be sent, calls and other records. */
  backlog(): number {
    const { waiting = 0, records_waiting = 0 } = this.status() as Record<string, number>;
    return waiting + records_waiting;
  }

  /** Sends without pauses until little enough waits, time is up, or nothing goes forward any more. */
  async #sendUntil(until: number, most: number): Promise<void> {
    for (let stalled = 0, before = this.backlog(); before > most && stalled < 3; ) {
      const left = until - this.#host.mono();
      if (left <= 0 || this.#isOff) return;
      if (!this.#sending && !this.#send(true, left)) return;
      await withDeadline(this.#sending ?? Promise.resolve(), left).catch(() => {});
      const now = this.backlog();
      stalled = now < before ? 0 : stalled + 1;
      before = now;
    }
  }

  #makeCore(): Core {
    const { wall, mono } = this.#now();
    const core = makeCore(this.#host.instantiate(), this.#settings, randomInt);
    core.expectDiagnostics(this.#expectDiagnostics);
    core.archiveTo(this.#otlp && ARCHIVE);
    this.#ownership.open(core, wall, mono);
    const marks = JSON.parse(core.bookmarks()) as [name: string, mark: string][];
    const found = marks.find(([name]) => name === INBOX_MARK);
    if (found) this.#inbox.resume(found[1]);
    return core;
  }

  #pricesOf(settings: Record<string, unknown>): Prices {
    const { priceTable, log } = this.#host;
    const io = () => this.#poster.io();
    return new Prices({ io, table: priceTable, warn: (text) => log.warn(text) }, settings);
  }

  /** Tells a collector too, where one is set. */
  #openOtlp(): void {
    const { folder, log, wall, mono } = this.#host;
    void this.#otlp?.close();
    this.#otlp = undefined;
    if (folder === undefined) return;
    const isOwner = () => this.#ownership.standing === "owner" && this.#ownership.isHeld;
    const host = { io: () => this.#poster.io(), log, wall, mono, isOwner, folder };
    this.#otlp = openOtlp(host, this.#settings);
  }

  /** Runs something in the core; a trap costs the instance, not the gateway. Whether it went well. */
  #guarded(work: (core: Core) => void): boolean {
    if (!this.#core || this.#isOff) return false;
    try {
      work(this.#core);
      return true;
    } catch (error) {
      this.#restart(error);
      return false;
    }
  }

  #restart(error: unknown): void {
    this.counts.core_restarts += 1;
    const now = this.#host.mono();
    this.#restarts = [...this.#restarts.filter((at) => now - at < 60_000), now];
    if (this.#restarts.length > MAX_RESTARTS) {
      this.#switchOff(error);
      return;
    }
    try {
      this.#inbox.rewind();
      this.#core = this.#makeCore();
      this.#host.log.warn(`the core was restarted after a fault (${reason(error)}); nothing is lost`);
    } catch (again) {
      this.#switchOff(again);
    }
  }

  #switchOff(error: unknown): void {
    this.#isOff = true;
    this.#inbox.take();
    this.#inbox.acknowledge();
    this.#beat.clear();
    this.#host.log.warn(
      `switched off after repeated faults (${reason(error)}): model calls are not counted until the gateway is restarted; please report this`,
    );
  }

  #onBeat(): void {
    if (!this.#isOff) this.#advance();
  }

  #advance(): void {
    // What waits came before: without it a call could be final that it belongs to.
    if (!this.#inbox.isEmpty) return this.drain();
    let wakeInMs = -1;
    this.#guarded((core) => {
      wakeInMs = this.#settle(core, this.#now());
    });
    this.#follow(wakeInMs);
  }

  /** Does what is due in the core. @returns in how many ms to advance again; negative for not before the next event */
  #settle(core: Core, { wall, mono }: Moment): number {
    this.#prices.answer(core);
    const wakeInMs = core.advance(wall, mono);
    this.#say(core.said());
    return wakeInMs;
  }

  /** Does what follows from that outside of it. */
  #follow(wakeInMs: number): void {
    this.#acknowledge();
    this.#otlp?.wake();
    this.#tellStatus();
    this.#send(false, REQUEST_TIMEOUT_MS);
    this.#wakeIn(wakeInMs);
  }

  /** Lets go of the events that are on disk. */
  #acknowledge(): void {
    this.#guarded((core) => {
      if (core.isKept()) this.#inbox.acknowledge();
    });
  }

  #say(lines: string | undefined): void {
    if (lines) for (const { level, text } of JSON.parse(lines) as LogLine[]) this.#host.log[level](text);
  }

  /** Something may have changed: a moment later the status is written for others to read. */
  #tellStatus(): void {
    if (this.#statusTimer || this.#ownership.standing !== "owner") return;
    this.#statusTimer = setTimeout(() => {
      this.#statusTimer = undefined;
      void this.#writeStatus(this.status());
    }, WRITE_EVERY_MS);
    this.#statusTimer.unref();
  }

  async #writeStatus(status: Record<string, unknown>): Promise<void> {
    // A disk that takes nothing is told by the journal already.
    await writeStatus(this.#host.folder ?? "", status, this.#host.wall()).catch(() => {});
  }

  /** Advances again in so many ms, at a beat; never where that is negative. */
  #wakeIn(ms: number): void {
    if (ms >= 0 && !this.#isOff) this.#beat.within(Math.min(Math.max(ms, BEAT_MS), 60_000));
  }

  /** Sends what is due; whether there was something. */
  #send(hurry: boolean, timeoutMs: number): boolean {
    if (this.#sending) return false;
    if (!this.#ownership.isHeld) {
      this.#lose();
      return false;
    }
    let order: Order | undefined;
    this.#guarded((core) => {
      order = core.begin(this.#host.wall(), this.#host.mono(), hurry);
    });
    if (!order) return false;
    this.#sending = this.#exchange(order, Math.max(1, Math.ceil(timeoutMs))).finally(() => {
      this.#sending = undefined;
      this.#advance();
    });
    return true;
  }

  /** One request and those that follow from its answer at once. */
  async #exchange(order: Order, timeoutMs: number): Promise<void> {
    let next: Order | undefined = order;
    while (next !== undefined) {
      const core = this.#core;
      const reply = await this.#poster.make(next, timeoutMs);
      next = undefined;
      // A core that was restarted meanwhile asked nothing: the batch is sent again, under its guards.
      if (core !== this.#core) return;
      this.#guarded((current) => {
        next = current.answered(reply, this.#host.wall(), this.#host.mono());
      });
    }
  }
}
