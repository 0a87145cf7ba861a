/**
 * A WebSocket client (RFC 6455) for text messages. Node's own client cannot pin a certificate or limit the size of a
 * message. This module reads no files and no environment.
 */

import { createHash, randomBytes } from "node:crypto";
import { request } from "node:http";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { type GatewayAddress, plainFingerprint } from "./address.js";

const ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const [CONTINUATION, TEXT, CLOSE, PING, PONG] = [0x0, 0x1, 0x8, 0x9, 0xa];
/** Memory that a fragment takes besides its bytes, in bytes. */
const FRAGMENT_COST = 128;
/** The largest control frame, in bytes. */
const MAX_CONTROL = 125;
/** Unsent bytes at which the connection is closed: requests are small, so the gateway has stopped reading. */
const MAX_UNSENT = 1024 * 1024;

/** The certificate is not the pinned one. */
export class FingerprintError extends Error {
  override name = "FingerprintError";
}

/** Callbacks of a socket. */
export interface SocketEvents {
  text(text: string): void;
  /** The connection was closed; called once. */
  closed(why: string): void;
}

/**
 * Opens a WebSocket.
 *
 * @param most maximum size of a received message, in bytes
 * @throws errors of the network with their `code`, and FingerprintError
 */
export async function openSocket(
  address: GatewayAddress,
  events: SocketEvents,
  most: number,
  timeoutMs: number,
): Promise<GatewaySocket> {
  const raw = await connected(address, timeoutMs);
  try {
    const head = await upgraded(address, raw, timeoutMs);
    return new GatewaySocket(raw, head, events, most);
  } catch (error) {
    raw.destroy();
    throw error;
  }
}

/** Opens a connection. With TLS it checks the certificate. */
function connected({ host, port, isTls, fingerprint }: GatewayAddress, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const servername = isIP(host) ? {} : { servername: host };
    // A pinned certificate needs neither a trusted authority nor a matching name.
    const socket = isTls
      ? connectTls({ host, port, ...servername, rejectUnauthorized: fingerprint === undefined })
      : connectTcp({ host, port });
    const timer = setTimeout(() => fail(timedOut("no connection", timeoutMs)), timeoutMs);
    const fail = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    socket.once("error", fail);
    socket.once(isTls ? "secureConnect" : "connect", () => {
      const other = fingerprint && otherFingerprint(socket as TLSSocket, fingerprint);
      if (other) return fail(new FingerprintError(other));
      clearTimeout(timer);
      socket.off("error", fail);
      resolve(socket);
    });
  });
}

function otherFingerprint(socket: TLSSocket, fingerprint: string): string | undefined {
  const shown = plainFingerprint(socket.getPeerCertificate().fingerprint256 ?? "");
  return shown === fingerprint ? undefined : shown || "none";
}

/** Upgrades the connection to a WebSocket. @returns the bytes behind the answer */
function upgraded({ url, host }: GatewayAddress, socket: Socket, timeoutMs: number): Promise<Buffer> {
  const key = randomBytes(16).toString("base64");
  const accepted = createHash("sha1")
    .update(key + ACCEPT)
    .digest("base64");
  return new Promise((resolve, reject) => {
    const asked = request({
      createConnection: () => socket,
      host,
      path: url.pathname,
      headers: {
        host: url.host,
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-key": key,
        "sec-websocket-version": "13",
      },
    });
    const timer = setTimeout(() => asked.destroy(timedOut("no WebSocket", timeoutMs)), timeoutMs);
    const end = (error: Error | undefined, head = Buffer.alloc(0)) => {
      clearTimeout(timer);
      if (error) reject(error);
      else resolve(head);
    };
    asked.once("error", end);
    asked.once("response", ({ statusCode }) => {
      end(new Error(`it is no WebSocket (HTTP ${statusCode})`));
      asked.destroy();
    });
    asked.once("upgrade", ({ headers }, _, head) => {
      const isRight = headers["sec-websocket-accept"] === accepted && !headers["sec-websocket-extensions"];
      end(isRight ? undefined : new Error("it answers as no WebSocket does"), head);
    });
    asked.end();
  });
}

function timedOut(what: string, ms: number): Error {
  return Object.assign(new Error(`${what} within ${ms / 1_000} s`), { code: "ETIMEDOUT" });
}

/** An open WebSocket. */
export class GatewaySocket {
  readonly #socket: Socket;
  readonly #events: SocketEvents;
  readonly #most: number;
  #chunks: Buffer[] = [];
  #size = 0;
  /** Number of bytes that the next step needs. */
  #needed = 2;
  #message: Buffer[] = [];
  #messageSize = 0;
  #isInMessage = false;
  #isOver = false;

