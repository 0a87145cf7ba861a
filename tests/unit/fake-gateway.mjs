import { createHash, createPublicKey, randomUUID, verify } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";

const ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/**
 * An unmasked frame of a server.
 *
 * @param {string | Buffer} body
 * @param {{ code?: number, isLast?: boolean }} [options]
 */
export function frame(body, { code = 1, isLast = true } = {}) {
  const bytes = Buffer.from(body);
  const header = Buffer.alloc(bytes.length < 126 ? 2 : bytes.length < 65_536 ? 4 : 10);
  header[0] = (isLast ? 0x80 : 0) | code;
  header[1] = bytes.length < 126 ? bytes.length : bytes.length < 65_536 ? 126 : 127;
  if (header.length === 4) header.writeUInt16BE(bytes.length, 2);
  if (header.length === 10) header.writeBigUInt64BE(BigInt(bytes.length), 2);
  return Buffer.concat([header, bytes]);
}

/**
 * Parses a client's frames; an incomplete one is left out.
 *
 * @param {Buffer} bytes
 */
function framesOf(bytes) {
  const frames = [];
  for (;;) {
    const short = (bytes[1] ?? 0) & 0x7f;
    const start = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (bytes.length < start + 4) break;
    const size =
      short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
    if (bytes.length < start + 4 + size) break;
    const mask = bytes.subarray(start, start + 4);
    const body = Buffer.from(bytes.subarray(start + 4, start + 4 + size));
    for (let at = 0; at < size; at += 1) body[at] = (body[at] ?? 0) ^ (mask[at & 3] ?? 0);
    frames.push({ code: (bytes[0] ?? 0) & 0x0f, isMasked: ((bytes[1] ?? 0) & 0x80) !== 0, body });
    bytes = bytes.subarray(start + 4 + size);
  }
  return { frames, rest: bytes };
}

/**
 * A gateway for tests: it sends a challenge, checks the device's signature, and answers with `options.answer`.
 *
 * @param {object} options
 * @param {(method: string, params: any) => any} [options.answer] Returns a payload, or throws the error.
 * @param {(socket: import("node:net").Socket) => void} [options.raw] Gets the socket after the upgrade.
 * @param {{ key: string, cert: string }} [options.tls]
 * @param {number} [options.status] HTTP status in place of the upgrade.
 */
export async function startFakeGateway({ answer = () => ({}), raw, tls, status } = {}) {
  /** @type {Set<import("node:stream").Duplex>} */
  const sockets = new Set();
  /** @type {{ method: string, params: any }[]} */
  const asked = [];
  /** @type {{ code: number, isMasked: boolean, body: Buffer }[]} */
  const heard = [];
  const server = tls ? createTlsServer(tls) : createServer();
  server.on("request", (_, response) => response.writeHead(404).end());
  server.on("upgrade", (request, socket) => {
    socket.on("error", () => {});
    if (status) return void socket.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`);
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    const accept = createHash("sha1")
      .update(`${request.headers["sec-websocket-key"]}${ACCEPT}`)
      .digest("base64");
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`,
    );
    if (raw) raw(/** @type {import("node:net").Socket} */ (socket));
    const nonce = randomUUID();
    if (!raw)
      send(socket, { type: "event", event: "connect.challenge", payload: { nonce, ts: 1_795_000_000_000 } });
    let bytes = Buffer.alloc(0);
    socket.on("data", (/** @type {Buffer} */ chunk) => {
      const { frames, rest } = framesOf(Buffer.concat([bytes, chunk]));
      bytes = Buffer.from(rest);
      heard.push(...frames);
      if (!raw) for (const { body } of frames) respond(socket, nonce, JSON.parse(body.toString()));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());

  /** @param {import("node:stream").Duplex} socket @param {unknown} value */
  const send = (socket, value) => socket.write(frame(JSON.stringify(value)));

  /** @param {import("node:stream").Duplex} socket @param {string} nonce @param {any} request */
  function respond(socket, nonce, { id, method, params }) {
    asked.push({ method, params });
    try {
      if (method === "connect") assertSigned(params, nonce);
      const hello =
        method === "connect" ? { server: { version: "2026.9.6" }, policy: { tickIntervalMs: 30_000 } } : {};
      send(socket, { type: "res", id, ok: true, payload: { ...hello, ...answer(method, params) } });
    } catch (error) {
      send(socket, { type: "res", id, ok: false, error });
    }
  }

  return {
    url: `${tls ? "wss" : "ws"}://127.0.0.1:${port}`,
    port,
    asked,
    heard,
    /** @param {string} event @param {object} payload */
    tell: (event, payload) => {
      for (const socket of sockets) send(socket, { type: "event", event, payload });
    },
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Checks the device as a gateway does. @param {any} params @param {string} nonce */
function assertSigned({ device, client, role, scopes, auth }, nonce) {
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: device.publicKey }, format: "jwk" });
  const id = createHash("sha256").update(Buffer.from(device.publicKey, "base64url")).digest("hex");
  const words = [
    "v2",
    id,
    client.id,
    client.mode,
    role,
    scopes.join(","),
    device.signedAt,
    auth.token ?? "",
    nonce,
  ];
  const isRight = verify(null, Buffer.from(words.join("|")), key, Buffer.from(device.signature, "base64url"));
  if (!isRight || device.id !== id || device.nonce !== nonce)
    throw {
      code: "INVALID_REQUEST",
      message: "device signature invalid",
      details: { code: "DEVICE_AUTH_SIGNATURE_INVALID" },
    };
}
