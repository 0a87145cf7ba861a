/** The server of `/metrics` on the loopback interface, in Prometheus' text format. */

import type { IncomingMessage, ServerResponse } from "node:http";
import { reason } from "../base/promises.js";
import { SettingError } from "../commands/listen.js";
import { type Bounds, Front } from "./front.js";
import { rateLimited } from "./rate-limit.js";

/** The options of the server. */
export interface MetricsOptions {
  port: number;
  /** Bounds that differ from the defaults. */
  bounds?: Partial<Bounds> | undefined;
  /** The text of an answer; undefined while there is none. */
  text(): string | undefined;
  warn(text: string): void;
  /** ms of the monotonic clock. */
  mono(): number;
}

/** The loopback interface alone: metrics name agents, models and costs, and a scrape has no token. */
const HOST = "127.0.0.1";
const PATH = "/metrics";
/** Prometheus asks every 15 to 60 seconds, on the same connection. */
const BOUNDS: Bounds = { connections: 16, headersMs: 5_000, requestMs: 10_000, idleMs: 120_000 };

/** One server. */
export class MetricsServer {
  readonly #options: MetricsOptions;
  readonly #front: Front;

  constructor(options: MetricsOptions) {
    this.#options = options;
    this.#front = new Front({
      ...{ host: HOST, port: options.port, hosts: [] },
      bounds: { ...BOUNDS, ...options.bounds },
      isFixed: true,
      isBackground: true,
      warn: rateLimited((text) => options.warn(`metrics: ${text}`), options.mono),
      serve: (request, response) => this.#serve(request, response),
      refuse: (response, status, why) => {
        reply(response, status, why);
        response.req.resume();
      },
    });
  }

  /**
   * Listens.
   *
   * @returns the address of the metrics
   * @throws SettingError where the port is in use or not allowed
   */
  async listen(): Promise<string> {
    try {
      const { port } = await this.#front.listen();
      return `http://${HOST}:${port}${PATH}`;
    } catch (error) {
      throw this.#explained(error as Error);
    }
  }

  /** Accepts no more requests, and waits for running ones for at most `graceMs` ms. */
  close(graceMs: number): Promise<void> {
    return this.#front.close(graceMs);
  }

  #explained(error: Error): SettingError {
    const { port } = this.#options;
    const { code } = (error.cause ?? {}) as NodeJS.ErrnoException;
    switch (code) {
      case "EADDRINUSE":
        return new SettingError(
          `metricsPort ${port}: another gateway or program listens on ${HOST}:${port}; set another port`,
        );
      case "EACCES":
        return new SettingError(`metricsPort ${port}: this user may not listen on it; set a port above 1023`);
      default:
        return new SettingError(`metricsPort ${port}: ${reason(error.cause ?? error)}; set another port`);
    }
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const { method, url = "" } = request;
    if (url.split("?")[0] !== PATH) return reply(response, 404, `metrics are at ${PATH}`);
    if (method !== "GET" && method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      return reply(response, 405, "metrics are read with GET");
    }
    const text = this.#options.text();
    if (text === undefined) return reply(response, 503, "the plugin does not count: see its log");
    reply(response, 200, text, "text/plain; version=0.0.4; charset=utf-8");
  }
}

function reply(
  response: ServerResponse,
  status: number,
  text: string,
  type = "text/plain; charset=utf-8",
): void {
  if (response.destroyed) return;
  const body = text.endsWith("\n") ? text : `${text}\n`;
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) }).end(body);
}
