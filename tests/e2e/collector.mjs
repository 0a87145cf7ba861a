import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { launch } from "../../examples/gateway/process.mjs";
import { collector } from "../../scripts/lib/collector.mjs";

const SINK = fileURLToPath(new URL("collector-sink.py", import.meta.url));

/** @typedef {Awaited<ReturnType<typeof startCollector>>} Collector */

/**
 * A real collector, and a sink that reads its exports by OpenTelemetry's own types. `stop` and `start` are
 * of the collector alone.
 */
export async function startCollector() {
  const { rotel, python } = await collector();
  const folder = await mkdtemp(join(tmpdir(), "collector-"));
  const log = join(folder, "sink.log");
  const env = { PATH: process.env.PATH ?? "", PYTHONUNBUFFERED: "1" };
  const sink = launch(python, [SINK], { env, log });
  const port = await until(() => /listening on (\d+)/.exec(sink.recent())?.[1], "the sink listens");
  const [http, grpc] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${http}`;
  const args = ["start", "--otlp-http-endpoint", `127.0.0.1:${http}`, "--otlp-grpc-endpoint"];
  args.push(`127.0.0.1:${grpc}`, "--exporter", "otlp", "--otlp-exporter-protocol", "http");
  args.push("--otlp-exporter-endpoint", `http://127.0.0.1:${port}`);
  /** @type {import("../../examples/gateway/process.mjs").Launched | undefined} */
  let running;
  const start = async () => {
    const child = launch(rotel, args, { env, log: join(folder, "rotel.log"), foreign: "rotel" });
    running = child;
    const answers = () =>
      fetch(`${url}/v1/metrics`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}",
      })
        .then(() => true)
        .catch(() => undefined);
    await until(answers, "the collector answers").catch((error) => {
      throw new Error(`${error.message}\n${child.recent()}`);
    });
  };
  const stop = async () => void (await running?.stop());
  await start();
  return {
    url,
    start,
    stop,
    /** The exports so far. @param {"/v1/metrics" | "/v1/traces"} path @returns {Promise<any[]>} */
    passedOn: async (path) => {
      const lines = (await readFile(log, "utf8")).split("\n").slice(0, -1);
      const all = lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
      return all.filter((one) => one.path === path).map(({ body }) => body);
    },
    close: async () => {
      await stop();
      await sink.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** @template T @param {() => T | Promise<T>} found @param {string} what @returns {Promise<NonNullable<T>>} */
async function until(found, what) {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(50)) {
    const one = await found();
    if (one) return one;
  }
  throw new Error(`${what}: not within a minute`);
}

/** @param {any[]} attributes @returns {Record<string, string>} */
export function labels(attributes) {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [key, String(Object.values(/** @type {object} */ (value))[0])]),
  );
}

/**
 * The last sums of each series per model, as the Models page shows them.
 *
 * @param {any[]} bodies
 * @param {boolean} [isNewer] Reads tokens by the names of the newer conventions.
 * @returns {(import("../../examples/gateway/compare.mjs").Totals & { starts: string[] })[]}
 */
export function metricTotals(bodies, isNewer = false) {
  /** @type {Map<string, { model: string, field: string, value: number, start: string }>} */
  const series = new Map();
  for (const body of bodies)
    for (const { resource, scopeMetrics } of body.resourceMetrics ?? [])
      for (const { metrics } of scopeMetrics)
        for (const metric of metrics)
          for (const point of metric.histogram?.dataPoints ?? metric.sum?.dataPoints ?? []) {
            const names = labels(point.attributes);
            const field = fieldOf(metric.name, names, isNewer);
            if (!field) continue;
            const model = `${names["gen_ai.provider.name"]}/${names["gen_ai.request.model"]}`;
            const key = JSON.stringify([labels(resource.attributes), metric.name, names]);
            const value = Number(point.sum ?? point.asDouble ?? point.asInt ?? 0);
            const before = series.get(key);
            if (before && before.value > value && before.start === point.startTimeUnixNano)
              throw new Error(`${metric.name} of ${model} went back from ${before.value} to ${value}`);
            series.set(key, { model, field, value, start: point.startTimeUnixNano });
          }
  /** @type {Map<string, any>} */
  const totals = new Map();
  for (const { model, field, value, start } of series.values()) {
    const row = totals.get(model) ?? {
      model,
      requests: 0,
      prompt_tokens: 0,
      completion_tokens: 0,
      cost_usd: 0,
      starts: [],
    };
    totals.set(model, row);
    row[field] += value;
    row.starts = [...new Set([...row.starts, start])];
  }
  return [...totals.values()].sort((a, b) => a.model.localeCompare(b.model));
}

/** @param {string} metric @param {Record<string, string>} names @param {boolean} isNewer */
function fieldOf(metric, names, isNewer) {
  if (metric === "agentwatch.requests") return "requests";
  if (metric === "agentwatch.cost.usd") return "cost_usd";
  const newer = /^gen_ai\.client\.inference\.usage\.(input|output)_tokens$/.exec(metric)?.[1];
  const released = metric === "gen_ai.client.token.usage" ? names["gen_ai.token.type"] : undefined;
  const kind = isNewer ? newer : released;
  return kind && (kind === "input" ? "prompt_tokens" : "completion_tokens");
}

/** Each span once, by its id. @param {any[]} bodies @returns {any[]} */
export function spansOf(bodies) {
  const all = bodies.flatMap(({ resourceSpans }) =>
    resourceSpans.flatMap((/** @type {any} */ one) =>
      one.scopeSpans.flatMap((/** @type {any} */ scope) => scope.spans),
    ),
  );
  return [...new Map(all.map((span) => [span.spanId, span])).values()];
}
