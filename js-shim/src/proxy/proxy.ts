/**
 * A reverse proxy on the loopback interface, for `models.providers.*.baseUrl`. Requests and answers pass unchanged. The
 * proxy reads model calls beside them, and reports each call when it is over.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Instance, Refusal } from "../base/wasm.js";
import type { Log } from "../worker/pipeline.js";
import { CHUNK_COST } from "./decode.js";
import { forward, type Listener, Origin } from "./forward.js";
import { type Bounds, Front } from "./front.js";
import type { Framing } from "./hop.js";
import { rateLimited } from "./rate-limit.js";
import { type CallReading, type Edit, type Ending, Readers, type Told } from "./reading.js";
import { answerStopped } from "./stopped.js";
import { type Route, route, shown, type Upstream, withoutCredentials, withoutQuery } from "./upstreams.js";

/** A finished call, in the names of the source `proxied`. Times in ms; `started` and `ended` since 1970. */
export interface ProxiedCall extends Told {
  provider: string;
  /** The agent of the upstream, where its option names one. */
  agent: string | null;
  /** The model of the request. */
  model: string | null;
  /** The provider's id of the request, from a header of the answer. */
  request_id: string | null;
  /** The HTTP status; null where there was no answer. */
  status: number | null;
  started: number;
  ended: number;
  duration: number;
  /** Time to the first byte of the answer's body. */
  ttfb: number | null;
  /** Time to the first token of a stream. */
  ttft: number | null;
}

/** A POST that a provider answered and that is not counted as a call, in the names of the source `passed`. */
export interface Passed {
  provider: string;
  /** The path without its query. */
  path: string;
}

/** The options of a proxy. */
export interface ProxyOptions {
  upstreams: readonly Upstream[];
  host: string;
  port: number;
  /** Further host names that requests may name, in lower case. */
  hosts: readonly string[];
  /** Bounds that differ from the defaults. */
  bounds?: Partial<ProxyBounds> | undefined;
  /** Called for each call that is over; must not throw. */
  onCall(call: ProxiedCall): void;
  /** Whether a call may be forwarded; undefined where it may. It is under way until `ended`. Must not throw. */
  admit?(request: number, upstream: Upstream, model: string | null): Refusal | undefined;
  /** An admitted request is over, and its call, if it was one, was reported. Must not throw. */
  ended?(request: number): void;
  /** Called for each POST that was answered and is no call; must not throw. */
  onPassed?(passed: Passed): void;
  instantiate(): Instance;
  log: Log;
  /** ms since 1970. */
  wall(): number;
  /** ms of the monotonic clock. */
  mono(): number;
}

/** Bounds of a proxy. */
export interface ProxyBounds extends Bounds {
  /** Largest body that is held to add `include_usage`, in bytes; a larger one passes unchanged. */
  held: number;
  /** The same for all held bodies together, in bytes. */
  heldTogether: number;
  /** How long an upstream may send nothing during a request, in ms. */
  silentMs: number;
}

/** A model may think for long before its first byte. A client on this machine sends its request at once. */
const BOUNDS: ProxyBounds = {
  connections: 1_000,
  headersMs: 30_000,
  requestMs: 300_000,
  idleMs: 75_000,
  held: 32 * 1024 * 1024,
  heldTogether: 128 * 1024 * 1024,
  silentMs: 3_600_000,
};
/** Background responses that are remembered, so that each counts once however often it is fetched. */
const MAX_BACKGROUND = 10_000;
/** Headers with a provider's id of the request. */
const REQUEST_IDS = ["request-id", "x-request-id", "x-litellm-call-id", "apim-request-id"];

