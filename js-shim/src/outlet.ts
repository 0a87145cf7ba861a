/** One signal's way to a collector: what is tried again and what is not, as OTLP says. */

import type { Log } from "./pipeline.js";
import { reason, withDeadline } from "./promises.js";
import type { Instance } from "./wasm.js";
import { counted } from "./words.js";

/** Answers after which OTLP has the same request tried again. */
const TRY_AGAIN = new Set([0, 429, 502, 503, 504]);
const TIMEOUT_MS = 10_000;
/** The first pause after a failure, doubled each time; half of it is drawn. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 300_000;
/** The same trouble is not said more often. */
const SAY_EVERY_MS = 60_000;

/** What a request came to: taken, given up for good, or to be tried later. */
export type Outcome = "taken" | "refused" | "later";

/** What an outlet needs of its host. */
export interface OutletHost {
  io(): Instance;
  log: Log;
  mono(): number;
}

/** See above. */
export class Outlet {
  readonly #host: OutletHost;
  readonly #url: string;
  readonly #headers: ReadonlyArray<readonly [string, string]>;
  readonly #path: string;
  #notBefore = Number.NEGATIVE_INFINITY;
  #failures = 0;
  #said = { text: "", at: Number.NEGATIVE_INFINITY };
  #isReached = false;
  #counts = { sent: 0, rejected: 0, refused: 0, given_up_bytes: 0 };
  #lastError: string | undefined;

  constructor(
    host: OutletHost,
    { url, headers }: { url: string; headers: ReadonlyArray<readonly [string, string]> },
    path: string,
  ) {
    this.#host = host;
    this.#url = url;
    this.#headers = headers;
    this.#path = path;
  }

  /** How long the collector is to be left alone, in ms. */
  get waitMs(): number {
    return this.#notBefore - this.#host.mono();
  }

  /** Tells some records. */
  async tell(body: string, records: number): Promise<Outcome> {
    const [status, retryAfter, error, , , , rejected] = await this.#send(body);
    if (status >= 200 && status < 300) {
      this.#failures = 0;
      this.#lastError = undefined;
      this.#counts.sent += records - rejected;
      this.#counts.rejected += rejected;
      if (rejected > 0) this.#say(`left out ${rejected} of ${counted(records, "record")} of ${this.#path}`);
      if (!this.#isReached) this.#host.log.info(`otlp: delivering to ${this.#url}${this.#path}`);
      this.#isReached = true;
      return "taken";
    }
    const why = status === 0 ? (error ?? "no answer") : `HTTP ${status}`;
    if (TRY_AGAIN.has(status)) {
      this.#failures += 1;
      const pause = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(this.#failures - 1, 16), LONGEST_PAUSE_MS);
      const drawn = pause / 2 + (Math.random() * pause) / 2;
      const asked = Math.min(retryAfter ?? 0, LONGEST_PAUSE_MS);
      this.#notBefore = this.#host.mono() + Math.max(drawn, asked);
      this.#say(`does not take ${this.#path} (${why}); tried again, AgentWatch is not held up`);
      return "later";
    }
    this.#counts.refused += records;
    this.#say(`refuses ${this.#path} (${why}), which OTLP has not tried again; ${mend(status)}`);
    return "refused";
  }

  /** Counts what was given up for want of room. */
  gaveUp(bytes: number): void {
    this.#counts.given_up_bytes += bytes;
    this.#say(`was away for too long: the oldest of what waits for ${this.#path} is given up`);
  }

  /** What a status shows. */
  status(): Record<string, unknown> {
    return { ...this.#counts, last_error: this.#lastError ?? null };
  }

  #say(trouble: string): void {
    this.#lastError = trouble;
    const now = this.#host.mono();
    if (trouble === this.#said.text && now - this.#said.at < SAY_EVERY_MS) return;
    this.#said = { text: trouble, at: now };
    this.#host.log.warn(`otlp: ${this.#url} ${trouble}`);
  }

  async #send(
    body: string,
  ): Promise<[number, number | undefined, string | undefined, unknown, unknown, unknown, number]> {
    try {
      const { io } = this.#host;
      const sent = io().send(this.#url, undefined, this.#path, body, TIMEOUT_MS, this.#headers);
      return (await withDeadline(sent, TIMEOUT_MS + 1_000)) as never;
    } catch (error) {
      return [0, undefined, reason(error), false, false, undefined, 0];
    }
  }
}

function mend(status: number): string {
  if (status >= 300 && status < 400) return "it sends elsewhere; set otlp.url to the address itself";
  if (status === 401 || status === 403) return "set otlp.headers to what it wants";
  if (status === 404 || status === 405)
    return "set otlp.url to the address of its OTLP/HTTP receiver, usually on port 4318";
  return "see the collector's log";
}
