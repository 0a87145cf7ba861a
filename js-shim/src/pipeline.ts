/**
 * What runs: events are picked on the hook path, handed to the core a moment later, journalled, and sent from there.
 *
 * An instance of the module that trapped is dead. Its state is remade in a fresh one from the journal, and
 * the events that it had not yet finished are handed over again.
 */

import { randomInt } from "node:crypto";
import { BEAT_MS, Beat } from "./beat.js";
import { give, type Inbox, type Moment, Queue, spansOf, type Waiting } from "./inbox.js";
import { GATHER_MS, Keeping } from "./keeping.js";
import { attic, type Otlp, openOtlp } from "./otlp.js";
import { Pack } from "./pack.js";
import { SOURCES } from "./pickers.js";
import { type Order, Poster } from "./poster.js";
import { Prices } from "./prices.js";
import { reason, withDeadline } from "./promises.js";
import { WRITE_EVERY_MS, writeStatus } from "./status.js";
import { type StoreHost, StoreWatch } from "./store-watch.js";
import { type Core, type Instance, type Io, makeCore } from "./wasm.js";

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

/** What an advance of the core asks for. */
interface Advice {
  /** In how many ms to advance again; negative for not before the next event. */
  wakeInMs: number;
  /** Lines to log, as JSON. */
  said: string | undefined;
}

interface LogLine {
  level: "info" | "warn";
  text: string;
}

/** The bookmark of how far the inbox was read: it is journalled with what was read, so a crash leaves both or neither. */
const INBOX_MARK = "/inbox";