/** One proxy server. */
export class Proxy {
  readonly #options: ProxyOptions;
  readonly #bounds: ProxyBounds;
  readonly #front: Front;
  readonly #readers: Readers;
  readonly #origins = new Map<Upstream, Origin>();
  readonly #warn: (text: string) => void;
  /** Calls whose answers are still being read. */
  readonly #unfinished = new Set<Promise<void>>();
  readonly counts = {
    requests: 0,
    calls: 0,
    pending: 0,
    uncounted: 0,
    refused: 0,
    stopped: 0,
    unreachable: 0,
    cut: 0,
    left: 0,
    asked_too_large: 0,
    asked_no_room: 0,
  };
  /** Ids of background responses, the oldest first, and whether each was counted. */
  readonly #background = new Map<string, boolean>();
  /** Bytes of all held bodies. */
  #held = 0;

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#readers = new Readers(() => options.instantiate());
    this.#warn = rateLimited((text) => options.log.warn(text), options.mono);
    this.#bounds = { ...BOUNDS, ...options.bounds };
    for (const upstream of options.upstreams)
      this.#origins.set(upstream, new Origin(upstream.url, this.#bounds.silentMs));
    const { host, port, hosts } = options;
    this.#front = new Front({
      ...{ host, port, hosts },
      bounds: this.#bounds,
      warn: this.#warn,
      serve: (...served) => this.#serve(...served),
      refuse: (response, status, why) => {
        this.counts.refused += 1;
        answerError(response, status, "refused", `agentwatch-openclaw proxy: ${why}`);
      },
    });
  }

  /** Number of answers that could not be read, by reason. */
  get unread(): Readers["unread"] {
    return this.#readers.unread;
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

  /** Accepts no more connections, waits for running ones for at most `graceMs` ms, then closes their connections. */
  async close(graceMs: number): Promise<void> {
    await this.#front.close(graceMs);
    await Promise.all(this.#unfinished);
    for (const origin of this.#origins.values()) origin.close();
  }

  #serve(request: IncomingMessage, response: ServerResponse, framing: Framing, isAwaited: boolean): void {
    this.counts.requests += 1;
    const target = request.url ?? "";
    const found = route(this.#options.upstreams, target);
    const origin = found && this.#origins.get(found.upstream);
    if (!found || !origin) {
      this.#refuse(response);
      return;
    }
    const reading = this.#readers.open(request.method ?? "", found.path);
    const number = this.counts.requests;
    // A retrieval, or the end of a background response, makes no call.
    const isCall = reading && request.method === "POST" && !/\/cancel\/?$/.test(withoutQuery(found.path));
    const refusal = isCall && this.#options.admit?.(number, found.upstream, reading.model);
    if (refusal) {
      this.counts.stopped += 1;
      answerStopped(response, found.path, refusal);
      return;
    }
    const listener = this.#listen(found, reading, request, response, () => this.#options.ended?.(number));
    const pass = (body: Uint8Array[] | undefined) => {
      try {
        forward({ origin, path: found.path, request, response, framing, isAwaited, body, listener });
      } catch (error) {
        // Node's parser accepts some requests that Node refuses to write.
        listener.sent();
        listener.over("cut", error instanceof Error ? error : new Error(String(error)));
      }
    };
    if (reading && found.upstream.asksForUsage && canAsk(request, found.path))
      this.#hold(request, response, isAwaited, reading, listener, pass);
    else pass(undefined);
  }

  /** The listener of a request and its answer. */
  #listen(
    { upstream, asked }: Route,
    reading: CallReading | undefined,
    request: IncomingMessage,
    response: ServerResponse,
    ended: () => void,
  ): Listener {
    const { wall, mono } = this.#options;
    const began = mono();
    const started = wall();
    let ttfb: number | null = null;
    let ttft: number | null = null;
    let answered: IncomingMessage | undefined;
    const isPlain = request.headers["content-encoding"] === undefined;
    return {
      sent: () => {},
      request: (bytes) => {
        if (isPlain) reading?.request(bytes);
      },
      answer: (answer) => {
        answered = answer;
        reading?.answer(answer.statusCode ?? 0, answer.headers, () => {
          ttft ??= mono() - began;
        });
      },
      bytes: (bytes) => {
        ttfb ??= mono() - began;
        reading?.bytes(bytes);
      },
      over: (ending, error) => {
        const endedAt = wall();
        const duration = mono() - began;
        if (!answered) this.#explain(response, upstream, ending, error);
        else if (ending !== "whole") this.counts[ending] += 1;
        const isPost = answered && request.method === "POST";
        const passed = () => {
          if (isPost) this.#pass({ provider: upstream.provider, path: withoutQuery(asked) || "/" });
        };
        if (!reading) return passed();
        const known = {
          provider: upstream.provider,
          agent: upstream.agent ?? null,
          request_id: requestId(answered),
          status: answered?.statusCode ?? null,
          ...{ started, ended: endedAt, duration, ttfb },
        };
        const tell = (told: Told) => {
          if (!this.#isCall(told, request.method === "GET")) return told.about === "nothing" && passed();
          const call = {
            ...known,
            model: reading.model,
            // The bytes of a compressed stream are read a little after they passed.
            ttft: ttft && Math.min(ttft, duration),
            ...told,
          };
          this.counts.calls += 1;
          this.#options.onCall(told.background ? inBackground(call) : call);
        };
        this.#finish(reading, ending, tell, ended);
      },
    };
  }

  #pass(passed: Passed): void {
    this.counts.uncounted += 1;
    this.#options.onPassed?.(passed);
  }

  /** Whether an answer is of a call that is over and not counted yet. */
  #isCall({ about, background, response_id: id }: Told, isFetched: boolean): boolean {
    const isPending = about === "pending";
    if (isPending && !isFetched) this.counts.pending += 1;
    const known = id === null ? undefined : this.#background.get(id);
    if (id !== null && known === undefined && (background || isPending)) this.#background.set(id, false);
    for (const old of this.#background.keys()) {
      if (this.#background.size <= MAX_BACKGROUND) break;
      this.#background.delete(old);
    }
    if (about || known) return false;
    // A stored response is fetched: its call was counted when the provider answered it.
    if (isFetched && known === undefined && !background) return false;
    if (id !== null && this.#background.has(id)) this.#background.set(id, true);
    return true;
  }

  #finish(reading: CallReading, ending: Ending, tell: (told: Told) => void, ended: () => void): void {
    const done = reading
      .finish(ending)
      .then(tell)
      .catch((error) =>
        this.#warn(`a call was not counted: ${error instanceof Error ? error.message : error}`),
      )
      .finally(() => {
        ended();
        this.#unfinished.delete(done);
      });
    this.#unfinished.add(done);
  }

  /** Holds a request's body until it is complete, changes it, and forwards it. */
  #hold(
    request: IncomingMessage,
    response: ServerResponse,
    isAwaited: boolean,
    reading: CallReading,
    listener: Listener,
    pass: (body: Uint8Array[] | undefined) => void,
  ): void {
    if (isAwaited) response.writeContinue();
    const held: Buffer[] = [];
    let size = 0;
    // Counted until the body is sent: it may be here, in the request's buffer or in the upstream's.
    const release = () => {
      this.#held -= size;
      size = 0;
    };
    const left = () => {
      release();
      listener.over("left");
    };
    listener.sent = release;
    const take = (bytes: Buffer) => {
      held.push(bytes);
      // A chunk of one byte takes memory too.
      const cost = bytes.length + CHUNK_COST;
      size += cost;
      this.#held += cost;
      const isTooLarge = size > this.#bounds.held;
      if (!isTooLarge && this.#held <= this.#bounds.heldTogether) return;
      // Too much to hold: the bytes go back into the request, and the body passes unchanged.
      this.counts[isTooLarge ? "asked_too_large" : "asked_no_room"] += 1;
      request.off("data", take).off("end", end).off("close", left).pause();
      // At once: each one would move all that the request holds.
      request.unshift(Buffer.concat(held.splice(0)));
      pass(undefined);
    };
    const end = () => {
      request.off("close", left);
      pass(edited(held.splice(0), reading));
    };
    request.on("data", take).on("end", end).on("close", left);
  }

  #refuse(response: ServerResponse): void {
    this.counts.refused += 1;
    const prefixes = this.#options.upstreams.map(({ prefix }) => prefix).join(", ");
    const message = `agentwatch-openclaw proxy: no upstream has this path; there are ${prefixes}. Correct baseUrl in models.providers, or add an --upstream.`;
    this.#warn(
      "a request to a path of no upstream was refused: compare models.providers.*.baseUrl with --upstream",
    );
    answerError(response, 404, "no_upstream", message);
  }

  /** Tells client and operator why the upstream did not answer. */
  #explain(response: ServerResponse, upstream: Upstream, ending: Ending, error: Error | undefined): void {
    if (ending === "left" || response.destroyed) {
      this.counts.left += 1;
      return;
    }
    this.counts.unreachable += 1;
    const { prefix, url } = upstream;
    const code = (error as NodeJS.ErrnoException | undefined)?.code;
    const why = error
      ? `${withoutCredentials(error.message) || error.name}${code && !error.message.includes(code) ? ` (${code})` : ""}`
      : "no answer";
    const message = `agentwatch-openclaw proxy: ${url.origin} did not answer: ${why}. Check --upstream ${prefix}=${shown(url)} and that this machine reaches it.`;
    this.#warn(message);
    answerError(response, 502, "upstream_unreachable", message);
  }
}

