/** What stands before every HTTP server of ours: where it listens, who may ask, how much at once and for how long. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type Reached, refusal } from "./guard.js";
import { type Framing, framing } from "./hop.js";
import { listenError } from "./listen.js";

/** The largest header section that is read, in bytes. */
export const MAX_HEADER_BYTES = 64 * 1024;
/** Requests that a client may send on one connection before it has the answer to the first. */
const MOST_AHEAD = 16;

/** How much a server takes at once, and for how long. */
export interface Bounds {
  /** Connections at once; more are closed. */
  connections: number;
  /** How long a connection may take for its first header section, in ms. */
  headersMs: number;
  /** How long a request may take to come as a whole, in ms. */
  requestMs: number;
  /** How long a connection may lie idle between requests, in ms. */
  idleMs: number;
}

/** What a front needs. */
export interface FrontOptions {
  host: string;
  port: number;
  /** Further host names by which it may be asked, in lower case. */
  hosts: readonly string[];
  bounds: Bounds;
  /** Hears what an operator should know; says the same thing seldom. */
  warn(text: string): void;
  /** Serves a request that may pass. `isAwaited`: the client waits for a word before it sends its body. */
  serve(request: IncomingMessage, response: ServerResponse, framing: Framing, isAwaited: boolean): void;
  /** Answers a request that may not; nothing of its body was read. */
  refuse(response: ServerResponse, status: number, why: string): void;
}

/** A server, and what stands before it. */
export class Front {
  readonly #options: FrontOptions;
  readonly #server: Server;
  #reached: Reached;
  /** Requests that wait for those before them on their connection. */
  readonly #ahead = new WeakMap<Socket, Array<() => void>>();

  constructor(options: FrontOptions) {
    this.#options = options;
    this.#reached = { address: options.host, hosts: options.hosts };
    const { connections, headersMs, requestMs, idleMs } = options.bounds;
    this.#server = createServer({
      headersTimeout: Math.min(headersMs, requestMs),
      requestTimeout: requestMs,
      keepAliveTimeout: idleMs,
      connectionsCheckingInterval: Math.min(1_000, headersMs),
      maxHeaderSize: MAX_HEADER_BYTES,
      // Also where Node's own options say otherwise.
      insecureHTTPParser: false,
    });
    // Node leaves out what is beyond a number of fields, and a body's length may be among that.
    this.#server.maxHeadersCount = 0;
    this.#server.maxConnections = connections;
    const take = (isAwaited: boolean) => (request: IncomingMessage, response: ServerResponse) =>
      this.#take(request, response, isAwaited);
    this.#server
      .on("request", take(false))
      .on("checkContinue", take(true))
      .on("drop", () =>
        options.warn(
          `a connection was closed unread: there are ${connections} already, the most at once; see what opens so many`,
        ),
      );
  }

  /**
   * Begins to listen; where.
   *
   * @throws SettingError where the address is taken or not allowed
   */
  async listen(): Promise<AddressInfo> {
    const { host, port, hosts } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
      this.#server.listen(port, host, resolve);
    });
    const bound = this.#server.address() as AddressInfo;
    this.#reached = { address: bound.address, hosts };
    return bound;
  }

  /** Takes no more requests, lets those that run end for at most so many ms, then breaks them off. */
  async close(graceMs: number): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => this.#server.closeAllConnections(), graceMs);
    await closed;
    clearTimeout(timer);
  }

  #take(request: IncomingMessage, response: ServerResponse, isAwaited: boolean): void {
    const { serve, refuse, warn } = this.#options;
    // A client that is gone is told by `close`; nobody else waits for these.
    request.on("error", () => {});
    response.on("error", () => {});
    const why = refusal(request.url ?? "", request.rawHeaders, this.#reached);
    // RFC 9112 section 6.1: chunks are unknown to HTTP/1.0, so who sends both may frame them in another way.
    const isOld = request.httpVersion === "1.0" && request.headers["transfer-encoding"] !== undefined;
    const framed = isOld ? undefined : framing(request.rawHeaders);
    if (why) {
      warn(`a request was refused: ${why}`);
      // Its body is nobody's, and its connection of no more use.
      response.setHeader("connection", "close");
      refuse(response, 403, `refused: ${why}`);
    } else if (!framed) {
      response.setHeader("connection", "close");
      refuse(response, 400, "refused: it does not say for certain where its body ends");
    } else this.#inTurn(request.socket, response, () => serve(request, response, framed, isAwaited));
  }

  /**
   * One request of a connection after the other: a client that sends many without waiting has one served at a time, and
   * none goes on when the connection is gone.
   */
  #inTurn(socket: Socket, response: ServerResponse, serve: () => void): void {
    const run = () => {
      response.once("close", () => {
        const next = this.#ahead.get(socket)?.shift();
        if (!next) this.#ahead.delete(socket);
        else if (!socket.destroyed) next();
      });
      serve();
    };
    const ahead = this.#ahead.get(socket);
    if (!ahead) {
      this.#ahead.set(socket, []);
      run();
    } else if (ahead.push(run) > MOST_AHEAD) socket.destroy();
  }
}
