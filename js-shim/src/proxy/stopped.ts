/** The answer to a call that an allowance stops: HTTP 429 in the shape of the provider's own errors. */

import type { ServerResponse } from "node:http";
import type { Refusal } from "../base/wasm.js";
import { withoutQuery } from "./upstreams.js";

/** The body and further headers of an error, by the path of the request. */
type Shape = (message: string) => [body: unknown, headers?: Record<string, string>];

/** Paths of APIs, each with the shape of its errors; the last one fits all others. */
const SHAPES: [path: RegExp, shape: Shape][] = [
  [
    /\/messages\/?$|:(stream)?rawPredict$/i,
    (message) => [{ type: "error", error: { type: "rate_limit_error", message } }],
  ],
  [
    /:(stream)?generateContent$/i,
    (message) => [{ error: { code: 429, message, status: "RESOURCE_EXHAUSTED" } }],
  ],
  [/\/api\/(chat|generate)\/?$/, (message) => [{ error: message }]],
  [
    /\/model\/[^/]+\/(converse|invoke)/,
    (message) => [{ message }, { "x-amzn-errortype": "ThrottlingException" }],
  ],
  [
    /^/,
    // Not `insufficient_quota`: OpenClaw 2026.9 would take the key for one without credit, and use it no more for hours.
    (message) => [{ error: { message, type: "requests", param: null, code: "rate_limit_exceeded" } }],
  ],
];

/** A shorter wait is one that a client's own retries may bridge, in s. */
const SOON_S = 60;
/** By these words OpenClaw 2026.9 knows a long limit. It would wait for its end, a day or a month, within the turn. */
const LONG = "Usage limit reached. ";

/** Answers a stopped call; its body is read and dropped. @param path the path of the upstream, with its query */
export function answerStopped(response: ServerResponse, path: string, refusal: Refusal): void {
  const { message, retryAfterS: seconds } = refusal;
  const target = decoded(withoutQuery(path));
  const text = seconds > SOON_S ? LONG + message : message;
  const [body, headers] = SHAPES.find(([of]) => of.test(target))?.[1](text) ?? [];
  response.writeHead(429, {
    "content-type": "application/json",
    "retry-after": String(seconds),
    // The SDKs of OpenAI and Anthropic would try again at once.
    ...(seconds > SOON_S ? { "x-should-retry": "false" } : {}),
    ...headers,
  });
  response.end(JSON.stringify(body));
  response.req.resume();
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
