// An upstream for the proxy's tests, the proxy in front of it, and a client that compares bytes.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));
const { Proxy, parseUpstreams } = await import(`${DIST}serve.js`);
const { instantiate: makeInstance } = await import(`${DIST}base.js`);

/** @param {import("node:net").Server} server @returns {number} */
export const portOf = (server) => /** @type {import("node:net").AddressInfo} */ (server.address()).port;

/**
 * An upstream with a given listener, and the proxy in front of it.
 *
 * @param {import("node:http").RequestListener} answer
 * @param {{ options?: string, prefix?: string, instantiate?: () => any, path?: string, hosts?: string[], bounds?: object }} [settings]
 */
export async function world(answer, { options = "", prefix = "/up", path = "", ...more } = {}) {
  const upstream = createServer(answer);
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  const direct = `http://127.0.0.1:${portOf(upstream)}`;
  const before = await proxyTo([`${prefix}=${direct}${path}${options}`], more);
  return {
    ...before,
    upstream,
    direct,
    url: `${before.origin}${prefix}`,
    close: async () => {
      await before.close();
      upstream.closeAllConnections();
      upstream.close();
    },
  };
}

/**
 * A proxy, and its reported calls.
 *
 * @param {string[]} upstreams
 * @param {{ instantiate?: () => any, hosts?: string[], bounds?: object, gate?: object }} [settings] `gate`: the proxy's
 *   options `admit` and `ended`.
 */
export async function proxyTo(upstreams, { instantiate = makeInstance, hosts = [], bounds, gate } = {}) {
  /** @type {any[]} */
  const calls = [];
  /** POSTs that were not counted as calls. @type {string[]} */
  const passed = [];
  /** @type {string[]} */
  const said = [];
  const proxy = new Proxy({
    upstreams: parseUpstreams(upstreams),
    host: "127.0.0.1",
    port: 0,
    hosts,
    bounds,
    ...gate,
    onCall: (/** @type {any} */ call) => calls.push(call),
    onPassed: (/** @type {{ provider: string, path: string }} */ { provider, path }) =>
      passed.push(`${provider} ${path}`),
    instantiate,
    log: {
      info: (/** @type {string} */ text) => said.push(text),
      warn: (/** @type {string} */ text) => said.push(text),
    },
    wall: () => Date.now(),
    mono: () => performance.now(),
  });
  const { port } = await proxy.listen();
  return {
    proxy,
    calls,
    passed,
    said,
    origin: `http://127.0.0.1:${port}`,
    port,
    /** Waits for a number of calls. @param {number} count */
    told: async (count) => {
      for (let tries = 0; calls.length < count && tries < 400; tries += 1) await pause(5);
      return calls;
    },
    close: () => proxy.close(0),
  };
}

/** @param {number} ms */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * @typedef {object} Got
 * @property {number} status
 * @property {string} statusMessage
 * @property {string[]} rawHeaders
 * @property {import("node:http").IncomingHttpHeaders} headers
 * @property {NodeJS.Dict<string>} trailers
 * @property {Buffer} body
 * @property {string} hash
 */

/**
 * Makes a request and returns the answer unchanged.
 *
 * @param {string} url
 * @param {{ method?: string, headers?: any, body?: Buffer | string | Buffer[], agent?: any, onRequest?: (request: import("node:http").ClientRequest) => void }} [options]
 * @returns {Promise<Got>}
 */
export function get(url, { method = "GET", headers = {}, body, agent, onRequest } = {}) {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method, headers, agent }, async (answer) => {
      try {
        const hash = createHash("sha256");
        const chunks = [];
        for await (const chunk of answer) {
          hash.update(chunk);
          chunks.push(chunk);
        }
        resolve({
          status: answer.statusCode ?? 0,
          statusMessage: answer.statusMessage ?? "",
          rawHeaders: answer.rawHeaders,
          headers: answer.headers,
          trailers: answer.trailers,
          body: Buffer.concat(chunks),
          hash: hash.digest("hex"),
        });
      } catch (error) {
        reject(error);
      }
    });
    request.on("error", reject);
    request.setTimeout(120_000, () => request.destroy(new Error(`${method} ${url}: no answer`)));
    onRequest?.(request);
    if (Array.isArray(body)) for (const part of body) request.write(part);
    request.end(Array.isArray(body) ? undefined : body);
  });
}

/** Server-sent events. @param {unknown[]} events */
export const sse = (events) =>
  events.map((event) => `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`);

/** The events of a chat completion's stream. @param {{ prompt?: number, completion?: number, texts?: string[], usage?: boolean }} [options] */
export function chat({ prompt = 30, completion = 5, texts = ["a", "b"], usage = true } = {}) {
  const head = { id: "chatcmpl-1", model: "m-2026", object: "chat.completion.chunk" };
  return sse([
    ...texts.map((content) => ({ ...head, choices: [{ index: 0, delta: { content } }] })),
    { ...head, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
    ...(usage
      ? [{ ...head, choices: [], usage: { prompt_tokens: prompt, completion_tokens: completion } }]
      : []),
    "[DONE]",
  ]);
}

/** The body of a request for a stream. @param {object} [more] */
export const asking = (more = {}) => ({
  method: "POST",
  headers: { "content-type": "application/json", authorization: "Bearer sk-secret-of-the-client" },
  body: JSON.stringify({ model: "m", stream: true, messages: [], ...more }),
});
