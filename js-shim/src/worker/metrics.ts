/** Serves `/metrics` while this process owns the journal, where the setting `metricsPort` asks for it. */

import { reason } from "../base/promises.js";
import type { MetricsServer } from "../proxy/metrics-server.js";
import type { Log } from "./pipeline.js";

/** Interval of looking at the settings and the journal's owner, in ms. */
const LOOK_EVERY_MS = 1_000;
/** Pause after a port was found taken, in ms. */
const TAKEN_PAUSE_MS = 5_000;

/** The functions of the pipeline that are called. */
export interface MetricsHost {
  /** The wanted port; undefined where nothing is to be served, or another process owns the journal. */
  port(): number | undefined;
  /** The text of an answer. */
  text(): string | undefined;
  log: Log;
  /** ms of the monotonic clock. */
  mono(): number;
}

/** Whether and where metrics are served, for the status. */
export interface MetricsStatus {
  url?: string;
  problem?: string;
}

let serving: Promise<typeof import("../proxy/metrics-server.js")> | undefined;

/**
 * Loads the server. A worker loads it as soon as a port is set: it may serve much later, when it takes the journal over, and
 * an update may remove the package's files before.
 */
export function loadServer(): Promise<typeof import("../proxy/metrics-server.js")> {
  serving ??= import("../proxy/metrics-server.js").catch((error) => {
    // The next attempt may find the file again.
    serving = undefined;
    throw error;
  });
  return serving;
}

/** Opens and closes the server. */
export class Metrics {
  readonly #host: MetricsHost;
  #timer: NodeJS.Timeout | undefined;
  #server: MetricsServer | undefined;
  #port: number | undefined;
  #url: string | undefined;
  #problem: string | undefined;
  /** Number of attempts that failed in turn. */
  #failures = 0;
  #notBefore = 0;
  #looking: Promise<void> | undefined;
  #isClosed = false;

  constructor(host: MetricsHost) {
    this.#host = host;
  }

  /** Looks now, and once in a while from now on. */
  start(): void {
    this.#timer ??= setInterval(() => this.look(), LOOK_EVERY_MS).unref();
    this.look();
  }

  /** Opens, moves or closes the server as settings and ownership say. */
  look(): void {
    this.#looking ??= this.#follow().finally(() => {
      this.#looking = undefined;
    });
  }

  /** Whether and where metrics are served; undefined where nothing asks for them. */
  status(): MetricsStatus | undefined {
    if (this.#url !== undefined) return { url: this.#url };
    return this.#problem === undefined ? undefined : { problem: this.#problem };
  }

  /** Ends the server. The port is free afterwards. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#looking;
    await this.#shut();
  }

  async #follow(): Promise<void> {
    const port = this.#isClosed ? undefined : this.#host.port();
    if (port !== this.#port) {
      await this.#shut();
      this.#port = port;
    }
    if (port !== undefined && !this.#server && this.#host.mono() >= this.#notBefore) await this.#listen(port);
  }

  async #listen(port: number): Promise<void> {
    const { text, log, mono } = this.#host;
    try {
      const { MetricsServer } = await loadServer();
      const server = new MetricsServer({ port, text, warn: (said) => log.warn(said), mono });
      this.#url = await server.listen();
      this.#server = server;
      this.#problem = undefined;
      this.#failures = 0;
      log.info(`metrics for Prometheus: ${this.#url}`);
    } catch (error) {
      const problem = reason(error);
      this.#failures += 1;
      // The former instance of the plugin may need a moment to free the port.
      if (this.#failures === 1) return;
      this.#notBefore = mono() + TAKEN_PAUSE_MS;
      if (problem === this.#problem) return;
      this.#problem = problem;
      log.warn(`${problem}; metrics are not served until then, and everything else goes on`);
    }
  }

  async #shut(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#url = undefined;
    this.#problem = undefined;
    this.#failures = 0;
    this.#notBefore = 0;
    await server?.close(0);
  }
}
