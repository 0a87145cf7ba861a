/**
 * Sends one request on and its answer back: every byte unchanged and as it comes, at the pace of the slower side. Who
 * goes away is known to the other side at once.
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
import { endToEnd, pairs, type RawHeaders } from "./hop.js";
import type { Ending } from "./reading.js";

/** How long a connection to an upstream may take, TLS included. */
const CONNECT_WITHIN_MS = 10_000;
const METHODS_WITH_BODY = new Set(["POST", "PUT", "PATCH"]);
/** The largest header section that passes, in bytes. */
export const MAX_HEADER_BYTES = 64 * 1024;

/**
 * How long a connection may lie idle before it is closed here, in ms. A request on a connection that the upstream
 * closes in that moment fails, and is not ours to repeat. Model servers on one's own machines close theirs after 5 s
 * (uvicorn) and do not say so; those behind `https:` wait for a minute at least.
 */
const IDLE_MS = { "http:": 4_000, "https:": 55_000 };

/** An origin, with the connections that are kept open to it. */
export class Origin {
  readonly url: URL;
  readonly #agent: HttpAgent;

  constructor(url: URL) {
    this.url = url;
    const isSecure = url.protocol === "https:";
    const options = { keepAlive: true, timeout: IDLE_MS[isSecure ? "https:" : "http:"] };
    this.#agent = isSecure ? new HttpsAgent(options) : new HttpAgent(options);
  }

  /** Begins a request; nothing is sent yet. */
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
    });
    request.on("socket", (socket) => limitConnecting(request, socket, isSecure));
    return request;
  }

  /** Closes what is idle. */
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

/** Who listens beside the streams; nobody here may throw. */
export interface Listener {
  /** Bytes of the request pass. */
  request(bytes: Uint8Array): void;
  /** The answer begins. */
  answer(answer: IncomingMessage): void;
  /** Bytes of the answer pass. */
  bytes(bytes: Uint8Array): void;
  /** The answer's last byte has come, or none will. `error` where no answer began. */
  over(ending: Ending, error?: Error): void;
}

/** One request and where it goes. */
export interface Passage {
  origin: Origin;
  path: string;
  request: IncomingMessage;
  response: ServerResponse;
  /** Whether the client waits for a word before it sends its body (`Expect: 100-continue`). */
  isAwaited: boolean;
  /** The body, where it was changed; else it is taken from the request. */
  body: readonly Uint8Array[] | undefined;
  listener: Listener;
}

/** Sends a request on. */
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
  // An answer that breaks off must break off at the client as well, and not end.
  const cut = () => {
    isCut = true;
    response.destroy();
  };
  outgoing.on("response", (incoming) => {
    answer = incoming;
    incoming.on("error", cut).on("close", () => {
      if (!incoming.complete) cut();
    });
    try {
      sendBack(passage, incoming, over);
    } catch {
      // Node's parser takes answers that its writer refuses, a status of 99 for one.
      cut();
    }
  });
  outgoing.on("continue", () => {
    if (passage.isAwaited) response.writeContinue();
  });
  outgoing.on("information", (information) => sendInformation(response, information));
  outgoing.on("error", (error) => {
    if (!answer) over("cut", error);
    // An upstream may close behind its whole answer without having read the whole request.
    else if (!answer.complete) cut();
  });
  // Who is still sending reads no answer: what is left of a body that nobody takes is let run.
  outgoing.on("close", () => {
    request.resume();
    // An upstream that switches protocols, which nobody asked for, is left by Node without a word.
    if (!answer) over("cut", new Error("the connection ended without an answer"));
  });
  response.on("close", () => {
    if (!response.writableFinished) outgoing.destroy();
    over(isCut ? "cut" : "left");
  });
  sendBody(passage, outgoing);
}

function requestHeaders({ request, isAwaited, body }: Passage): RawHeaders {
  const isChunked = request.headers["transfer-encoding"] !== undefined;
  const without = ["host", ...(isAwaited ? [] : ["expect"]), ...(isChunked ? [] : ["trailer"])];
  const headers = endToEnd(request.rawHeaders, body ? [...without, "content-length"] : without);
  if (body) headers.push("Content-Length", String(body.reduce((sum, bytes) => sum + bytes.length, 0)));
  else if (isChunked) headers.push("Transfer-Encoding", "chunked");
  // Else Node would announce a body of unknown length where there is none.
  else if (request.headers["content-length"] === undefined && METHODS_WITH_BODY.has(request.method ?? ""))
    headers.push("Content-Length", "0");
  if (/\btrailers\b/i.test(String(request.headers.te ?? ""))) headers.push("TE", "trailers");
  return headers;
}

function sendBody({ request, body, isAwaited, listener }: Passage, outgoing: ClientRequest): void {
  if (body) {
    for (const bytes of body) outgoing.write(bytes);
    outgoing.end();
    return;
  }
  // Else nothing would be sent before the client's first byte, for which it waits.
  if (isAwaited) outgoing.flushHeaders();
  request.on("data", (bytes: Buffer) => listener.request(bytes));
  request.on("end", () => {
    if (request.rawTrailers.length > 0) outgoing.addTrailers(pairs(request.rawTrailers));
  });
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
  // A client that was never told to send its body may or may not do so: the connection is of no more use.
  if (isAwaited && !request.complete) headers.push("Connection", "close");
  response.sendDate = false;
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? "", headers);
  // At once, since the first byte may be long in coming; but Node would flush what is not ASCII in another encoding.
  if (headers.every((text) => /^[\x20-\x7e\t]*$/.test(text))) response.flushHeaders();
  answer.on("data", (bytes: Buffer) => listener.bytes(bytes));
  answer.on("end", () => {
    if (hasTrailers && answer.rawTrailers.length > 0) response.addTrailers(pairs(answer.rawTrailers));
    if (answer.complete) over("whole");
  });
  answer.pipe(response);
}

function sendInformation(
  response: ServerResponse,
  information: { statusCode: number; rawHeaders: string[] },
): void {
  if (response.headersSent) return;
  if (information.statusCode === 102) response.writeProcessing();
  if (information.statusCode !== 103) return;
  const hints: Record<string, string[]> = {};
  for (const [name, value] of pairs(information.rawHeaders)) {
    const key = name.toLowerCase();
    hints[key] = [...(hints[key] ?? []), value];
  }
  try {
    response.writeEarlyHints(hints as Record<string, string | string[]>);
  } catch {
    // A hint that Node does not find well-formed is only a hint.
  }
}
