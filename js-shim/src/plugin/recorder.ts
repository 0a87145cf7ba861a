/**
 * The gateway's side of the plugin: packs the declared fields of an event into a ring. A worker thread reads the ring and
 * counts, journals and sends. {@link Recorder.accept} never throws or waits. A worker that crashes is replaced by one that
 * reads on in the ring.
 */

import { randomInt, randomUUID } from "node:crypto";
import { Worker } from "node:worker_threads";
import { HostFiles } from "../base/host-files.js";
import { Pack, type PackedEvent } from "../base/pack.js";
import { BUILD, SOURCES, TABLE } from "../base/pickers.js";
import { reason, withDeadline } from "../base/promises.js";
import { Ring, type RingMemory, RingReader } from "../base/ring.js";
import { type Caller, type Engine, instantiate, makeEngine } from "../base/wasm.js";
import { counted } from "../base/words.js";
import {
  clockOffset,
  type FromWorker,
  OTHER_BUILD,
  type ToWorker,
  type WorkerStart,
} from "./worker-messages.js";

/** Workers that may crash in succession without acknowledging a record, before counting is switched off. */
const MAX_CRASHES = 20;
/** How long an exiting process waits for its worker, in ms. */
const EXIT_BUDGET_MS = 1_000;
/** How much longer it waits for a worker that is just writing, in ms: what it writes would be told again. */
const EXIT_WRITING_MS = 3_000;
/** Time beyond its budget after which a worker is terminated, in ms. */
const END_GRACE_MS = 500;
/** How long a request for the status may take, in ms. */
const STATUS_MS = 2_000;
/** Interval at which events are written to the spool while no worker can run, in ms. */
const SPOOL_EVERY_MS = 1_000;
/** How long pending calls are sent when the process has nothing else to do, in ms. */
const IDLE_BUDGET_MS = 10_000;

/** How long a gate waits for the worker's answer, in ms; then the call passes. */
const ADMIT_MS = 1_000;
/** Time before that from which the worker judges a call no more, in ms: its answer would come too late. */
const ADMIT_ANSWER_MS = 20;

/** A status: counters, and times in ms since 1970; see `crate/src/engine/status.rs`. */
export type Status = Record<string, unknown>;

/** The functions and values that a recorder takes from its gateway. */
export interface RecorderHost {
  log: { info(text: string): void; warn(text: string): void };
  /** The plugin's folder in the gateway's state directory; without one nothing is written to disk. */
  folder: string | undefined;
  /** The present configuration, for a worker that starts. */
  configuration(): WorkerStart["configuration"];
}

/** A running worker. */
interface Running {
  worker: Worker;
  /** Whether the worker was asked to end. */
  isEnding: boolean;
  ended: Promise<void>;
}

/** Random name of this process, for others that share the folder; the same for each of its workers. */
const TOKEN = randomUUID();

/** Whether a worker could not start because its file, or a file that it imports, is missing. */
function isMissing(error: unknown): boolean {
  const { code = "" } = (error ?? {}) as NodeJS.ErrnoException;
  return code === "MODULE_NOT_FOUND" || code === "ERR_MODULE_NOT_FOUND";
}

/** One process's recorder. */
export class Recorder {
  /** Hash of the table of sources that packed the events of the ring. */
  readonly table = TABLE;
  readonly #host: RecorderHost;
  readonly #ring: Ring;
  readonly #pack = new Pack();
  /** Whether a question of a gate waits for its answer beyond {@link ADMIT_MS}. */
  #isAdmitLate = false;
  #running: Running | undefined;
  /** The compiled module, from the first worker: the plugin's folder may be removed before the process exits. */
  #module: WebAssembly.Module | undefined;
  #hasHandlers = false;
  /** The recorder whose ring this one continues with, until this one has handlers for the process's exit. */
  #previous: Recorder | undefined;
  #isOff = false;
  #isScheduled = false;
  /** Writes events to the spool while the package's files are of another version. */
  #spooling: NodeJS.Timeout | undefined;
  /** An engine that writes spool files for the owner of the folder. */
  #spool: Engine | undefined;
  /** The last problem of the spool that was logged. */
  #spoolProblem = "";
  /** Whether the service ended: events wait in the ring for the next service, or for the end of the process. */
  #hasEnded = false;
  /** Crashes in succession, and the ring's acknowledged position at the last one. */
  #crashes = { count: 0, acknowledged: 0 };
  /** The position of the record at which the last worker crashed. */
  #suspect: number | undefined;
  /** The positions of unacknowledged records at each of which two workers crashed. */
  #skip: number[] = [];
  /** Number of calls that passed a gate since no worker answered in time. */
  #unanswered = 0;
  #requests = new Map<number, (value: unknown) => void>();
  #lastRequest = 0;

