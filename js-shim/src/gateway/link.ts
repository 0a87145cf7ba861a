/**
 * A connection to a gateway, in the protocol of OpenClaw's clients: challenge, signed device, then requests and events.
 */

import { randomUUID } from "node:crypto";
import type { Device } from "../commands/gateway-device.js";
import type { GatewayAddress } from "./address.js";
import { FingerprintError, type GatewaySocket, openSocket } from "./socket.js";

/** Requested scopes: read only. */
export const SCOPES = ["operator.read"] as const;
const CLIENT = { id: "gateway-client", mode: "backend", role: "operator" } as const;
/** Supported protocol versions: OpenClaw 2026.3 has 3, 2026.5 and later have 4. */
export const PROTOCOL = { min: 3, max: 4 } as const;
/** The largest message, in bytes. A gateway's own limit is 25 MiB. */
const MAX_MESSAGE = 26 * 1024 * 1024;
const CONNECT_TIMEOUT_MS = 15_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** Default interval of a gateway's `tick` events, in ms. */
const TICK_MS = 30_000;

/** Credentials for a gateway: at least one, unless the gateway's authentication is off. */
export interface Credentials {
  token: string | undefined;
  password: string | undefined;
}

/** An event of the gateway. */
export interface GatewayEvent {
  event: string;
  payload: Record<string, unknown>;
}

/** The answer to a request. */
export interface GatewayAnswer {
  payload: Record<string, unknown>;
  /** The whole frame, as JSON text. */
  text: string;
}

/** An error answer of a gateway. */
export class Refusal extends Error {
  override name = "Refusal";
  readonly method: string;
  /** The most specific error code, such as `AUTH_TOKEN_MISMATCH`. */
  readonly code: string;
  readonly details: Record<string, unknown>;
  readonly isRetryable: boolean;
  readonly retryAfterMs: number | undefined;

  constructor(method: string, error: Record<string, unknown>) {
    super(typeof error.message === "string" ? error.message.slice(0, 300) : "no reason told");
    this.method = method;
    this.details = asObject(error.details);
    this.code = String(this.details.code ?? error.code ?? "");
    this.isRetryable = error.retryable === true;
    this.retryAfterMs = typeof error.retryAfterMs === "number" ? error.retryAfterMs : undefined;
  }
}

/** The connection failed or was lost. `code` is the network's error code, or empty. */
export class ConnectionError extends Error {
  override name = "ConnectionError";
  readonly code: string;

  constructor(error: unknown) {
    const { code, message } = error as NodeJS.ErrnoException;
    super(message || code || "no answer");
    this.code = code ?? "";
  }
}

interface Pending {
  method: string;
  resolve(answer: GatewayAnswer): void;
  reject(error: Error): void;
  timer: NodeJS.Timeout;
}

/** An open connection. */
export class GatewayLink {
  readonly #pending = new Map<string, Pending>();
  readonly #onEvent: (event: GatewayEvent) => void;
  readonly #onClosed: (why: string) => void;
  #socket: GatewaySocket | undefined;
  #isOver = false;
  #heardAt = performance.now();
  #watchdog: NodeJS.Timeout | undefined;
  #challenged: ((payload: Record<string, unknown>) => void) | undefined;
  /** The gateway's version; empty if unknown. */
  version = "";

  private constructor(onEvent: (event: GatewayEvent) => void, onClosed: (why: string) => void) {
    this.#onEvent = onEvent;
    this.#onClosed = onClosed;
  }

  /**
   * Connects and authenticates.
   *
   * @param version name and version of this client
   * @throws ConnectionError, Refusal or FingerprintError
   */
  static async open(
    address: GatewayAddress,
    device: Device,
    credentials: Credentials,
    version: string,
    onEvent: (event: GatewayEvent) => void,
    onClosed: (why: string) => void,
  ): Promise<GatewayLink> {
    const link = new GatewayLink(onEvent, onClosed);
    try {
      await link.#open(address, device, credentials, version);
      return link;
    } catch (error) {
      link.close();
      if (error instanceof Refusal || error instanceof FingerprintError) throw error;
      throw error instanceof ConnectionError ? error : new ConnectionError(error);
    }
  }

