/**
 * The gateway's side of the plugin: packs the declared fields of an event into a ring, from which a worker thread counts,
 * journals and sends. No call of it throws or waits, and a worker that dies is replaced by one that reads on in the ring.
 */

import { randomInt, randomUUID } from "node:crypto";
import { Worker } from "node:worker_threads";
import { spoolInto } from "./ownership.js";
import { Pack, type PackedEvent } from "./pack.js";
import { BUILD, SOURCES, TABLE } from "./pickers.js";
import { reason, withDeadline } from "./promises.js";
import { Ring, type RingMemory, RingReader } from "./ring.js";
import { type Core, instantiate, makeCore } from "./wasm.js";
import { counted } from "./words.js";
import {
  clockOffset,
  type FromWorker,
  OTHER_BUILD,
  type ToWorker,
  type WorkerStart,
} from "./worker-messages.js";

/** Workers that die one behind the other, without a record acknowledged between them, before counting is switched off. */
const MAX_DEATHS = 20;
/** How long a process that exits waits for its worker, in ms. */
const EXIT_BUDGET_MS = 1_000;
/** How long a worker may take to end beyond its budget before it is terminated, in ms. */
const END_GRACE_MS = 500;
/** How long a status may take, in ms. */
const STATUS_MS = 2_000;
/** How often events are brought to the spool while there can be no worker, in ms. */
const SPOOL_EVERY_MS = 1_000;
/** How long what waits may still be sent when the process has nothing else to do, in ms. */
const IDLE_BUDGET_MS = 10_000;

/** A status: counters and times; see `status.ts`. */
export type Status = Record<string, unknown>;

/** What a recorder needs of the gateway. */
export interface RecorderHost {
  log: { info(text: string): void; warn(text: string): void };
  /** Our folder in the gateway's state directory; without one everything lives as long as the process. */
  folder: string | undefined;
  /** What a worker is told when it starts, as it is then. */
  configuration(): WorkerStart["configuration"];
}

/** A worker that runs. */
interface Running {
  worker: Worker;
  /** Whether it was asked to end. */
  isEnding: boolean;
  ended: Promise<void>;
}

/** This process, to those that share the folder: the same for all workers, one after the other. */
const TOKEN = randomUUID();

/** Whether a worker could not be made since its file, or one that it imports, is not there. */
function isMissing(error: unknown): boolean {
  const { code = "" } = (error ?? {}) as NodeJS.ErrnoException;
  return code === "MODULE_NOT_FOUND" || code === "ERR_MODULE_NOT_FOUND";
}

/** See above. */
export class Recorder {
  /** Events in it were packed by this table of sources. */
  readonly table = TABLE;
  readonly #host: RecorderHost;
  readonly #ring: Ring;
  readonly #pack = new Pack();
  #running: Running | undefined;
  /** The compiled module, from the first worker: the plugin's folder may be gone when the process exits. */
  #module: WebAssembly.Module | undefined;
  #hasHandlers = false;
  #isOff = false;
  #isScheduled = false;
  /** Brings events to the spool while the files that a worker would be made of are another version's. */
  #spooling: NodeJS.Timeout | undefined;
  /** A core that tells the owner of the folder what it hears. */
  #spool: Core | undefined;
  /** What went wrong with the spool last, and was said. */
  #spoolTrouble = "";
  /** Whether a service ended: events then wait for the next one, or for the end of the process. */
  #hasEnded = false;
  #deaths = { count: 0, acknowledged: 0 };
  /** The position of the record at which the last worker died. */
  #suspect: number | undefined;
  #skip: number | undefined;
  #requests = new Map<number, (value: unknown) => void>();
  #lastRequest = 0;

  /** @param memory a ring to go on with, whose records were packed by the same table */
  constructor(host: RecorderHost, memory?: RingMemory) {
    this.#host = host;
    this.#ring = new Ring(memory);
  }

  /** The ring, for a recorder that goes on with it: this one then takes no more events. */
  get memory(): RingMemory {
    return this.#ring.memory;
  }

