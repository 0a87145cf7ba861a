/**
 * Forwards one request and its answer: every byte unchanged and without delay, at the pace of the slower side. When one side
 * closes its connection, the other side's is closed at once.
 */

import {
  type ClientRequest,
  Agent as HttpAgent,
  type IncomingMessage,
  request as requestHttp,
  type ServerResponse,
} from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { isIP, type Socket } from "node:net";
import { environmentProxies } from "../plugin/env.js";
import { MAX_HEADER_BYTES } from "./front.js";
import { endToEnd, type Framing, framing, pairs, type RawHeaders, trailing } from "./hop.js";
import type { Ending } from "./reading.js";

/** How long a connection to an upstream may take to open, TLS included, in ms. */
const CONNECT_WITHIN_MS = 10_000;
const METHODS_WITH_BODY = new Set(["POST", "PUT", "PATCH"]);

/**
 * How long a connection may be idle before it is closed here, in ms. A request on a connection that the upstream closes at
 * that moment fails, and the proxy must not repeat it. Local model servers close idle connections after 5 s (uvicorn)
 * without announcing it; servers behind `https:` wait for a minute at least.
 */
const IDLE_MS = { "http:": 4_000, "https:": 55_000 };

/** An origin, with a pool of connections. */
export class Origin {
  readonly url: URL;
  readonly #agent: HttpAgent;
  readonly #silentMs: number;

  /** @param silentMs how long the upstream may send nothing during a request, in ms */
  constructor(url: URL, silentMs: number) {
    this.url = url;
    this.#silentMs = silentMs;
    const isSecure = url.protocol === "https:";
    const options = { keepAlive: true, timeout: IDLE_MS[isSecure ? "https:" : "http:"] };
    // Only Node's own agent finds the variables of an HTTP proxy by itself.
    const proxyEnv = environmentProxies();
    this.#agent = isSecure
      ? new HttpsAgent({ ...options, ...(proxyEnv && { proxyEnv }) })
      : new HttpAgent(options);
  }

  /** Makes a request; nothing is sent yet. */
  request(method: string, path: string, headers: RawHeaders): ClientRequest {
    const hostname = this.url.hostname.replace(/^\[|\]$/g, "");
    const isSecure = this.url.protocol === "https:";
    const request = (isSecure ? requestHttps : requestHttp)({
      hostname,
      port: this.url.port || (isSecure ? 443 : 80),
      ...(isSecure ? { servername: isIP(hostname) ? "" : hostname } : {}),
      method,
      path,
      headers: ["Host", this.url.host, ...headers],
      agent: this.#agent,
      maxHeaderSize: MAX_HEADER_BYTES,
      // Overrides Node's command-line option.
      insecureHTTPParser: false,
      timeout: this.#silentMs,
    });
    // By default Node drops fields beyond a number.
    request.maxHeadersCount = 0;
    request.on("timeout", () => {
      const error = new Error(`no data for ${Math.ceil(this.#silentMs / 60_000)} min`);
      request.destroy(Object.assign(error, { code: "ETIMEDOUT" }));
    });
    request.on("socket", (socket) => limitConnecting(request, socket, isSecure));
    return request;
  }

  /** Closes idle connections. */
  close(): void {
    this.#agent.destroy();
  }
}

function limitConnecting(request: ClientRequest, socket: Socket, isSecure: boolean): void {
  if (!socket.connecting) return;
  const timer = setTimeout(() => {
    const error = new Error(`no connection within ${CONNECT_WITHIN_MS / 1000} s`);
    request.destroy(Object.assign(error, { code: "ETIMEDOUT" }));
  }, CONNECT_WITHIN_MS);
  const stop = () => clearTimeout(timer);
  socket.once(isSecure ? "secureConnect" : "connect", stop);
  request.once("close", stop);
}

/** Callbacks beside the streams; they must not throw. */
export interface Listener {
  /** Bytes of the request pass. */
  request(bytes: Uint8Array): void;
  /** The request was sent, or never will be: its body is no longer in memory. */
  sent(): void;
  /** The answer begins. */
  answer(answer: IncomingMessage): void;
  /** Bytes of the answer pass. */
  bytes(bytes: Uint8Array): void;
  /** The answer's last byte came, or none will. `error` is set where no answer began. */
  over(ending: Ending, error?: Error): void;
}

/** One request and its target. */
export interface Passage {
  origin: Origin;
  path: string;
  request: IncomingMessage;
  response: ServerResponse;
  /** Whether the client waits for `100 Continue` before it sends its body. */
  isAwaited: boolean;
  /** The framing of the request's body. */
  framing: Framing;
  /** The changed body; without it the request's own is forwarded. Cleared once it is written. */
  body: readonly Uint8Array[] | undefined;
  listener: Listener;
}

