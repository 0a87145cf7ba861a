/**
 * The endpoint for LiteLLM's generic API logger. LiteLLM drops a batch on any error, so a batch is answered 200 only when
 * its calls are on disk, and 5xx where a retry (`max_retries`) may succeed.
 */

import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Instance, LogReader } from "../base/wasm.js";
import type { Log } from "../worker/pipeline.js";
import { type Bounds, Front } from "./front.js";
import { Guesses } from "./guesses.js";
import { rateLimited } from "./rate-limit.js";
import type { Told } from "./reading.js";

/** A logged call, in the names of the source `litellm`. Times in ms; `started` and `ended` since 1970. */
export interface LoggedCall extends Told {
  provider: string;
  model: string | null;
  request_id: string | null;
  status: number | null;
  started: number | null;
  ended: number | null;
  duration: number | null;
  ttft: number | null;
}

/** The options of an endpoint. */
export interface LitellmOptions {
  host: string;
  port: number;
  /** Further host names that requests may name, in lower case. */
  hosts: readonly string[];
  /** Bounds that differ from the defaults. */
  bounds?: Partial<LitellmBounds> | undefined;
  /** The bearer token that LiteLLM has to send; undefined: every client that reaches the endpoint may log. */
  token: string | undefined;
  /** OpenClaw's name of the provider that is this LiteLLM. */
  provider: string;
  /** Takes calls; they are on disk when it resolves. A repeated call is counted once. */
  accept(calls: LoggedCall[]): Promise<void>;
  instantiate(): Instance;
  log: Log;
  /** ms of the monotonic clock. */
  mono(): number;
}

/** The largest body that is read, in bytes. */
export const MAX_BODY = 16 * 1024 * 1024;
/** Bounds of an endpoint. */
export interface LitellmBounds extends Bounds {
  /** Bytes of all bodies together that are read at a time. */
  heldTogether: number;
}

/** Default bounds. */
const BOUNDS: LitellmBounds = {
  connections: 256,
  headersMs: 10_000,
  requestMs: 60_000,
  idleMs: 5_000,
  heldTogether: 4 * MAX_BODY,
};

/** An answer with a JSON body. */
interface Answer {
  status: number;
  body: Record<string, unknown>;
}

/** One endpoint. */
export class LitellmEndpoint {
  readonly #options: LitellmOptions;
  readonly #front: Front;
  readonly #bounds: LitellmBounds;
  readonly #token: Buffer | undefined;
  readonly #guesses: Guesses;
  readonly #warn: (text: string) => void;
  #io: Instance | undefined;
  /** Bytes of all bodies that are read now. */
  #held = 0;
  readonly counts = { requests: 0, calls: 0, refused: 0, unreadable: 0, not_accepted: 0 };
  /** Number of payloads that were no model calls, by reason. */
  readonly skipped: Record<string, number> = {};

