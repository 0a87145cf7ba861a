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
import { MAX_HEADER_BYTES } from "./front.js";
import { endToEnd, type Framing, framing, pairs, type RawHeaders, trailing } from "./hop.js";
import type { Ending } from "./reading.js";

/** How long a connection to an upstream may take, TLS included. */
const CONNECT_WITHIN_MS = 10_000;
const METHODS_WITH_BODY = new Set(["POST", "PUT", "PATCH"]);

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
  readonly #silentMs: number;

  /** `silentMs`: how long an upstream may be silent in the middle of a request, in ms. */
  constructor(url: URL, silentMs: number) {
    this.url = url;
    this.#silentMs = silentMs;
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
      // Also where Node's own options say otherwise.
      insecureHTTPParser: false,
      timeout: this.#silentMs,
    });
    // Node leaves out what is beyond a number of fields.
    request.maxHeadersCount = 0;
    request.on("timeout", () => {
      const error = new Error(`nothing came for ${Math.ceil(this.#silentMs / 60_000)} min`);
      request.destroy(Object.assign(error, { code: "ETIMEDOUT" }));
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
  /** The request is with the upstream's network, or never will be: nothing of it is held any more. */
  sent(): void;
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
  /** How the request's body is framed. */
  framing: Framing;
  /** The body, where it was changed; else it is taken from the request. Not kept once it is written. */
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
    if (framing(incoming.rawHeaders) === undefined) {
      outgoing.destroy(new Error("its answer does not say for certain where it ends"));
      return;
    }
    answer = incoming;
    incoming.on("error", cut).on("close", () => {
      if (!incoming.complete) cut();
    });
    // An upstream that has answered may take the rest of a request for another one.
    incoming.on("end", () => {
      if (!outgoing.writableFinished) outgoing.destroy();
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
  outgoing.on("finish", () => listener.sent());
  outgoing.on("error", (error) => {
    if (!answer) over("cut", error);
    // An upstream may close behind its whole answer without having read the whole request.
    else if (!answer.complete) cut();
  });
  // Who is still sending reads no answer: what is left of a body that nobody takes is let run.
  outgoing.on("close", () => {
    listener.sent();
    request.resume();
    // An upstream that switches protocols, which nobody asked for, is left by Node without a word.
    if (!answer) over("cut", new Error("the connection ended without an answer"));
  });
  // A client that left within its body left a request upstream that never ends.
  request.on("close", () => {
    if (!request.complete) outgoing.destroy();
  });
  response.on("close", () => {
    if (!response.writableFinished) outgoing.destroy();
    over(isCut ? "cut" : "left");
  });
  sendBody(passage, outgoing);
}

/** Every body leaves framed: Node frames none by itself where the method is one that usually has no body. */
function requestHeaders({ request, framing, isAwaited, body }: Passage): RawHeaders {
  const headers = endToEnd(request.rawHeaders, ["host", "expect", "content-length", "trailer"]);
  if (body) headers.push("Content-Length", String(body.reduce((sum, bytes) => sum + bytes.length, 0)));
  else if (framing.by === "length") headers.push("Content-Length", String(framing.length));
  else if (framing.by === "chunks") headers.push("Transfer-Encoding", "chunked");
  // Else Node would announce a body of unknown length where there is none.
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
    // What no field announced is nobody's body.
    request.resume();
    outgoing.end();
    return;
  }
  // Else nothing would be sent before the client's first byte, for which it waits.
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
  // A client that was never told to send its body may or may not do so: the connection is of no more use.
  if (isAwaited && !request.complete) headers.push("Connection", "close");
  response.sendDate = false;
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? "", headers);
  // At once, since the first byte may be long in coming; but Node would flush what is not ASCII in another encoding.
  if (headers.every((text) => /^[\x20-\x7e\t]*$/.test(text))) response.flushHeaders();
  answer.on("data", (bytes: Buffer) => listener.bytes(bytes));
  answer.on("end", () => {
    if (hasTrailers && answer.rawTrailers.length > 0) response.addTrailers(trailing(answer.rawTrailers));
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
  for (const [name, value] of pairs(endToEnd(information.rawHeaders, ["content-length"]))) {
    const key = name.toLowerCase();
    hints[key] = [...(hints[key] ?? []), value];
  }
  try {
    response.writeEarlyHints(hints as Record<string, string | string[]>);
  } catch {
    // A hint that Node does not find well-formed is only a hint.
  }
}
