/** The common part of the plugin's HTTP servers: address, allowed hosts and origins, bounds. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { listenError } from "../commands/listen.js";
import { type Reached, refusal } from "./guard.js";
import { type Framing, framing } from "./hop.js";
import { rateLimited } from "./rate-limit.js";

/** The largest header section that is read, in bytes. */
export const MAX_HEADER_BYTES = 64 * 1024;
/** Header fields of a request. Clients of models' APIs send some thirty, and each field costs memory beside its bytes. */
const MAX_FIELDS = 100;
/** Requests that a client may send on one connection before the answer to the first. */
const MAX_PIPELINED = 16;
/** The same on all connections together. Libraries send one request after the answer to the one before. */
const MAX_AHEAD = 256;

/** Bounds of a server. */
export interface Bounds {
  /** Open connections; more are closed. */
  connections: number;
  /** How long a connection may take for its first header section, in ms. */
  headersMs: number;
  /** How long a request may take to arrive completely, in ms. */
  requestMs: number;
  /** How long a connection may be idle between requests, in ms. */
  idleMs: number;
}

/** The options of a front. */
export interface FrontOptions {
  host: string;
  port: number;
  /** Further host names that requests may name, in lower case. */
  hosts: readonly string[];
  /** Whether no further names can be set. */
  isFixed?: boolean;
  bounds: Bounds;
  /** Whether the process may end while the server listens. */
  isBackground?: boolean;
  /** Logs a text for the operator; the caller limits repetitions. */
  warn(text: string): void;
  /** Serves an allowed request. `isAwaited`: the client waits for `100 Continue` before it sends its body. */
  serve(request: IncomingMessage, response: ServerResponse, framing: Framing, isAwaited: boolean): void;
  /** Answers a refused request; nothing of its body was read. */
  refuse(response: ServerResponse, status: number, why: string): void;
}

/** What a request says in `Expect`: nothing, that it waits for `100 Continue`, or something else. */
type Expects = "nothing" | "continue" | "else";

/** A request that is not served. */
interface Refused {
  status: number;
  why: string;
  /** Whether the operator should know: their own client may be refused. */
  isLogged: boolean;
}

/** How long a client may read nothing of its answer, in ms. Node needs up to twice that to notice it. */
function unreadMs({ requestMs, idleMs }: Bounds): number {
  return Math.min(requestMs, idleMs);
}

/** Different refusals that are logged in a minute. */
const MAX_REFUSALS = 50;

/** An HTTP server that checks requests before it serves them. */
export class Front {
  readonly #options: FrontOptions;
  readonly #server: Server;
  /** With places of its own: a refusal has the client's words, and a flood of them must not displace other lines. */
  readonly #warnOfRefusal: (text: string) => void;
  #reached: Reached;
  /** Requests that wait for the answers to earlier ones on their connection. */
  readonly #ahead = new WeakMap<Socket, Array<() => void>>();
  /** Number of these requests, of all connections. */
  #waiting = 0;
  /** Number of requests whose answers are not over. */
  #running = 0;
  /** Called when the last running request is over, once the server closes. */
  #whenOver: (() => void) | undefined;