  constructor(options: LitellmOptions) {
    this.#options = options;
    this.#token = options.token === undefined ? undefined : digest(options.token);
    this.#guesses = new Guesses(options.mono);
    this.#warn = rateLimited((text) => options.log.warn(text), options.mono);
    this.#bounds = { ...BOUNDS, ...options.bounds };
    const { host, port, hosts } = options;
    this.#front = new Front({
      ...{ host, port, hosts },
      bounds: this.#bounds,
      warn: this.#warn,
      serve: (request, response, _, isAwaited) => void this.#serve(request, response, isAwaited),
      refuse: (response, status, why) => {
        this.counts.refused += 1;
        reply(response, problem(status, why));
        response.req.resume();
      },
    });
  }

  /**
   * Listens.
   *
   * @returns the bound address
   * @throws SettingError where the address is in use or not allowed
   */
  listen(): Promise<AddressInfo> {
    return this.#front.listen();
  }

  /** Accepts no more requests, and waits for running ones for at most `graceMs` ms. */
  close(graceMs: number): Promise<void> {
    return this.#front.close(graceMs);
  }

  async #serve(request: IncomingMessage, response: ServerResponse, isAwaited: boolean): Promise<void> {
    this.counts.requests += 1;
    const refusal = (await this.#stranger(request)) ?? this.#refusal(request);
    if (refusal) this.counts.refused += 1;
    else if (isAwaited) response.writeContinue();
    reply(response, refusal ?? (await this.#log(request)));
    // A client that is still sending does not read the answer: the rest of its body is read and dropped.
    request.resume();
  }

  /** The answer to a client without the token. */
  async #stranger({ headers, socket }: IncomingMessage): Promise<Answer | undefined> {
    const token = this.#token;
    if (!token) return undefined;
    const isRight = await this.#guesses.judge(
      () => isSame(token, bearer(headers.authorization)),
      () => socket.destroyed,
    );
    if (isRight) return undefined;
    if (isRight === undefined) {
      if (!socket.destroyed)
        this.#warn("a log was not accepted: too many wrong tokens come in to judge its own");
      return problem(503, "too many wrong tokens come in, try again");
    }
    this.#warn(
      "a log was refused: its Authorization is not the token in AGENTWATCH_LITELLM_TOKEN; set headers.Authorization under callback_settings in LiteLLM's configuration",
    );
    return problem(401, "wrong token: set headers.Authorization to Bearer and AGENTWATCH_LITELLM_TOKEN");
  }

  /** The answer to a request whose body is not read; undefined where it may be read. */
  #refusal({ method, headers }: IncomingMessage): Answer | undefined {
    if (method !== "POST") return problem(405, "logs are posted");
    const { "content-encoding": encoding = "identity", "content-length": length = "0" } = headers;
    if (encoding !== "identity")
      return problem(415, `content-encoding ${encoding} is not read: send it plain`);
    return Number(length) > MAX_BODY ? this.#tooLarge() : undefined;
  }

  /** Reads a body and takes its calls. */
  async #log(request: IncomingMessage): Promise<Answer> {
    const reader = this.#inModule((io) => new io.LogReader());
    if (!reader) return this.#faulty();
    const refusal = await this.#read(request, reader);
    if (refusal) return refusal;
    const text = this.#inModule(() => reader.finish());
    return text ? this.#take(text) : this.#faulty();
  }

  /** Reads a body. @returns why it could not be read completely; the reader is free then */
  async #read(request: IncomingMessage, reader: LogReader): Promise<Answer | undefined> {
    let size = 0;
    const stop = (answer: Answer) => {
      this.#inModule(() => reader.free());
      return answer;
    };
    try {
      for await (const bytes of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        size += bytes.length;
        this.#held += bytes.length;
        const refusal = this.#overfull(size);
        if (refusal) return stop(refusal);
        if (!this.#inModule(() => [reader.feed(bytes)])) return this.#faulty();
      }
      return undefined;
    } catch {
      // The client closed the connection.
      return stop(problem(400, "cut off"));
    } finally {
      this.#held -= size;
    }
  }

  /** The answer to a body for which there is no room. */
  #overfull(size: number): Answer | undefined {
    if (size <= MAX_BODY && this.#held <= this.#bounds.heldTogether) return undefined;
    this.counts.refused += 1;
    if (size > MAX_BODY) return this.#tooLarge();
    this.#warn("a log was refused: other logs that have not arrived completely take all the room");
    return problem(503, "too many logs at once, try again");
  }

  async #take(text: string): Promise<Answer> {
    const logged = JSON.parse(text) as {
      calls: Array<Omit<LoggedCall, "cost"> & { cost: string | null }>;
      skipped: Record<string, number>;
      problem?: string;
    };
    if (logged.problem) {
      this.counts.unreadable += 1;
      this.#warn(`a log could not be read (${logged.problem}): is it LiteLLM's generic_api that posts here?`);
      return problem(400, logged.problem);
    }
    const { provider } = this.#options;
    const calls = logged.calls.map((call) => ({
      ...call,
      provider,
      cost: call.cost === null ? null : Number(call.cost),
    }));
    try {
      await this.#options.accept(calls);
    } catch (error) {
      this.counts.not_accepted += 1;
      this.#warn(`a log was not accepted: ${error instanceof Error ? error.message : error}`);
      return problem(503, "not accepted, try again");
    }
    this.counts.calls += calls.length;
    for (const [reason, count] of Object.entries(logged.skipped))
      this.skipped[reason] = (this.skipped[reason] ?? 0) + count;
    return { status: 200, body: { accepted: calls.length, skipped: logged.skipped } };
  }

  /** Runs work in the module. @returns undefined after a trap; the next call makes a new instance */
  #inModule<T>(work: (io: Instance) => T): T | undefined {
    try {
      this.#io ??= this.#options.instantiate();
      return work(this.#io);
    } catch {
      this.#io = undefined;
      return undefined;
    }
  }

  #faulty(): Answer {
    this.counts.unreadable += 1;
    this.#warn("a log could not be read because of a fault in this program; please report this");
    return problem(500, "a fault of the reader");
  }

  #tooLarge(): Answer {
    this.#warn(
      `a log of more than ${MAX_BODY / 1024 / 1024} MiB was refused: set a smaller DEFAULT_BATCH_SIZE in LiteLLM's environment, or log_format: single`,
    );
    return problem(413, `more than ${MAX_BODY} bytes`);
  }
}

function reply(response: ServerResponse, { status, body }: Answer): void {
  if (response.destroyed) return;
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function problem(status: number, error: string): Answer {
  return { status, body: { error } };
}

function bearer(authorization: string | undefined): string {
  return /^Bearer (.*)$/i.exec(authorization ?? "")?.[1] ?? "";
}

/** Tokens are compared by their hashes, so that the time of a comparison reveals nothing. */
function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

function isSame(wanted: Buffer, shown: string): boolean {
  return timingSafeEqual(wanted, digest(shown));
}
