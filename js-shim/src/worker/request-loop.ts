/** Makes the engine's requests to one outlet, one at a time. */

import { withDeadline } from "../base/promises.js";
import type { Engine, Reply } from "../base/wasm.js";
import type { EngineRunner } from "./engine-runner.js";
import type { Order, Poster } from "./poster.js";

/** How long a request may take, in ms. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** Requests in succession that may leave the backlog as large as it was, before the loop waits no longer. */
const MAX_STALLED = 3;

/** The functions of the pipeline that the loop calls. */
export interface RequestLoopHost {
  runner: EngineRunner;
  poster: Poster;
  /** ms of the monotonic clock. */
  mono(): number;
  /** The outlet's next request, where one is due; `hurry` before the flush interval has passed. */
  begin(engine: Engine, hurry: boolean): Order | undefined;
  /** Takes the reply to a request. @returns the request that follows at once, if any */
  answered(engine: Engine, reply: Reply): Order | undefined;
  /** Whether this process may send: it owns the journal, or writes to no journal. */
  maySend(): boolean;
  /** Called behind a request and those that followed it. */
  done(): void;
}

/** The requests to one outlet of a pipeline. */
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
    const { runner, begin, maySend, done } = this.#host;
    if (this.#sending || !maySend()) return false;
    let order: Order | undefined;
    runner.run((engine) => {
      order = begin(engine, hurry);
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
   * @param backlog counts what is not sent yet
   */
  async sendUntil(until: number, max: number, backlog: () => number): Promise<void> {
    for (let stalled = 0, before = backlog(); before > max && stalled < MAX_STALLED; ) {
      if (!(await this.#next(until))) return;
      const now = backlog();
      stalled = now < before ? 0 : stalled + 1;
      before = now;
    }
  }

  /** Sends without pauses until no request is due, or the time is over, in ms of the monotonic clock. */
  async sendAll(until: number): Promise<void> {
    while (await this.#next(until));
  }

  /** Whether no request runs. */
  get isIdle(): boolean {
    return this.#sending === undefined;
  }

  /** Ends with the request that runs. */
  async idle(): Promise<void> {
    await this.#sending;
  }

  /** Awaits the request that runs, or the next one. @returns false where none is due or the time is over */
  async #next(until: number): Promise<boolean> {
    const { runner, mono } = this.#host;
    const left = until - mono();
    if (left <= 0 || runner.isOff) return false;
    if (!this.#sending && !this.send(true, left)) return false;
    await withDeadline(this.#sending ?? Promise.resolve(), left).catch(() => {});
    return true;
  }

  /** Makes a request, and the requests that follow from its answer at once. */
  async #exchange(order: Order, timeoutMs: number): Promise<void> {
    const { runner, poster, answered } = this.#host;
    let next: Order | undefined = order;
    while (next !== undefined) {
      const { engine } = runner;
      const reply = await poster.make(next, timeoutMs);
      next = undefined;
      // An engine that was replaced meanwhile did not make this request: the new one sends the batch again, under its guards.
      if (engine !== runner.engine) return;
      runner.run((current) => {
        next = answered(current, reply);
      });
    }
  }
}