  constructor(socket: Socket, head: Buffer, events: SocketEvents, most: number) {
    this.#socket = socket;
    this.#events = events;
    this.#most = most;
    socket.setNoDelay(true);
    socket.on("error", (error) => this.#end((error as NodeJS.ErrnoException).code ?? error.message));
    socket.on("close", () => this.#end("it was closed"));
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    // After the caller has the socket: the first bytes may hold a message.
    queueMicrotask(() => this.#take(head));
  }

  /** Sends a text. */
  send(text: string): void {
    this.#write(TEXT, Buffer.from(text));
  }

  /** Closes the connection without a call of `closed`. */
  close(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #end(why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#socket.destroy();
    this.#chunks = [];
    this.#message = [];
    this.#events.closed(why);
  }

  #take(chunk: Buffer): void {
    if (this.#isOver || chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#needed) return;
    let bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#size);
    for (let used = this.#frame(bytes); used > 0 && !this.#isOver; used = this.#frame(bytes))
      bytes = bytes.subarray(used);
    this.#chunks = bytes.length > 0 ? [bytes] : [];
    this.#size = bytes.length;
  }

  /** Reads one frame. @returns its length in bytes, or 0 where bytes are missing */
  #frame(bytes: Buffer): number {
    this.#needed = 2;
    if (bytes.length < 2) return 0;
    const [first = 0, second = 0] = bytes;
    const short = second & 0x7f;
    const header = short === 126 ? 4 : short === 127 ? 10 : 2;
    this.#needed = header;
    if (bytes.length < header) return 0;
    const size =
      short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
    const [isLast, code] = [(first & 0x80) !== 0, first & 0x0f];
    const isControl = code >= CLOSE;
    const fault =
      (first & 0x70) !== 0 || (second & 0x80) !== 0 || (isControl && (!isLast || size > MAX_CONTROL));
    if (fault) return this.#refuse("it sent an invalid frame");
    if (!isControl && this.#messageSize + size > this.#most)
      return this.#refuse(`it sent a message of more than ${Math.floor(this.#most / 1_048_576)} MiB`);
    this.#needed = header + size;
    if (bytes.length < this.#needed) return 0;
    const body = bytes.subarray(header, header + size);
    if (isControl) this.#control(code, body);
    else this.#data(code, body, isLast);
    this.#needed = 2;
    return header + size;
  }

  #control(code: number, body: Buffer): void {
    if (code === PING) this.#write(PONG, body);
    else if (code === CLOSE) {
      const why = body.length >= 2 ? `${body.readUInt16BE(0)} ${body.toString("utf8", 2)}`.trim() : "";
      this.#end(`it was closed${why && ` (${why})`}`);
    } else if (code !== PONG) this.#refuse("it sent an invalid frame");
  }

  #data(code: number, body: Buffer, isLast: boolean): void {
    const isExpected = this.#isInMessage ? code === CONTINUATION : code === TEXT;
    if (!isExpected) {
      this.#refuse("it sent a message that is no text");
      return;
    }
    this.#isInMessage = !isLast;
    if (!isLast) {
      // Copied, since later bytes may overwrite this memory.
      this.#message.push(Buffer.from(body));
      // An empty one takes memory too.
      this.#messageSize += body.length + FRAGMENT_COST;
      return;
    }
    const whole = this.#message.length > 0 ? Buffer.concat([...this.#message, body]) : body;
    [this.#message, this.#messageSize] = [[], 0];
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(whole);
    } catch {
      this.#refuse("it sent a message that is no text");
      return;
    }
    this.#events.text(text);
  }

  #refuse(why: string): number {
    this.#end(why);
    return 0;
  }

  #write(code: number, body: Buffer): void {
    if (this.#isOver) return;
    if (this.#socket.writableLength > MAX_UNSENT) return this.#end("it reads nothing any more");
    const { length } = body;
    const header = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
    header[0] = 0x80 | code;
    header[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
    if (header.length === 4) header.writeUInt16BE(length, 2);
    if (header.length === 10) header.writeBigUInt64BE(BigInt(length), 2);
    const mask = randomBytes(4);
    const masked = Buffer.from(body);
    for (let at = 0; at < length; at += 1) masked[at] = (masked[at] ?? 0) ^ (mask[at & 3] ?? 0);
    this.#socket.write(Buffer.concat([header, mask, masked]));
  }
}