/** Forwards a request. */
export function forward(passage: Passage): void {
  const { origin, path, request, response, listener } = passage;
  const outgoing = origin.request(request.method ?? "GET", path, requestHeaders(passage));
  let answer: IncomingMessage | undefined;
  let isCut = false;
  let isOver = false;
  const over = (ending: Ending, error?: Error) => {
    if (isOver) return;
    isOver = true;
    listener.over(ending, error);
  };
  // The client must not take an answer that broke off for a complete one.
  const cut = () => {
    isCut = true;
    response.destroy();
  };
  outgoing.on("response", (incoming) => {
    if (framing(incoming.rawHeaders) === undefined) {
      outgoing.destroy(new Error("its answer does not say for certain where its body ends"));
      return;
    }
    answer = incoming;
    incoming.on("error", cut).on("close", () => {
      if (!incoming.complete) cut();
    });
    // An upstream that has answered may read the rest of this request as another request.
    incoming.on("end", () => {
      if (!outgoing.writableFinished) outgoing.destroy();
    });
    try {
      sendBack(passage, incoming, over);
    } catch {
      // Node's parser accepts some answers that Node refuses to write, such as a status of 99.
      cut();
    }
  });
  // One is enough: an upstream may send any number of them.
  outgoing.once("continue", () => {
    if (passage.isAwaited) response.writeContinue();
  });
  outgoing.on("information", (information) => sendInformation(response, information));
  outgoing.on("finish", () => listener.sent());
  outgoing.on("error", (error) => {
    if (!answer) over("cut", error);
    // An upstream may close after its complete answer without having read the whole request.
    else if (!answer.complete) cut();
  });
  // A client that is still sending does not read the answer: the rest of its body is read and dropped.
  outgoing.on("close", () => {
    listener.sent();
    // Its own listener of this event comes later, and would pause it.
    request.unpipe(outgoing).resume();
    // When an upstream switches protocols without being asked, Node closes the request without an error.
    if (!answer) over("cut", new Error("the connection ended without an answer"));
  });
  // The client closed within its body: the forwarded request would never end.
  request.on("close", () => {
    if (!request.complete) outgoing.destroy();
  });
  response.on("close", () => {
    if (!response.writableFinished) outgoing.destroy();
    over(isCut ? "cut" : "left");
  });
  sendBody(passage, outgoing);
}

/** Headers of the forwarded request. They frame every body: Node itself frames none for methods that usually have none. */
function requestHeaders({ request, framing, isAwaited, body }: Passage): RawHeaders {
  const headers = endToEnd(request.rawHeaders, ["host", "expect", "content-length", "trailer"]);
  if (body) headers.push("Content-Length", String(body.reduce((sum, bytes) => sum + bytes.length, 0)));
  else if (framing.by === "length") headers.push("Content-Length", String(framing.length));
  else if (framing.by === "chunks") headers.push("Transfer-Encoding", "chunked");
  // Without it Node would send `Transfer-Encoding: chunked` for a request without a body.
  else if (METHODS_WITH_BODY.has(request.method ?? "")) headers.push("Content-Length", "0");
  if (isAwaited && !body && framing.by !== "nothing") headers.push("Expect", "100-continue");
  if (/\btrailers\b/i.test(String(request.headers.te ?? ""))) headers.push("TE", "trailers");
  return headers;
}

function sendBody(passage: Passage, outgoing: ClientRequest): void {
  const { request, framing, body, isAwaited, listener } = passage;
  if (body) {
    passage.body = undefined;
    for (const bytes of body) outgoing.write(bytes);
    outgoing.end();
    return;
  }
  if (framing.by === "nothing") {
    // Bytes without framing are no body: they are read and dropped.
    request.resume();
    outgoing.end();
    return;
  }
  // The client waits for the upstream's `100 Continue`, so the headers go before the first byte of the body.
  if (isAwaited) outgoing.flushHeaders();
  request.on("data", (bytes: Buffer) => listener.request(bytes));
  request.pipe(outgoing);
}

function sendBack(
  { request, response, isAwaited, listener }: Passage,
  answer: IncomingMessage,
  over: (ending: Ending) => void,
): void {
  listener.answer(answer);
  const hasTrailers =
    answer.headers["transfer-encoding"] !== undefined &&
    request.httpVersion === "1.1" &&
    request.method !== "HEAD";
  const headers = endToEnd(answer.rawHeaders, hasTrailers ? [] : ["trailer"]);
  // A client that got no `100 Continue` may still send its body, so the connection cannot be reused.
  if (isAwaited && !request.complete) headers.push("Connection", "close");
  response.sendDate = false;
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? "", headers);
  // Sent at once, since the first byte may come late. Node would flush headers that are not ASCII in another encoding.
  if (headers.every((text) => /^[\x20-\x7e\t]*$/.test(text))) response.flushHeaders();
  answer.on("data", (bytes: Buffer) => listener.bytes(bytes));
  answer.on("end", () => {
    if (hasTrailers && answer.rawTrailers.length > 0) response.addTrailers(trailing(answer.rawTrailers));
    if (answer.complete) over("whole");
  });
  answer.pipe(response);
}

/** A link that Node writes. Node's own check of others takes a time that grows exponentially with their parameters. */
const LINK = /^<[^>]*>(?: ?; ?[a-zA-Z-]+(?:=(?:"[^;"=\s]*"|[^;"=\s]*))?)*$/;

function sendInformation(
  response: ServerResponse,
  information: { statusCode: number; rawHeaders: string[] },
): void {
  // An upstream may send any number of them. They are dropped while the client does not read.
  if (response.headersSent || response.socket?.writableNeedDrain) return;
  if (information.statusCode === 102) response.writeProcessing();
  if (information.statusCode !== 103) return;
  const hints = new Map<string, string[]>();
  for (const [name, value] of pairs(endToEnd(information.rawHeaders, ["content-length"]))) {
    const key = name.toLowerCase();
    if (key === "link" && !LINK.test(value)) return;
    const values = hints.get(key);
    if (values) values.push(value);
    else hints.set(key, [value]);
  }
  try {
    response.writeEarlyHints(Object.fromEntries(hints));
  } catch {
    // Node refuses malformed hints, which may be dropped.
  }
}