  /** Takes an event in. */
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
    this.#tell({ type: "configure", configuration });
  }

  /** Starts the worker, or goes on with the settings as they are now; waits until it has read the journal. @returns its status */
  async open(): Promise<Status> {
    this.#hasEnded = false;
    // The files may be the right ones again.
    this.#stopSpooling();
    if (this.#running) this.#configure();
    else this.#start();
    return ((await this.#ask({ type: "open" })) as Status) ?? {};
  }

  /** The worker's status; empty where there is none. */
  async status(): Promise<Status> {
    const asked = this.#ask({ type: "status" });
    return ((await withDeadline(asked, STATUS_MS).catch(() => undefined)) as Status) ?? {};
  }

  /**
   * Makes every call final and sends what waits, for at most so many ms; events that come meanwhile are taken in too.
   *
   * @returns how many calls still wait
   */
  async stop(budgetMs: number): Promise<number> {
    if (this.#spooling) this.spool();
    else if (!this.#running && !this.#ring.isEmpty && !this.#hasEnded) this.#start();
    if (!this.#running) return 0;
    const stopped = this.#ask({ type: "stop", budgetMs });
    return Number((await withDeadline(stopped, budgetMs + END_GRACE_MS).catch(() => undefined)) ?? 0);
  }

  /** Ends the worker: the journal is free for others. Events that still come wait in the ring. @returns the last status */
  async close(): Promise<Status> {
    const running = this.#running;
    this.#hasEnded = true;
    // Whoever goes on with the ring is the only one who reads it.
    if (this.#spooling) this.spool();
    this.#stopSpooling();
    if (!running) return {};
    running.isEnding = true;
    const closed = this.#ask({ type: "close" });
    const status = await withDeadline(closed, EXIT_BUDGET_MS + END_GRACE_MS).catch(() => undefined);
    // A process that waits for its end is not done.
    running.worker.ref();
    await withDeadline(running.ended, END_GRACE_MS).catch(() => running.worker.terminate());
    return (status as Status) ?? {};
  }

  /** Brings what no worker has taken in to the disk, where the owner of the folder finds it. */
  spool(): void {
    const { folder } = this.#host;
    if (this.#ring.isEmpty || folder === undefined) return;
    try {
      const reader = new RingReader(this.#ring.memory);
      if (!this.#tellSpool(folder, reader.take())) throw new Error("the spool cannot be written");
      reader.acknowledge();
      const { dropped_spool_full: dropped } = JSON.parse(this.#spool?.status() ?? "{}") as Status;
      this.#sayOfSpool(dropped ? "it is full: model calls are lost" : "");
    } catch (error) {
      // Its events are still in the ring, and not to be written twice.
      this.#spool = undefined;
      this.#sayOfSpool(`${reason(error)}: calls of the last moment may be lost`);
    }
  }

  /** Tells the process that reads the spool what events say; whether that is on disk. @throws where there can be no core */
  #tellSpool(folder: string, events: readonly PackedEvent[]): boolean {
    this.#spool ??= this.#spoolCore(folder);
    try {
      for (const { numbers, texts } of events) {
        this.#spool.give(numbers, texts);
        this.#spool.observe();
      }
      return this.#spool.flush(Date.now(), performance.now());
    } catch {
      this.#spool = undefined;
      // As in a worker: the event at which the module traps is left out, the others are not.
      return events.length === 1 || events.every((event) => this.#tellSpool(folder, [event]));
    }
  }

  #spoolCore(folder: string): Core {
    const { settings } = this.#host.configuration();
    const core = makeCore(instantiate(this.#host.log.warn, this.#module), settings, randomInt);
    spoolInto(folder, core);
    return core;
  }

  #sayOfSpool(trouble: string): void {
    if (trouble && trouble !== this.#spoolTrouble)
      this.#host.log.warn(`what was heard last could not be kept (${trouble})`);
    this.#spoolTrouble = trouble;
  }

  #startSoon(): void {
    if (this.#isScheduled || this.#hasEnded || this.#spooling) return;
    this.#isScheduled = true;
    // Not in the handler: starting a thread takes a millisecond.
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
      this.#follow(worker);
    } catch (error) {
      this.#switchOff(error);
    }
  }

  #follow(worker: Worker): void {
    let why: unknown;
    worker.on("message", (message: FromWorker) => this.#hear(message));
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
    // It keeps no process alive: what is in the ring is brought to the disk when the process exits.
    worker.unref();
    this.#running = { worker, isEnding: false, ended };
    if (this.#hasHandlers) return;
    this.#hasHandlers = true;
    process.once("exit", this.#onExit);
    process.once("beforeExit", this.#beforeExit);
  }

  #hear(message: FromWorker): void {
    if (message.type === "log") this.#host.log[message.level](message.text);
    else if (message.type === "module") this.#module = message.module;
    else {
      const resolve = this.#requests.get(message.id);
      this.#requests.delete(message.id);
      resolve?.(message.value);
    }
  }

  /** A worker is gone. @returns whether it was not asked to go; undefined where it was not the last one */
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
   * Another version of the package came in the place of this one, which the gateway still has in memory (2026.3.13 restarts
   * in its process, and evaluates no module again). A worker would be of that version; whoever owns the folder after the
   * process's end takes in what is heard until then.
   */
  #awaitRestart(worker: Worker): void {
    if (!this.#forgetWorker(worker) || this.#spooling) return;
    this.#host.log.warn(
      "the plugin's files are another version's now: restart the gateway's process; until then model calls are kept on disk and not sent",
    );
    this.#spooling = setInterval(() => this.spool(), SPOOL_EVERY_MS);
    this.#spooling.unref();
  }

  #stopSpooling(): void {
    clearInterval(this.#spooling);
    this.#spooling = undefined;
  }

  /** A worker is gone: another one goes on, where it was not asked to go. */
  #workerExited(worker: Worker, why: unknown): void {
    if (!this.#forgetWorker(worker)) return;
    const { acknowledged } = this.#ring;
    const isStuck = acknowledged === this.#deaths.acknowledged;
    this.#deaths = { count: isStuck ? this.#deaths.count + 1 : 1, acknowledged };
    if (this.#deaths.count > MAX_DEATHS) return this.#switchOff(why);
    const { observed } = this.#ring;
    this.#skip = observed !== undefined && observed === this.#suspect ? observed : undefined;
    this.#suspect = observed;
    this.#host.log.warn(`the worker was started again after a fault (${reason(why)}); nothing is lost`);
    this.#start();
  }

  #switchOff(error: unknown): void {
    this.#isOff = true;
    this.#host.log.warn(
      `switched off after repeated faults (${reason(error)}): model calls are not counted until the gateway is restarted; please report this`,
    );
  }

  #tell(message: ToWorker): void {
    this.#running?.worker.postMessage(message);
  }

  /** Asks the worker; undefined where it dies before it answers, or there is none. */
  #ask(
    request: { type: "open" | "status" | "close" } | { type: "stop"; budgetMs: number },
  ): Promise<unknown> {
    const running = this.#running;
    if (!running) return Promise.resolve(undefined);
    this.#lastRequest += 1;
    const id = this.#lastRequest;
    // A process that waits for an answer is not done.
    running.worker.ref();
    const answered = new Promise((resolve) => {
      this.#requests.set(id, resolve);
      this.#tell({ ...request, id });
    });
    return answered.finally(() => {
      if (this.#requests.size === 0) running.worker.unref();
    });
  }

  /** The process has nothing else to do: what waits may still be sent. */
  readonly #beforeExit = (): void => {
    void this.stop(IDLE_BUDGET_MS);
  };

  readonly #onExit = (): void => {
    const isDone = this.#running !== undefined && this.#ring.finish(EXIT_BUDGET_MS);
    if (!isDone) this.spool();
    const { dropped } = this.#ring;
    if (dropped > 0)
      this.#host.log.warn(
        `${counted(dropped, "event")} found no room, since the worker did not keep up: model calls may be missing`,
      );
  };
}
