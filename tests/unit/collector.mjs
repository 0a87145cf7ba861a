// An OpenTelemetry collector that stores what it receives.
import { once } from "node:events";
import { createServer } from "node:http";
import { gunzipSync } from "node:zlib";

export class Collector {
  /** @type {{ path: string, headers: import("node:http").IncomingHttpHeaders, raw: Buffer, body: any, status: number }[]} */
  requests = [];
  /** @type {(path: string) => { status?: number, headers?: Record<string, string>, body?: string }} */
  reply = () => ({});
  #server = createServer((request, response) => {
    /** @type {Buffer[]} */
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const { url = "", headers } = request;
      const { status = 200, headers: told = {}, body = "{}" } = this.reply(url);
      const sent = Buffer.concat(chunks);
      const raw = headers["content-encoding"] === "gzip" ? gunzipSync(sent) : sent;
      const isJson = headers["content-type"] === "application/json";
      this.requests.push({
        path: url,
        headers,
        raw,
        body: isJson ? JSON.parse(`${raw}`) : undefined,
        status,
      });
      response.writeHead(status, { "content-type": "application/json", ...told }).end(body);
    });
  });

  static async open() {
    const collector = new Collector();
    collector.#server.listen(0, "127.0.0.1");
    await once(collector.#server, "listening");
    return collector;
  }

  get url() {
    return `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (this.#server.address()).port}`;
  }

  /** @param {string} path */
  of(path) {
    return this.requests.filter((request) => request.path === path);
  }

  /** The sums in the last metrics, over all models. */
  get tokens() {
    const metrics = this.of("/v1/metrics").at(-1)?.body.resourceMetrics[0].scopeMetrics[0].metrics ?? [];
    const [usage, , requests, cost] = metrics;
    const sum = (/** @type {string} */ kind) =>
      (usage?.histogram.dataPoints ?? [])
        .filter((/** @type {any} */ point) =>
          point.attributes.some((/** @type {any} */ one) => one.value.stringValue === kind),
        )
        .reduce((/** @type {number} */ all, /** @type {any} */ point) => all + point.sum, 0);
    const points = (/** @type {any} */ metric) => /** @type {any[]} */ (metric?.sum.dataPoints ?? []);
    return {
      input: sum("input"),
      output: sum("output"),
      requests: points(requests).reduce((all, { asInt }) => all + Number(asInt), 0),
      cost: points(cost).reduce((all, { asDouble }) => all + asDouble, 0),
      start: usage?.histogram.dataPoints[0]?.startTimeUnixNano,
    };
  }

  /** Every received span. */
  get spans() {
    return this.of("/v1/traces")
      .filter(({ status }) => status === 200)
      .flatMap(({ body }) => body.resourceSpans[0].scopeSpans[0].spans);
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