const NOTHING: Advice = { wakeInMs: -1, said: undefined };

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
  readonly #keeping: Keeping;
  #opening: Promise<void> | undefined;
  #statusTimer: NodeJS.Timeout | undefined;
  /** What watches the session store, where there is one. */
  readonly store: StoreWatch | undefined;
  #isOpen = false;
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
  readonly counts = { core_restarts: 0, dropped_trap: 0 };

  constructor(host: Host, settings: Record<string, unknown>) {
    this.#host = host;
    this.#beat = new Beat(host.mono, () => this.#onBeat());
    // What waits there is nowhere else.
    this.#queue = new Queue(host.mono, (ms) => this.#beat.within(ms, true));
    this.#inbox = host.inbox ?? this.#queue;
    this.#settings = settings;
    this.#pack.hasPreviews = settings.preview === true;
    this.#prices = this.#pricesOf(settings);
    const keeper = {
      drain: () => this.drain(),
      run: (work: (core: Core) => void) => this.#guarded(work),
      advance: () => this.#advance(),
      goOn: () => this.#goOn(),
      within: (ms: number) => this.#beat.within(ms),
      remake: () => this.#renew(),
      log: host.log,
      wall: host.wall,
      mono: host.mono,
    };
    this.#keeping = new Keeping(keeper, host.folder, host.role ?? "gateway");
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
      this.#guarded((core) => {
        give(core, [this.#pack], 0);
        problem = core.observe() ?? problem;
        this.#keeping.collect(core);
      });
    }
    return problem;
  }

  /** Loads the core. Called by the first event, or before it. Events wait until the journal is read. */
  start(): void {
    if (this.#core || this.#isOff) return;
    this.#core = this.#makeCore();
    if (this.#host.folder) void this.open();
    else if (!this.#opening) {
      // Nothing is to be read: no event has to wait.
      this.#opening = Promise.resolve();
      this.#opened();
    }
  }

  /** Loads the core, and waits for the journal. */
  async open(): Promise<void> {
    if (this.#host.folder && !this.#opening) {
      this.#openOtlp();
      this.#opening = this.#keeping.open().then(() => this.#opened());
    }
    this.start();
    await this.#opening;
  }

  #opened(): void {
    this.#isOpen = true;
    this.#guarded((core) => {
      this.#keeping.restore(core);
      const marks = JSON.parse(core.bookmarks()) as [name: string, mark: string][];
      const found = marks.find(([name]) => name === INBOX_MARK);
      if (found) this.#inbox.resume(found[1]);
    });
    this.store?.open();
    this.drain();
    this.#advance();
  }

  #watchStore(store: StoreHost, folder: string): StoreWatch {
    const { instantiateIo, wall, mono, log } = this.#host;
    return new StoreWatch(store, {
      folder,
      isOwner: () => this.#keeping.standing === "owner",
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
    this.#settings = settings;
    this.#pack.hasPreviews = settings.preview === true;
    this.#prices = this.#pricesOf(settings);
    if (this.#opening) this.#openOtlp();
    if (!this.#core) return;
    this.drain();
    this.#renew();
  }

  /** A fresh core, with other settings or another journal. */
  #renew(): void {
    try {
      this.#core = this.#remake();
    } catch (error) {
      return this.#switchOff(error);
    }
    this.#advance();
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
      return this.#inbox.acknowledge()();
    }
    if (this.#inbox.isEmpty || !this.#core || !this.#isOpen) return;
    let advice = NOTHING;
    for (const [events, until] of spansOf(this.#inbox.take())) {
      advice = this.#handOver(events, until ?? this.#now());
      this.#say(advice.said);
    }
    this.#keeping.wasRead(this.#inbox.acknowledge());
    this.#follow({ ...advice, said: undefined });
  }

  /** Both clocks at once. */
  #now(): Moment {
    return { wall: this.#host.wall(), mono: this.#host.mono() };
  }

  /** Hands events over, and does what is due up to a moment. */
  #handOver(batch: Waiting[], until: Moment): Advice {
    let [poisoned, given] = [-1, 0];
    let advice = NOTHING;
    for (let index = 0; index <= batch.length && !this.#isOff; index += 1) {
      const event = batch[index];
      // The journal is kept behind the last event: only then is the batch safe from a later fault.
      const isDone = event
        ? this.#guarded((core) => {
            if (index >= given) given = give(core, batch, index);
            this.#inbox.observing(event);
            core.observe();
            this.#inbox.observing(undefined);
          })
        : this.#guarded((core) => {
            const mark = this.#inbox.mark(batch);
            if (mark) core.takeRows(0, [], INBOX_MARK, mark, false, until.wall, until.mono);
            const waitedMs = this.#host.mono() - (batch[0] ?? until).mono;
            advice = this.#settle(core, until, GATHER_MS.told - waitedMs);
          });
      if (isDone) continue;
      // A fresh core starts the batch again; the event at which two instances died is the one at fault.
      if (poisoned === index && event) {
        this.counts.dropped_trap += 1;
        batch.splice(index, 1);
      }
      poisoned = index;
      given = 0;
      index = -1;
    }
    return advice;
  }

  /**
   * Makes every call final and sends what waits, for at most so many ms.
   *
   * @returns how many calls still wait
   */
  async stop(budgetMs: number): Promise<number> {
    if (!this.#core) return 0;
    const until = this.#host.mono() + budgetMs;
    await withDeadline(this.open(), budgetMs).catch(() => {});
    this.drain();
    await this.#writeLast(until);
    const told = this.#otlp?.finish(until - this.#host.mono());
    // A core that was made anew meanwhile has calls open again.
    for (let restarts = -1; restarts !== this.counts.core_restarts; ) {
      restarts = this.counts.core_restarts;
      this.#guarded((core) => {
        this.#close(core);
      });
      this.#advance();
      await this.#sendUntil(until, 0);
    }
    await withDeadline(this.#keeping.flush(), budgetMs).catch(() => {});
    await told;
    return Number(this.status().waiting ?? 0);
  }

  #close(core: Core): void {
    this.#prices.answer(core);
    core.close(this.#keeping.keeps, this.#host.wall(), this.#host.mono());
  }

  /** Where there is a collector, it is told the last calls beside AgentWatch: one that is away takes no time off the other. */
  async #writeLast(until: number): Promise<void> {
    if (!this.#otlp) return;
    this.#guarded((core) => {
      this.#close(core);
    });
    this.#advance();
    await withDeadline(this.#keeping.flush(), until - this.#host.mono()).catch(() => {});
  }

  /**
   * Waits until everything that was taken so far is on disk.
   *
   * @throws where the disk does not take it
   */
  async journalled(): Promise<void> {
    this.drain();
    this.#guarded((core) => this.#keeping.collect(core));
    await this.#keeping.flush();
    if (this.#keeping.hasFailed) throw new Error("the journal cannot be written");
  }

  /** Ends for good behind {@link Pipeline.stop}: the journal is free for others. Events that still come are dropped. */
  async close(): Promise<void> {
    await this.#opening;
    // What came behind the stop is the next one's, who finds it in the journal.
    this.drain();
    this.#guarded((core) => this.#keeping.collect(core));
    const status = this.status();
    this.ended = status;
    this.#isOff = true;
    this.#beat.clear();
    this.store?.close();
    clearTimeout(this.#statusTimer);
    await this.#otlp?.close();
    if (this.#keeping.standing === "owner") await this.#writeStatus(status);
    await this.#keeping.close();
  }

  /**
   * Brings what was heard to the disk at once, since the process ends, and lets the journal go.
   *
   * @throws where the disk does not take it
   */
  finishSync(): void {
    this.#keeping.finishSync();
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
    const kept = this.#keeping.status();
    // Off on purpose, and not unusable.
    const unset = this.#settings.url === false && { url: false };
    const { dropped, skipped } = this.#inbox;
    const trapped = { dropped_trap: this.counts.dropped_trap + skipped };
    const counts = { ...this.counts, ...trapped, dropped_queue_full: dropped };
    const told = { counted_by: this.countedBy, off: this.#isOff };
    return { ...status, ...unset, ...counts, ...kept, ...this.store?.status(), ...otlp, ...told };
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
      await withDeadline(this.#keeping.prepare(), left).catch(() => {});
      if (!this.#sending && !this.#send(true, left)) return;
      await withDeadline(this.#sending ?? Promise.resolve(), left).catch(() => {});
      const now = this.backlog();
      stalled = now < before ? 0 : stalled + 1;
      before = now;
    }
  }

  #makeCore(): Core {
    const instance = this.#host.instantiate();
    const core = makeCore(instance, this.#settings, randomInt);
    core.expectDiagnostics(this.#expectDiagnostics);
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
    if (folder) {
      const isOwner = () => this.#keeping.standing === "owner" && !this.#keeping.isDoubtful && this.#isOpen;
      const host = { io: () => this.#poster.io(), log, wall, mono, isOwner, folder };
      this.#otlp = openOtlp(host, this.#settings);
    }
    this.#keeping.keepGivenUp(this.#otlp && folder && attic(folder));
  }

  #remake(): Core {
    const core = this.#makeCore();
    if (this.#isOpen) this.#keeping.restore(core);
    return core;
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
      this.#core = this.#remake();
      this.#host.log.warn(`the core was restarted after a fault (${reason(error)}); nothing is lost`);
    } catch (again) {
      this.#switchOff(again);
    }
  }

  #switchOff(error: unknown): void {
    this.#isOff = true;
    this.#inbox.take();
    this.#inbox.acknowledge()();
    this.#beat.clear();
    this.#host.log.warn(
      `switched off after repeated faults (${reason(error)}): model calls are not counted until the gateway is restarted; please report this`,
    );
  }

  #onBeat(): void {
    if (this.#isOff) return;
    this.#advance();
    // Also where nothing was handed over, or the core is not open yet.
    this.#keeping.beat();
  }

  #advance(): void {
    if (!this.#isOpen) return;
    // What waits came before: without it a call could be final that it belongs to.
    if (!this.#inbox.isEmpty) return this.drain();
    let advice = NOTHING;
    this.#guarded((core) => {
      advice = this.#settle(core, this.#now(), 0);
    });
    this.#follow(advice);
  }

  /** Sends what may be sent by now; the rest of what follows has time until the next beat. */
  #goOn(): void {
    void this.#keeping.load();
    if (!this.#send(false, REQUEST_TIMEOUT_MS)) this.#wakeIn(0);
  }

  /** Does what is due in the core, and takes what is to be kept within so many ms. */
  #settle(core: Core, { wall, mono }: Moment, keptWithinMs: number): Advice {
    this.#prices.answer(core);
    const wakeInMs = core.advance(wall, mono);
    const said = core.said();
    this.#keeping.collect(core, keptWithinMs);
    return { wakeInMs, said };
  }

  /** Does what follows from that outside of it. */
  #follow({ wakeInMs, said }: Advice): void {
    this.#say(said);
    this.#otlp?.wake();
    this.#tellStatus();
    void this.#keeping.load();
    this.#send(false, REQUEST_TIMEOUT_MS);
    this.#wakeIn(wakeInMs);
    this.#keeping.beat();
  }

  #say(lines: string | undefined): void {
    if (lines) for (const { level, text } of JSON.parse(lines) as LogLine[]) this.#host.log[level](text);
  }

  /** Something may have changed: a moment later the status is written for others to read. */
  #tellStatus(): void {
    if (this.#statusTimer || this.#keeping.standing !== "owner") return;
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
    if (this.#keeping.isDoubtful) {
      void this.#keeping.confirm().then(() => this.#advance());
      return false;
    }
    if (this.#sending) return false;
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
        this.#keeping.collect(current, GATHER_MS.left);
      });
    }
  }
}
