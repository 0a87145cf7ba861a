import { createHash, generateKeyPairSync, randomUUID, sign } from "node:crypto";

const SCOPES = ["operator.read", "operator.write", "operator.admin"];

/** An error that the gateway answered with. */
export class RpcError extends Error {
  /** @param {string} method @param {any} error */
  constructor(method, error) {
    super(`${method}: ${error?.message ?? JSON.stringify(error)}`);
    this.name = "RpcError";
    this.code = error?.code;
    this.retryable = error?.retryable === true;
  }
}

/** @typedef {Awaited<ReturnType<typeof connect>>} RpcClient */
/** @typedef {{ event: string, payload: any }} GatewayEvent */

/** The event of {@link connect} itself for a closed connection: no more events of what was asked on it will come. */
export const CLOSED = "connection.closed";

/**
 * The gateway's WebSocket, as its own clients use it: a challenge, a signed device, then requests and events.
 *
 * @param {{ url: string, token: string }} options
 */
export async function connect({ url, token }) {
  const socket = new WebSocket(url);
  /** @type {Map<string, { method: string, accepts: (payload: any) => boolean, resolve: (value: any) => void, reject: (error: Error) => void }>} */
  const pending = new Map();
  /** @type {Set<(event: GatewayEvent) => void>} */
  const listeners = new Set();

  const challenged = new Promise((resolve, reject) => {
    listeners.add(({ event, payload }) => event === "connect.challenge" && resolve(payload.nonce));
    socket.addEventListener("close", () => reject(new Error(`gateway closed the WebSocket ${url}`)));
    socket.addEventListener("error", () => reject(new Error(`no WebSocket at ${url}`)));
  });
  socket.addEventListener("close", () => {
    for (const { method, reject } of pending.values())
      reject(new Error(`${method}: the gateway closed the connection`));
    pending.clear();
    tell({ event: CLOSED, payload: {} });
  });
  socket.addEventListener("message", ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.type === "event") tell(frame);
    else if (frame.type === "res") settle(frame);
  });

  /** @param {GatewayEvent} event */
  function tell(event) {
    for (const listener of [...listeners]) listener(event);
  }

  /** @param {any} frame */
  function settle(frame) {
    const call = pending.get(frame.id);
    if (!call || (frame.ok && !call.accepts(frame.payload))) return;
    pending.delete(frame.id);
    if (frame.ok) call.resolve(frame.payload);
    else call.reject(new RpcError(call.method, frame.error));
  }

  /**
   * @param {string} method
   * @param {object} [params]
   * @param {(payload: any) => boolean} [accepts] Which of several answers ends the call (default: the first).
   * @returns {Promise<any>}
   */
  function rpc(method, params = {}, accepts = () => true) {
    const id = randomUUID();
    return new Promise((resolve, reject) => {
      // A closed socket takes what is sent, and says nothing.
      if (socket.readyState !== WebSocket.OPEN)
        return reject(new Error(`${method}: the connection is closed`));
      pending.set(id, { method, accepts, resolve, reject });
      socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  }

  try {
    await rpc("connect", hello(token, await challenged));
  } catch (error) {
    socket.close();
    throw error;
  }
  return {
    rpc,
    isOpen: () => socket.readyState === WebSocket.OPEN,
    /** Calls back for every event; returns what ends it. @param {(event: GatewayEvent) => void} listener */
    onEvent: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => socket.close(),
  };
}

/**
 * @param {string} token
 * @param {string} nonce
 */
function hello(token, nonce) {
  return {
    minProtocol: 3,
    maxProtocol: 4,
    client: { id: "gateway-client", version: "1.0.0", platform: process.platform, mode: "backend" },
    role: "operator",
    scopes: SCOPES,
    auth: { token },
    device: device(token, nonce),
    caps: ["tool-events"],
  };
}

/**
 * A device identity of its own per connection. Without one 2026.3.13 takes the scopes away.
 *
 * @param {string} token
 * @param {string} nonce
 */
function device(token, nonce) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  const id = createHash("sha256").update(raw).digest("hex");
  const signedAt = Date.now();
  const text = [
    "v2",
    id,
    "gateway-client",
    "backend",
    "operator",
    SCOPES.join(","),
    signedAt,
    token,
    nonce,
  ].join("|");
  const signature = sign(null, Buffer.from(text), privateKey).toString("base64url");
  return { id, publicKey: raw.toString("base64url"), signedAt, nonce, signature };
}

/**
 * A client that connects again where the gateway has closed the connection: 2026.3.13 does when it loads itself again. What
 * was asked before that fails; who listens to events gets {@link CLOSED}, and then those of the next connection.
 *
 * @param {RpcClient} first
 * @param {{ url: string, token: string }} options
 * @returns {Pick<RpcClient, "rpc" | "onEvent" | "close">}
 */
export function steady(first, options) {
  let current = first;
  /** @type {Promise<RpcClient> | undefined} */
  let connecting;
  /** @type {Set<(event: GatewayEvent) => void>} */
  const listeners = new Set();
  const follow = (/** @type {RpcClient} */ client) => {
    client.onEvent((event) => {
      for (const listener of [...listeners]) listener(event);
    });
    return client;
  };
  follow(first);
  const opened = async () => {
    if (current.isOpen()) return current;
    connecting ??= connect(options)
      .then(follow)
      .finally(() => {
        connecting = undefined;
      });
    current = await connecting;
    return current;
  };
  return {
    rpc: async (method, params, accepts) => (await opened()).rpc(method, params, accepts),
    onEvent: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => current.close(),
  };
}
