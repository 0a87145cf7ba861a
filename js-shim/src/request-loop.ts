/** Makes the core's requests, one at a time. */

import type { CoreRunner } from "./core-runner.js";
import type { Order, Poster } from "./poster.js";
import { withDeadline } from "./promises.js";

/** How long a request may take, in ms. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** Requests in succession that may leave the backlog as large as it was, before the loop waits no longer. */
const MAX_STALLED = 3;

/** The functions of the pipeline that the loop calls. */
export interface RequestLoopHost {
  runner: CoreRunner;
  poster: Poster;
  /** ms since 1970. */
  wall(): number;
  /** ms of the monotonic clock. */
  mono(): number;
  /** Number of calls and records that are not sent yet. */
  backlog(): number;
  /** Whether this process may send: it owns the journal, or writes to no journal. */
  maySend(): boolean;
  /** Called behind a request and those that followed it. */
  done(): void;
}

/** The requests of one pipeline. */
export class RequestLoop {
  readonly #host: RequestLoopHost;
  #sending: Promise<void> | undefined;

  constructor(host: RequestLoopHost) {
    this.#host = host;
  }

  /**
   * Begins a request where one is due and none runs.
   *
   * @param hurry whether to send before the flush interval has passed
   * @returns whether a request began
   */
  send(hurry: boolean, timeoutMs: number): boolean {
    const { runner, wall, mono, maySend, done } = this.#host;
    if (this.#sending || !maySend()) return false;
    let order: Order | undefined;
    runner.run((core) => {
      order = core.begin(wall(), mono(), hurry);
    });
    if (!order) return false;
    this.#sending = this.#exchange(order, Math.max(1, Math.ceil(timeoutMs))).finally(() => {
      this.#sending = undefined;
      done();
    });
    return true;
  }

  /**
   * Sends without pauses until the backlog is at most `max`, the time is over, or several requests did not reduce it.
   *
   * @param until ms of the monotonic clock
   */
  async sendUntil(until: number, max: number): Promise<void> {
    const { runner, mono, backlog } = this.#host;
    for (let stalled = 0, before = backlog(); before > max && stalled < MAX_STALLED; ) {
      const left = until - mono();
      if (left <= 0 || runner.isOff) return;
      if (!this.#sending && !this.send(true, left)) return;
      await withDeadline(this.#sending ?? Promise.resolve(), left).catch(() => {});
      const now = backlog();
      stalled = now < before ? 0 : stalled + 1;
      before = now;
    }
  }

  /** Makes a request, and the requests that follow from its answer at once. */
  async #exchange(order: Order, timeoutMs: number): Promise<void> {
    const { runner, poster, wall, mono } = this.#host;
    let next: Order | undefined = order;
    while (next !== undefined) {
      const { core } = runner;
      const reply = await poster.make(next, timeoutMs);
      next = undefined;
      // A core that was replaced meanwhile did not make this request: the new one sends the batch again, under its guards.
      if (core !== runner.core) return;
      runner.run((current) => {
        next = current.answered(reply, wall(), mono());
      });
    }
  }
}
