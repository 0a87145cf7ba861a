// A receiver in another process that accepts and counts everything: AgentWatch's endpoints, and a collector's. As a
// program it answers the message `count` with its counts.
import { fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

/**
 * @typedef {object} Counted
 * @property {number} posts
 * @property {number} bytes Size of their bodies.
 * @property {number} calls Model calls with different ids.
 * @property {number} spans OTLP spans.
 */

/** Starts one. */
export async function startSink() {
  const child = fork(fileURLToPath(import.meta.url), ["serve"], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const [port] = await once(child, "message");
  return {
    url: `http://127.0.0.1:${port}`,
    /** The counts since the last call. @returns {Promise<Counted>} */
    count: async () => {
      child.send("count");
      const [counted] = await once(child, "message");
      return counted;
    },
    close: () => child.disconnect(),
  };
}

function serve() {
  const fresh = () => ({ posts: 0, bytes: 0, calls: 0, spans: 0 });
  let counted = fresh();
  /** @type {Set<string>} */
  let ids = new Set();
  const server = createServer((request, response) => {
    const chunks = /** @type {Buffer[]} */ ([]);
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      response.setHeader("content-type", "application/json");
      if (request.method !== "POST") return response.end('{"features":["record_ids"]}');
      const body = Buffer.concat(chunks);
      counted.posts += 1;
      counted.bytes += body.length;
      if (request.url?.endsWith("/batch"))
        for (const { id } of JSON.parse(String(body)).model_usage ?? []) ids.add(id);
      if (request.url?.endsWith("/traces") && body.includes("resourceSpans"))
        counted.spans += String(body).split('"traceId"').length - 1;
      response.end('{"status":"ok","ingested":1,"ids":["1"]}');
    });
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, "127.0.0.1", 4096, () => {
    process.send?.(/** @type {import("node:net").AddressInfo} */ (server.address()).port);
  });
  process.on("message", () => {
    process.send?.({ ...counted, calls: ids.size });
    counted = fresh();
    ids = new Set();
  });
  process.on("disconnect", () => process.exit());
}

if (process.argv[2] === "serve" && process.argv[1] === fileURLToPath(import.meta.url)) serve();