/** A background call has the provider's times, which do not depend on when it is fetched. */
function inBackground(call: ProxiedCall): ProxiedCall {
  const { created: started = call.started, completed: ended = call.ended } = call;
  const ofFetch = { request_id: null, ttfb: null, ttft: null };
  return { ...call, ...ofFetch, started, ended, duration: ended - started };
}

/** Whether `include_usage` may be added to the body. */
function canAsk(request: IncomingMessage, path: string): boolean {
  const { "content-type": type = "", "content-encoding": encoding } = request.headers;
  return /\/completions$/.test(withoutQuery(path)) && /\bjson\b/i.test(type) && encoding === undefined;
}

function edited(held: Buffer[], reading: CallReading): Uint8Array[] {
  const edit = reading.wish(held);
  return edit ? spliced(held, edit) : held;
}

/** Applies an edit to the pieces of a body, without a copy of the body. */
function spliced(pieces: readonly Uint8Array[], { at, remove, insert }: Edit): Uint8Array[] {
  const before: Uint8Array[] = [];
  const after: Uint8Array[] = [];
  let from = 0;
  for (const piece of pieces) {
    if (from < at) before.push(piece.subarray(0, at - from));
    const rest = piece.subarray(Math.max(at + remove - from, 0));
    if (rest.length > 0) after.push(rest);
    from += piece.length;
  }
  return [...before, Buffer.from(insert), ...after];
}

function requestId(answer: IncomingMessage | undefined): string | null {
  for (const name of REQUEST_IDS) {
    const value = answer?.headers[name];
    if (typeof value === "string") return value;
  }
  return null;
}

function answerError(response: ServerResponse, status: number, code: string, message: string): void {
  if (response.headersSent || response.destroyed) return;
  const body = JSON.stringify({ error: { message, type: "proxy_error", code } });
  response.writeHead(status, { "content-type": "application/json" }).end(body);
  response.req.resume();
}
