/**
 * Watches who owns the journal. The owner reads the spool files of other processes, and stops writing when it lost the
 * journal. Another process takes the journal over when its owner is gone.
 */

import type { Ownership } from "../base/ownership.js";
import { reason } from "../base/promises.js";
import { LOOK_MS } from "../base/spool.js";
import type { EngineRunner } from "./engine-runner.js";
import { readLift, removeLift } from "./lift-request.js";
import type { Log } from "./pipeline.js";

/** The functions of the pipeline that the watch calls. */
export interface JournalWatchHost {
  runner: EngineRunner;
  ownership: Ownership;
  /** The plugin's folder in the gateway's state directory. */
  folder: string | undefined;
  log: Log;
  /** ms since 1970. */
  wall(): number;
  /** ms of the monotonic clock. */
  mono(): number;
  /** Writes everything now. */
  flush(): boolean;
  /** Runs due work. */
  advance(): void;
  /** Writes the engine's log lines to the log. */
  logLines(lines: string | undefined): void;
}

/** The watch of one pipeline. */
export class JournalWatch {
  readonly #host: JournalWatchHost;
  #timer: NodeJS.Timeout | undefined;
  /** The request that is carried out, and whose file is still there. */
  #lifted: number | null | undefined;

  constructor(host: JournalWatchHost) {
    this.#host = host;
  }

  /** Checks from now on, once in a while. */
  start(): void {
    this.#timer = setInterval(() => this.#check(), LOOK_MS);
    this.#timer.unref();
  }

  /** Ends the checks. */
  close(): void {
    clearInterval(this.#timer);
  }

  /** Another process took the journal over: from here on this process writes spool files. */
  loseJournal(): void {
    const { runner, ownership, log, flush } = this.#host;
    log.warn("another process took the journal over; it is told what this one sees");
    runner.run((engine) => ownership.lose(engine));
    // Where the spool cannot be written, the engine keeps what it has for it.
    if (flush()) runner.renew();
  }

  #check(): void {
    const { runner, ownership, log, wall, mono, advance, logLines } = this.#host;
    if (runner.isOff) return;
    try {
      if (ownership.standing === "spool") return this.#takeOver();
    } catch (error) {
      log.warn(`the journal's folder cannot be looked at (${reason(error)})`);
      return;
    }
    if (!ownership.isHeld) return this.loseJournal();
    let hasNew = false;
    runner.run((engine) => {
      hasNew = engine.takeSpools(wall(), mono());
      logLines(engine.logLines());
    });
    if (hasNew) advance();
    this.#takeLift();
  }

  /** Lifts the allowances where an operator asked for it. */
  #takeLift(): void {
    const { runner, folder, log, wall, mono, flush, advance } = this.#host;
    const request = folder === undefined ? undefined : readLift(folder).value;
    if (!request || folder === undefined) return;
    const forMs = Math.max(0, (request.until_ms ?? 0) - wall());
    try {
      // A disk that fails keeps the request's file: the lift holds already, and only its file is left.
      if (this.#lifted !== request.until_ms) {
        if (!runner.run((engine) => engine.lift(forMs, wall(), mono()))) return;
        this.#lifted = request.until_ms;
      }
      if (!flush()) return;
      removeLift(folder);
      this.#lifted = undefined;
    } catch (error) {
      log.warn(`lift-request.json cannot be removed (${reason(error)}): remove it`);
    }
    advance();
  }

  #takeOver(): void {
    const { runner, ownership, log, flush, advance } = this.#host;
    // The owner reads this process's own spool files too: they have to be complete before.
    if (!flush() || !ownership.takeOver()) return;
    log.info("the journal is this process's now");
    runner.renew();
    advance();
  }
}
