/**
 * Watches who owns the journal. The owner reads the spool files of other processes, and stops writing when it lost the
 * journal. Another process takes the journal over when its owner is gone; a gateway claims it from a proxy.
 */

import type { HostFiles } from "../base/host-files.js";
import { reason } from "../base/promises.js";
import { LOOK_MS } from "../base/spool.js";
import type { Engine } from "../base/wasm.js";
import type { EngineRunner } from "./engine-runner.js";
import type { Log } from "./pipeline.js";
import { LIFT } from "./request-file.js";

/** Interval of the owner's heartbeat, in ms. */
const HEARTBEAT_MS = 2_000;

/** This process's relation to the journal: it has none, owns it, or spools for its owner; see `crate/src/engine/joining.rs`. */
export type Standing = "memory" | "owner" | "spool";

/** The functions of the pipeline that the watch calls. */
export interface JournalWatchHost {
  runner: EngineRunner;
  /** Name of this process for others that share the folder. */
  role: string;
  /** The files of the plugin's folder. */
  files: HostFiles | undefined;
  /** The plugin's folder in the gateway's state directory. */
  folder: string | undefined;
  log: Log;
  /** ms since 1970. */
  wall(): number;
  /** ms of the monotonic clock. */
  mono(): number;
  /** Writes everything now. */
  flush(): boolean;
  /** Whether this process is a gateway, which claims the journal from a proxy or LiteLLM's endpoint. */
  claims(): boolean;
  /** Whether no request runs. */
  isIdle(): boolean;
  /** Runs due work. */
  advance(): void;
  /** Writes the engine's log lines to the log. */
  logLines(lines: string | undefined): void;
}

/** The watch of one pipeline. */
export class JournalWatch {
  readonly #host: JournalWatchHost;
  #timer: NodeJS.Timeout | undefined;
  #heart: NodeJS.Timeout | undefined;
  standing: Standing = "memory";
  /** Whether a gateway claims this process's journal: no further request begins. */
  isClaimed = false;
  /** Whether the engine that lost the journal is still to be replaced, since its spool could not be written. */
  #owesEngine = false;
  /** The request that is carried out, and whose file is still there. */
  #lifted: number | null | undefined;

  constructor(host: JournalWatchHost) {
    this.#host = host;
  }

  /** Checks from now on, once in a while. */
  start(): void {
    this.#timer = setInterval(() => this.#check(), LOOK_MS);
    this.#timer.unref();
    this.#heart = setInterval(() => this.#heartbeat(), HEARTBEAT_MS);
    this.#heart.unref();
  }

  /** Ends the checks. */
  close(): void {
    clearInterval(this.#timer);
  }

  /** Opens the folder's files in a new engine: as the owner of the journal, or as a writer of spool files. */
  join(engine: Engine): void {
    const { files, role, wall, mono } = this.#host;
    if (!files) return;
    const had = this.standing === "owner";
    this.standing = engine.join(files, role, had, wall(), mono()) as Standing;
  }

  /** Whether no other process took the journal over. Reads the file only if the last heartbeat is late. */
  get isHeld(): boolean {
    let isHeld = true;
    this.#host.runner.finish((engine) => {
      isHeld = engine.isHeld();
    });
    return isHeld;
  }

  /** Spools from now on, if another process took the journal over. Reads the lease's file. */
  loseUnlessHeld(): void {
    this.#host.runner.run((engine) => {
      if (!engine.isHeldForCertain()) this.#lose(engine);
    });
  }

  /** Releases the journal for other processes. @throws the file system's error */
  release(): void {
    clearInterval(this.#heart);
    let fault: string | undefined;
    this.#host.runner.finish((engine) => {
      fault = engine.release();
    });
    if (fault !== undefined) throw new Error(fault);
  }

  #heartbeat(): void {
    // A closed pipeline still waits for its last answers.
    this.#host.runner.finish((engine) => engine.heartbeat());
  }

  #lose(engine: Engine): void {
    engine.lose();
    this.standing = "spool";
  }

  /** Another process took the journal over: from here on this process writes spool files. */
  loseJournal(): void {
    this.#host.log.warn("another process took the journal over; it is told what this one sees");
    this.#leave();
  }

  #leave(): void {
    const { runner, flush } = this.#host;
    runner.run((engine) => this.#lose(engine));
    // Where the spool cannot be written, the engine keeps what it has for it.
    this.#owesEngine = !flush();
    if (!this.#owesEngine) runner.renew();
  }

  #check(): void {
    const { runner, wall, mono, advance, logLines } = this.#host;
    if (runner.isOff) return;
    if (this.standing === "spool") return this.#takeOver();
    if (!this.isHeld) return this.loseJournal();
    if (this.#handOver()) return this.#leave();
    let hasNew = false;
    runner.run((engine) => {
      hasNew = engine.takeSpools(wall(), mono());
      logLines(engine.logLines());
    });
    if (hasNew) advance();
    this.takeLift();
  }

  /**
   * Hands the journal over to a gateway that claims it. The answer to a request that runs belongs to this owner.
   *
   * @returns whether it is handed over
   */
  #handOver(): boolean {
    const { runner, log, wall, mono, isIdle, flush, logLines } = this.#host;
    let isDone = false;
    runner.run((engine) => {
      this.isClaimed = engine.isClaimed();
    });
    if (!this.isClaimed || !isIdle()) return false;
    // Where the disk fails, calls are sent from memory as before.
    this.isClaimed = false;
    if (!flush()) return false;
    runner.run((engine) => {
      isDone = engine.handOver(wall(), mono());
      logLines(engine.logLines());
    });
    if (!isDone) return false;
    log.info("the gateway takes the journal over; it is told what this process sees");
    return true;
  }

  /** Lifts the allowances where an operator asked for it. */
  takeLift(): void {
    const { runner, folder, log, wall, mono, flush, advance } = this.#host;
    const request = folder === undefined ? undefined : LIFT.read(folder).value;
    if (!request || folder === undefined) return;
    const forMs = Math.max(0, (request.until_ms ?? 0) - wall());
    try {
      // A disk that fails keeps the request's file: the lift holds already, and only its file is left.
      if (this.#lifted !== request.until_ms) {
        if (!runner.run((engine) => engine.lift(forMs, wall(), mono()))) return;
        this.#lifted = request.until_ms;
      }
      if (!flush()) return;
      LIFT.remove(folder);
      this.#lifted = undefined;
    } catch (error) {
      log.warn(`lift-request.json cannot be removed (${reason(error)}): remove it`);
    }
    advance();
  }

  #takeOver(): void {
    const { runner, log, wall, mono, claims, flush, advance, logLines } = this.#host;
    // The owner reads this process's own spool files too: they have to be complete before.
    if (!flush()) return;
    if (this.#owesEngine) {
      this.#owesEngine = false;
      runner.renew();
    }
    let isOwner = false;
    runner.run((engine) => {
      isOwner = engine.takeOver(claims(), wall(), mono());
      logLines(engine.logLines());
    });
    if (!isOwner) return;
    log.info("the journal is this process's now");
    runner.renew();
    advance();
  }
}
