/** The common part of the plugin's HTTP servers: address, allowed hosts and origins, bounds. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { listenError } from "../commands/listen.js";
import { type Reached, refusal } from "./guard.js";
import { type Framing, framing } from "./hop.js";

/** The largest header section that is read, in bytes. */
export const MAX_HEADER_BYTES = 64 * 1024;
/** Requests that a client may send on one connection before the answer to the first. */
const MAX_PIPELINED = 16;

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

/** An HTTP server that checks requests before it serves them. */
export class Front {
  readonly #options: FrontOptions;
  readonly #server: Server;
  #reached: Reached;
  /** Requests that wait for the answers to earlier ones on their connection. */
  readonly #ahead = new WeakMap<Socket, Array<() => void>>();

  constructor(options: FrontOptions) {
    this.#options = options;
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
    });
    // By default Node drops fields beyond a number, the body's length among them.
    this.#server.maxHeadersCount = 0;
    this.#server.maxConnections = connections;
    const take = (isAwaited: boolean) => (request: IncomingMessage, response: ServerResponse) =>
      this.#take(request, response, isAwaited);
    this.#server
      .on("request", take(false))
      .on("checkContinue", take(true))
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

  /** Accepts no more requests, waits for running ones for at most `graceMs` ms, then closes their connections. */
  async close(graceMs: number): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => this.#server.closeAllConnections(), graceMs);
    await closed;
    clearTimeout(timer);
  }

  #take(request: IncomingMessage, response: ServerResponse, isAwaited: boolean): void {
    const { serve, refuse, warn } = this.#options;
    // `close` follows and ends the request; without a handler the error would end the process.
    request.on("error", () => {});
    response.on("error", () => {});
    const why = refusal(request.url ?? "", request.rawHeaders, this.#reached);
    // RFC 9112 section 6.1: HTTP/1.0 has no chunks, so the sender may frame the body in another way.
    const isOld = request.httpVersion === "1.0" && request.headers["transfer-encoding"] !== undefined;
    const framed = isOld ? undefined : framing(request.rawHeaders);
    if (why) {
      warn(`a request was refused: ${why}`);
      // Its body is not read, so the connection cannot be reused.
      response.setHeader("connection", "close");
      refuse(response, 403, `refused: ${why}`);
    } else if (!framed) {
      response.setHeader("connection", "close");
      refuse(response, 400, "refused: it does not say for certain where its body ends");
    } else this.#inTurn(request.socket, response, () => serve(request, response, framed, isAwaited));
  }

  /**
   * Serves the requests of one connection one after another. Requests of a closed connection are not served.
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
    } else if (ahead.push(run) > MAX_PIPELINED) socket.destroy();
  }
}