  /** @param previous an earlier recorder, whose records were packed by the same table: this one continues with its ring */
  constructor(host: RecorderHost, previous?: Recorder) {
    this.#host = host;
    this.#ring = new Ring(previous?.memory);
    this.#previous = previous;
    // The worker of the earlier recorder may still read the ring.
    this.#hasEnded = previous !== undefined;
  }

  /** The ring, for a recorder that continues with it; this one must accept no events from then on. */
  get memory(): RingMemory {
    return this.#ring.memory;
  }

  /** Packs an event into the ring. */
  accept(source: string, event: unknown, ctx?: unknown): void {
    if (this.#isOff) return;
    const sources = SOURCES[source];
    if (!sources) return;
    try {
      const [wall, mono] = [Date.now(), performance.now()];
      for (const { pick } of sources)
        if (pick(event, ctx, this.#pack, wall, mono)) {
          this.#ring.push(this.#pack);
          if (!this.#running) this.#startSoon();
        }
    } catch (error) {
      this.#switchOff(error);
    }
  }

  #configure(): void {
    const configuration = this.#host.configuration();
    this.#pack.hasPreviews = configuration.settings.preview === true;
    this.#post({ type: "configure", configuration });
  }

  /**
   * Starts the worker, or gives a running worker the present settings, and waits until it has read the journal.
   *
   * @returns the worker's status; empty where no worker runs
   */
  async open(): Promise<Status> {
    this.#hasEnded = false;
    // The package's files may be of this version again.
    this.#stopSpooling();
    if (this.#running) this.#configure();
    else this.#start();
    return ((await this.#request({ type: "open" })) as Status) ?? {};
  }

  /** Why a call that begins now is refused; undefined where it may pass, or no worker answers in time. */
  async admit(caller: Caller): Promise<string | undefined> {
    if (!this.#running) {
      this.#unanswered += 1;
      return undefined;
    }
    // A worker that answers nothing in time holds up one call, and not each one.
    if (this.#isAdmitLate) {
      this.#unanswered += 1;
      return undefined;
    }
    const asked = this.#request({
      type: "admit",
      caller,
      until: Date.now() + ADMIT_MS - ADMIT_ANSWER_MS,
      unanswered: this.#unanswered,
    });
    try {
      return (await withDeadline(asked, ADMIT_MS)) as string | undefined;
    } catch {
      this.#unanswered += 1;
      this.#isAdmitLate = true;
      void asked.finally(() => {
        this.#isAdmitLate = false;
      });
      return undefined;
    }
  }

  /** The worker's status; empty where no worker runs. */
  async status(): Promise<Status> {
    const status = this.#request({ type: "status" });
    return ((await withDeadline(status, STATUS_MS).catch(() => undefined)) as Status) ?? {};
  }

  /**
   * Makes every call final and sends pending calls, for at most `budgetMs` ms. Events that come meanwhile are counted too.
   *
   * @returns the number of calls that are still pending
   */
  async stop(budgetMs: number): Promise<number> {
    if (this.#spooling) this.spool();
    else if (!this.#running && !this.#ring.isEmpty && !this.#hasEnded) this.#start();
    if (!this.#running) return 0;
    const stopped = this.#request({ type: "stop", budgetMs });
    return Number((await withDeadline(stopped, budgetMs + END_GRACE_MS).catch(() => undefined)) ?? 0);
  }

  /** Ends the worker, which releases the journal. Later events wait in the ring. @returns the last status */
  async close(): Promise<Status> {
    const running = this.#running;
    this.#hasEnded = true;
    // A recorder that continues with the ring has to be its only reader.
    if (this.#spooling) this.spool();
    this.#stopSpooling();
    if (!running) return {};
    running.isEnding = true;
    const closed = this.#request({ type: "close" });
    const within = (ms: number) => withDeadline(closed, ms).catch(() => undefined);
    let status = await within(EXIT_BUDGET_MS + END_GRACE_MS);
    // What it is just writing would be told again by whoever continues with the ring.
    if (this.#ring.isWriting) status ??= await within(EXIT_WRITING_MS);
    // Keeps the process alive until the worker has ended. It has written everything; a request that hangs would keep it.
    running.worker.ref();
    void running.worker.terminate();
    // The promise of `terminate` may resolve before the worker's exit was handled.
    await running.ended;
    return (status as Status) ?? {};
  }

  /** Leaves the events at the process's exit to the recorder that continues with the ring. */
  retire(): void {
    process.off("exit", this.#onExit);
    process.off("beforeExit", this.#beforeExit);
  }

  /** Writes the events of the ring to a spool file, which the owner of the folder reads. */
  spool(): void {
    const { folder } = this.#host;
    if (this.#ring.isEmpty || folder === undefined) return;
    try {
      const reader = new RingReader(this.#ring.memory);
      if (!this.#writeSpool(folder, reader.take())) throw new Error("the spool cannot be written");
      reader.acknowledge();
      const { dropped_spool_full: dropped } = JSON.parse(this.#spool?.status() ?? "{}") as Status;
      this.#reportSpool(dropped ? "it is full: model calls are lost" : "");
    } catch (error) {
      // The events stay in the ring. This engine has some of them, and would write them twice.
      this.#spool = undefined;
      this.#reportSpool(`${reason(error)}: calls of the last moment may be lost`);
    }
  }

  /** Writes events to a spool file. @returns whether they are on disk @throws where no engine can be made */
  #writeSpool(folder: string, events: readonly PackedEvent[]): boolean {
    this.#spool ??= this.#spoolEngine(folder);
    try {
      for (const { numbers, texts } of events) {
        this.#spool.give(numbers, texts);
        this.#spool.observe();
      }
      return this.#spool.flush(Date.now(), performance.now());
    } catch {
      this.#spool = undefined;
      // As in a worker, an event at which the module traps is skipped, and the others are written.
      return events.length === 1 || events.every((event) => this.#writeSpool(folder, [event]));
    }
  }

  #spoolEngine(folder: string): Engine {
    const { settings } = this.#host.configuration();
    const engine = makeEngine(instantiate(this.#host.log.warn, this.#module), settings, randomInt);
    engine.becomeSpool(new HostFiles(folder));
    return engine;
  }

  #reportSpool(problem: string): void {
    if (problem && problem !== this.#spoolProblem)
      this.#host.log.warn(`the last events could not be written to the spool (${problem})`);
    this.#spoolProblem = problem;
  }

  #startSoon(): void {
    if (this.#isScheduled || this.#hasEnded || this.#spooling) return;
    this.#isScheduled = true;
    // Starting a thread takes a millisecond, too long for a handler.
    setImmediate(() => {
      this.#isScheduled = false;
      if (!this.#running && !this.#hasEnded && !this.#spooling) this.#start();
    });
  }

  #start(): void {
    if (this.#running || this.#isOff) return;
    try {
      const configuration = this.#host.configuration();
      this.#pack.hasPreviews = configuration.settings.preview === true;
      this.#ring.reset();
      const workerData: WorkerStart = {
        build: BUILD,
        ring: this.#ring.memory,
        skip: this.#skip,
        folder: this.#host.folder,
        token: TOKEN,
        started: Math.round(performance.timeOrigin),
        clockOffset: clockOffset(),
        configuration,
      };
      const worker = new Worker(new URL("./worker.js", import.meta.url), { name: "agentwatch", workerData });
      this.#watch(worker);
    } catch (error) {
      this.#switchOff(error);
    }
  }

  #watch(worker: Worker): void {
    let why: unknown;
    worker.on("message", (message: FromWorker) => this.#receive(message));
    worker.on("error", (error) => {
      why = error;
    });
    const ended = new Promise<void>((resolve) => {
      worker.on("exit", (code) => {
        resolve();
        if (code === OTHER_BUILD || isMissing(why)) this.#awaitRestart(worker);
        else this.#workerExited(worker, why ?? `exit code ${code}`);
      });
    });
    // The worker keeps no process alive: at the process's exit the events of the ring are written to disk.
    worker.unref();
    this.#running = { worker, isEnding: false, ended };
    if (this.#hasHandlers) return;
    this.#hasHandlers = true;
    process.once("exit", this.#onExit);
    process.once("beforeExit", this.#beforeExit);
    this.#previous?.retire();
    this.#previous = undefined;
  }

  #receive(message: FromWorker): void {
    if (message.type === "log") this.#host.log[message.level](message.text);
    else if (message.type === "module") this.#module = message.module;
    else {
      const resolve = this.#requests.get(message.id);
      this.#requests.delete(message.id);
      resolve?.(message.value);
    }
  }

  /** Forgets a worker that exited. @returns whether it exited unasked; undefined where another worker runs already */
  #forgetWorker(worker: Worker): boolean | undefined {
    if (this.#running?.worker !== worker) return undefined;
    const { isEnding } = this.#running;
    this.#running = undefined;
    const waiting = [...this.#requests.values()];
    this.#requests.clear();
    for (const resolve of waiting) resolve(undefined);
    return !isEnding;
  }

  /**
   * The package's files were replaced by another version, and the gateway still runs this one (2026.3.13 restarts inside its
   * process and evaluates no module again). A worker would be of the other version, so events go to the spool, for the next
   * owner of the folder.
   */
  #awaitRestart(worker: Worker): void {
    if (!this.#forgetWorker(worker) || this.#spooling) return;
    this.#host.log.warn(
      "the plugin's files are of another version now: restart the gateway's process; until then model calls are written to disk and not sent",
    );
    this.#spooling = setInterval(() => this.spool(), SPOOL_EVERY_MS);
    this.#spooling.unref();
  }

  #stopSpooling(): void {
    clearInterval(this.#spooling);
    this.#spooling = undefined;
  }

  /** Replaces a worker that exited unasked. */
  #workerExited(worker: Worker, why: unknown): void {
    if (!this.#forgetWorker(worker)) return;
    const { acknowledged } = this.#ring;
    const isStuck = acknowledged === this.#crashes.acknowledged;
    this.#crashes = { count: isStuck ? this.#crashes.count + 1 : 1, acknowledged };
    if (this.#crashes.count > MAX_CRASHES) return this.#switchOff(why);
    const { observed } = this.#ring;
    if (!isStuck) this.#skip = [];
    if (observed !== undefined && observed === this.#suspect) this.#skip.push(observed);
    this.#suspect = observed;
    this.#host.log.warn(
      `the worker was started again after a fault (${reason(why)}); it reads its events again`,
    );
    this.#start();
  }

  #switchOff(error: unknown): void {
    this.#isOff = true;
    this.#host.log.warn(
      `switched off after repeated faults (${reason(error)}): model calls are not counted until the gateway is restarted; please report this`,
    );
  }

  #post(message: ToWorker): void {
    this.#running?.worker.postMessage(message);
  }

  /** Sends the worker a request. @returns its answer; undefined where no worker runs, or it exits before the answer */
  #request(
    request:
      | { type: "open" | "status" | "close" }
      | { type: "admit"; caller: Caller; until: number; unanswered: number }
      | { type: "stop"; budgetMs: number },
  ): Promise<unknown> {
    const running = this.#running;
    if (!running) return Promise.resolve(undefined);
    this.#lastRequest += 1;
    const id = this.#lastRequest;
    // Keeps the process alive until the answer.
    running.worker.ref();
    const answered = new Promise((resolve) => {
      this.#requests.set(id, resolve);
      this.#post({ ...request, id });
    });
    return answered.finally(() => {
      if (this.#requests.size === 0) running.worker.unref();
    });
  }

  /** Sends pending calls when the process has nothing else to do. */
  readonly #beforeExit = (): void => {
    void this.stop(IDLE_BUDGET_MS);
  };

  readonly #onExit = (): void => {
    const isJournalled = this.#running !== undefined && this.#ring.finish(EXIT_BUDGET_MS, EXIT_WRITING_MS);
    if (!isJournalled) this.spool();
    const { dropped } = this.#ring;
    if (dropped > 0)
      this.#host.log.warn(
        `${counted(dropped, "event")} found no room, since the worker did not keep up: model calls may be missing`,
      );
  };
}