  async #open(
    address: GatewayAddress,
    device: Device,
    credentials: Credentials,
    version: string,
  ): Promise<void> {
    const challenge = new Promise<Record<string, unknown>>((resolve, reject) => {
      this.#challenged = resolve;
      setTimeout(
        () => reject(new Error("it sent no challenge: it is no OpenClaw gateway")),
        CONNECT_TIMEOUT_MS,
      ).unref();
    });
    challenge.catch(() => {});
    const events = { text: (text: string) => this.#take(text), closed: (why: string) => this.#close(why) };
    this.#socket = await openSocket(address, events, MAX_MESSAGE, CONNECT_TIMEOUT_MS);
    const { nonce, ts } = await challenge;
    if (typeof nonce !== "string") throw new Error("its challenge has no nonce: it is no OpenClaw gateway");
    const signedAt = typeof ts === "number" && Number.isSafeInteger(ts) && ts >= 0 ? ts : Date.now();
    const { token, password } = credentials;
    const signed = { clientId: CLIENT.id, clientMode: CLIENT.mode, role: CLIENT.role, scopes: SCOPES };
    const { payload } = await this.request("connect", {
      minProtocol: PROTOCOL.min,
      maxProtocol: PROTOCOL.max,
      client: { id: CLIENT.id, mode: CLIENT.mode, version, platform: process.platform },
      role: CLIENT.role,
      scopes: SCOPES,
      caps: [],
      auth: { ...(token !== undefined && { token }), ...(password !== undefined && { password }) },
      device: device.prove({ ...signed, token: token ?? "", nonce, signedAt }),
    });
    this.version = String(asObject(payload.server).version ?? "");
    const { tickIntervalMs } = asObject(payload.policy);
    const tick = typeof tickIntervalMs === "number" && tickIntervalMs >= 1_000 ? tickIntervalMs : TICK_MS;
    this.#watchdog = setInterval(() => {
      if (performance.now() - this.#heardAt > 3 * tick) this.#close("it sends nothing any more");
    }, tick);
    this.#watchdog.unref();
  }

  /**
   * Sends a request.
   *
   * @throws Refusal, or ConnectionError if the connection is lost or the answer takes too long
   */
  request(method: string, params: Record<string, unknown>): Promise<GatewayAnswer> {
    const socket = this.#socket;
    if (this.#isOver || !socket) return Promise.reject(new ConnectionError(new Error("it is not connected")));
    const id = randomUUID();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        const problem = `${method} was not answered within ${REQUEST_TIMEOUT_MS / 1_000} s`;
        reject(new ConnectionError(new Error(problem)));
      }, REQUEST_TIMEOUT_MS);
      this.#pending.set(id, { method, resolve, reject, timer });
      socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  }

  /** Closes the connection without calling `onClosed`. */
  close(why = "it was ended"): void {
    this.#isOver = true;
    clearInterval(this.#watchdog);
    this.#socket?.close();
    this.#rejectPending(why);
  }

  #close(why: string): void {
    if (this.#isOver) return;
    this.close(why);
    this.#onClosed(why);
  }

  #rejectPending(why: string): void {
    for (const { method, reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new ConnectionError(new Error(`${method}: ${why}`)));
    }
    this.#pending.clear();
  }

  #take(text: string): void {
    this.#heardAt = performance.now();
    let frame: Record<string, unknown>;
    try {
      frame = asObject(JSON.parse(text));
    } catch {
      return this.#close("it sent a message that is no JSON");
    }
    if (frame.type === "event") {
      const payload = asObject(frame.payload);
      if (frame.event === "connect.challenge") this.#challenged?.(payload);
      else if (typeof frame.event === "string") this.#onEvent({ event: frame.event, payload });
    } else if (frame.type === "res" && typeof frame.id === "string") {
      const pending = this.#pending.get(frame.id);
      if (!pending) return;
      this.#pending.delete(frame.id);
      clearTimeout(pending.timer);
      if (frame.ok === true) pending.resolve({ payload: asObject(frame.payload), text });
      else pending.reject(new Refusal(pending.method, asObject(frame.error)));
    }
  }
}

/** Returns the value if it is an object, else an empty object. */
export function asObject(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}
