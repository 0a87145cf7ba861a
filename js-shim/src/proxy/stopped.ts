/** The answer to a call that an allowance stops: HTTP 429 in the shape of the provider's own errors. */

import type { ServerResponse } from "node:http";
import type { Refusal } from "../base/wasm.js";

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
    (message) => [
      { error: { message, type: "insufficient_quota", param: null, code: "insufficient_quota" } },
    ],
  ],
];

/** A shorter wait is one that a client's own retries may bridge, in s. */
const SOON_S = 60;

/** Answers a stopped call; its body is read and dropped. @param path the path of the upstream, with its query */
export function answerStopped(response: ServerResponse, path: string, [message, seconds]: Refusal): void {
  const target = decoded(path.split("?", 1)[0] ?? "");
  const [body, headers] = SHAPES.find(([of]) => of.test(target))?.[1](message) ?? [];
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