  constructor(options: FrontOptions) {
    this.#options = options;
    this.#warnOfRefusal = rateLimited(options.warn, () => performance.now(), MAX_REFUSALS);
    this.#reached = this.#reachedAt(options.host);
    const { connections, headersMs, requestMs, idleMs } = options.bounds;
    this.#server = createServer({
      headersTimeout: Math.min(headersMs, requestMs),
      requestTimeout: requestMs,
      keepAliveTimeout: idleMs,
      connectionsCheckingInterval: Math.min(1_000, headersMs),
      maxHeaderSize: MAX_HEADER_BYTES,
      // Overrides Node's command-line option.
      insecureHTTPParser: false,
      // The guard requires the Host header. Node's own refusals would bypass the bounds of waiting requests.
      requireHostHeader: false,
    });
    // Node would drop further fields, the body's length among them, or end the connection before its answer is read.
    this.#server.maxHeadersCount = 0;
    this.#server.maxConnections = connections;
    const take = (expects: Expects) => (request: IncomingMessage, response: ServerResponse) =>
      this.#take(request, response, expects);
    this.#server
      .on("request", take("nothing"))
      .on("checkContinue", take("continue"))
      .on("checkExpectation", take("else"))
      .on("drop", () =>
        options.warn(
          `a connection was closed unread: ${connections} connections are open, the most allowed; find the client that opens so many`,
        ),
      );
  }

  /**
   * Listens.
   *
   * @returns the bound address
   * @throws SettingError where the address is in use or not allowed
   */
  async listen(): Promise<AddressInfo> {
    const { host, port } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
      this.#server.listen(port, host, resolve);
    });
    if (this.#options.isBackground) this.#server.unref();
    const bound = this.#server.address() as AddressInfo;
    this.#reached = this.#reachedAt(bound.address);
    return bound;
  }

  #reachedAt(address: string): Reached {
    const { hosts, isFixed = false } = this.#options;
    return { address, hosts, isFixed };
  }

  /**
   * Accepts no more connections, waits for running requests for at most `graceMs` ms, then closes their connections.
   * Resolves behind the `close` of the last response.
   */
  async close(graceMs: number): Promise<void> {
    const over = new Promise<void>((resolve) => {
      this.#whenOver = resolve;
    });
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => this.#server.closeAllConnections(), graceMs);
    await closed;
    clearTimeout(timer);
    if (this.#running > 0) await over;
  }

  #take(request: IncomingMessage, response: ServerResponse, expects: Expects): void {
    const { serve, refuse } = this.#options;
    // `close` follows and ends the request; without a handler the error would end the process.
    request.on("error", () => {});
    response.on("error", () => {});
    const judged = this.#judge(request, expects);
    if ("by" in judged)
      return this.#inTurn(request.socket, response, () =>
        serve(request, response, judged, expects === "continue"),
      );
    const { status, why, isLogged } = judged;
    if (isLogged) this.#warnOfRefusal(`a request was refused: ${why}`);
    // A refused request is not kept in memory until its turn.
    if (this.#ahead.has(request.socket)) request.socket.destroy();
    this.#inTurn(request.socket, response, () => {
      // Its body is not read, so the connection cannot be reused.
      response.setHeader("connection", "close");
      refuse(response, status, `refused: ${why}`);
    });
  }

  /** The framing of a request that is served, or why it is not. */
  #judge(
    { url = "", rawHeaders, httpVersion, headers }: IncomingMessage,
    expects: Expects,
  ): Framing | Refused {
    const no = (status: number, why: string, isLogged = false) => ({ status, why, isLogged });
    const why = refusal(url, rawHeaders, this.#reached);
    if (why) return no(403, why, true);
    if (rawHeaders.length / 2 > MAX_FIELDS)
      return no(431, `it has more than ${MAX_FIELDS} header fields`, true);
    if (expects === "else") return no(417, "it expects something else than 100-continue");
    // RFC 9112 section 6.1: HTTP/1.0 has no chunks, so the sender may frame the body in another way.
    const isOld = httpVersion === "1.0" && headers["transfer-encoding"] !== undefined;
    return (
      (isOld ? undefined : framing(rawHeaders)) ?? no(400, "it does not say for certain where its body ends")
    );
  }

  /** Answers the requests of one connection one after another. Those of a connection that ends are not answered. */
  #inTurn(socket: Socket, response: ServerResponse, answer: () => void): void {
    if (!socket.writable) return;
    const run = () => {
      // The timer also runs while the upstream is silent, so the connection is closed only if bytes wait for the client.
      response.setTimeout(unreadMs(this.#options.bounds), () => {
        if (socket.writableLength > 0) socket.destroy();
      });
      this.#running += 1;
      response.once("close", () => {
        this.#running -= 1;
        if (this.#running === 0) this.#whenOver?.();
        this.#next(socket);
      });
      if (this.#whenOver) response.shouldKeepAlive = false;
      answer();
    };
    const ahead = this.#ahead.get(socket);
    if (!ahead) {
      this.#ahead.set(socket, []);
      run();
    } else if (ahead.length < MAX_PIPELINED && this.#waiting < MAX_AHEAD) {
      ahead.push(run);
      this.#waiting += 1;
    } else {
      this.#options.warn("a connection was closed: its client sends requests without waiting for answers");
      socket.destroy();
    }
  }

  /** Answers the next request of a connection. */
  #next(socket: Socket): void {
    const ahead = this.#ahead.get(socket) ?? [];
    const next = socket.writable ? ahead.shift() : undefined;
    this.#waiting -= next ? 1 : ahead.length;
    if (next) next();
    else this.#ahead.delete(socket);
  }
}
