import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { compareTotals, minus } from "../../examples/gateway/compare.mjs";
import { freePort, startGateway } from "../../examples/gateway/gateway.mjs";
import { labels, metricTotals, spansOf, startCollector } from "./collector.mjs";
import { startWorld, waitForTotals } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";

/** @typedef {import("./collector.mjs").Collector} Collector */
/** @typedef {import("../../examples/gateway/provider.mjs").Provider} Provider */
/** @typedef {import("../../examples/gateway/compare.mjs").Totals} Totals */

for (const version of versions)
  describe(`OpenClaw ${version}, a collector`, { skip }, () => {
    test("the collector's sums equal the provider's, over an outage of the collector and a kill of the gateway", async (t) => {
      const collector = await startCollector();
      const stateDir = await mkdtemp(join(tmpdir(), "openclaw-collector-"));
      const otlp = { url: collector.url };
      const metricsPort = await freePort();
      const world = await startWorld({
        version,
        tgz,
        receiver: { binary },
        // The collector reads both forms, and sums go on from one to the other.
        pluginConfig: { otlp: { ...otlp, protocol: "http/protobuf", compression: "gzip" }, metricsPort },
        gateway: { stateDir },
      }).catch(async (error) => {
        await collector.close();
        throw error;
      });
      const { provider, receiver } = world;
      /** @type {import("../../examples/gateway/gateway.mjs").Gateway | undefined} */
      let second;
      try {
        await world.gateway.agentTurn({ session: "one", message: "first [[tool read]]" });
        await world.gateway.agentTurn({ agent: "ant", session: "two", message: "second" });
        const before = await shown(provider, collector);
        await scraped(metricsPort, provider.totals());
        await collector.stop();
        await world.gateway.agentTurn({ session: "one", message: "third" });
        await waitForTotals(provider, receiver);
        // A kill loses the trace of a running turn.
        await untilTraced(receiver, provider.ledger.length);
        await world.gateway.kill();
        await collector.start();
        const plugins = [{ id: "agentwatch", tgz, config: { url: receiver.url, otlp, metricsPort } }];
        const earlier = provider.totals();
        const env = { OTEL_SEMCONV_STABILITY_OPT_IN: "gen_ai_latest_experimental/dup" };
        second = await startGateway({ version, providerUrl: provider.baseUrl, stateDir, plugins, env });
        await second.agentTurn({ agent: "ant", session: "two", message: "fourth" });
        await waitForTotals(provider, receiver);
        const after = await shown(provider, collector);
        // Prometheus' counters begin at 0 with the gateway.
        await scraped(metricsPort, minus(provider.totals(), earlier));
        for (const { model, requests, prompt_tokens, completion_tokens, cost_usd } of after)
          t.diagnostic(
            `${model}: ${requests} requests, ${prompt_tokens} + ${completion_tokens}, $${cost_usd}`,
          );
        assert.deepEqual(
          after.map(({ starts }) => starts),
          before.map(({ starts }) => starts),
          "sums have the same start time",
        );
        await sameInSpans(provider, collector);
        await inBothConventions(provider, collector);
      } finally {
        await second?.stop();
        await world.close();
        await collector.close();
        await rm(stateDir, { recursive: true, force: true, maxRetries: 5 });
      }
    });
  });

/** Waits until the gateway's `/metrics` equals these totals. @param {number} port @param {Totals[]} expected */
async function scraped(port, expected) {
  /** @type {string[]} */
  let differences = [];
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(250)) {
    const answer = await fetch(`http://127.0.0.1:${port}/metrics`).catch(() => undefined);
    if (!answer?.ok) continue;
    differences = compareTotals(expected, exposedTotals(await answer.text()));
    if (differences.length === 0) return;
  }
  throw new Error(`/metrics differs from what the provider sent:\n${differences.join("\n")}`);
}

/** The sums of a scrape by model. @param {string} text @returns {Totals[]} */
function exposedTotals(text) {
  /** @type {Map<string, Totals>} */
  const models = new Map();
  for (const [, name = "", labels = "", value] of text.matchAll(/^agentwatch_(\w+)_total\{(.*)\} (\S+)$/gm)) {
    const label = (/** @type {string} */ key) =>
      new RegExp(`(?:^|,)${key}="([^"]*)"`).exec(labels)?.[1] ?? "";
    const zeros = { requests: 0, prompt_tokens: 0, completion_tokens: 0, cost_usd: 0 };
    const model = label("model");
    const row = models.get(model) ?? { model, ...zeros };
    if (name === "requests") row.requests += Number(value);
    else if (name === "cost_usd") row.cost_usd += Number(value);
    else if (name === "tokens")
      row[/^(output|reasoning)$/.test(label("kind")) ? "completion_tokens" : "prompt_tokens"] +=
        Number(value);
    else continue;
    models.set(model, row);
  }
  return [...models.values()].filter(({ requests }) => requests > 0);
}

/**
 * Waits until AgentWatch has each call in a trace, and so the journal.
 *
 * @param {import("../../examples/gateway/receiver.mjs").Receiver} receiver @param {number} calls
 */
async function untilTraced({ url }, calls) {
  let found = 0;
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(250)) {
    const traces = /** @type {any[]} */ (await (await fetch(`${url}/api/traces?limit=200`)).json());
    const whole = await Promise.all(
      traces.map(async ({ id }) => (await fetch(`${url}/api/traces/${id}`)).json()),
    );
    const spans = whole.flatMap((trace) => trace.spans ?? []);
    found = spans.filter((/** @type {any} */ { name }) => name.startsWith("chat ")).length;
    if (found >= calls) return;
  }
  throw new Error(`${found} of ${calls} calls are in traces`);
}

/**
 * Waits until the last sums equal the provider's.
 *
 * @param {Provider} provider @param {Collector} collector @param {boolean} [isNewer] Tokens by the newer conventions.
 */
async function shown(provider, collector, isNewer) {
  /** @type {string[]} */
  let differences = [];
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(250)) {
    const totals = metricTotals(await collector.passedOn("/v1/metrics"), isNewer);
    differences = compareTotals(provider.totals(), totals);
    if (differences.length === 0) return totals;
  }
  throw new Error(`the collector did not pass on what the provider sent:\n${differences.join("\n")}`);
}

/**
 * Each call is a span, with its tokens, in a trace whose root is a turn.
 *
 * @param {Provider} provider @param {Collector} collector
 */
async function sameInSpans(provider, collector) {
  const sent = provider.totals().reduce((sum, row) => sum + row.prompt_tokens, 0);
  let found = 0;
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(250)) {
    const spans = spansOf(await collector.passedOn("/v1/traces"));
    const chats = spans.filter(({ name }) => name.startsWith("chat "));
    found = chats.reduce(
      (sum, { attributes }) => sum + Number(labels(attributes)["gen_ai.usage.input_tokens"]),
      0,
    );
    if (found !== sent) continue;
    const roots = new Map(spans.filter((span) => !span.parentSpanId).map((span) => [span.spanId, span]));
    for (const { traceId, parentSpanId, kind } of chats) {
      assert.equal(roots.get(parentSpanId)?.traceId, traceId, "a call is a child of its turn");
      assert.equal(kind, "SPAN_KIND_CLIENT");
    }
    return;
  }
  assert.equal(found, sent, "the spans' tokens");
}

/** Metrics and attributes that the newer conventions name otherwise. */
const METRICS = ["gen_ai.client.operation.duration", "gen_ai.client.inference.duration"];
const ATTRIBUTES = ["gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"];

/**
 * The second gateway asks for the names of both conventions: each of its exports has both.
 *
 * @param {Provider} provider @param {Collector} collector
 */
async function inBothConventions(provider, collector) {
  await shown(provider, collector, true);
  const last = (await collector.passedOn("/v1/metrics")).at(-1);
  const names = new Set(
    last.resourceMetrics.flatMap((/** @type {any} */ { scopeMetrics }) =>
      scopeMetrics.flatMap((/** @type {any} */ { metrics }) =>
        metrics.map((/** @type {any} */ { name }) => name),
      ),
    ),
  );
  for (const name of METRICS) assert.ok(names.has(name), `${name} is not in ${[...names].join(", ")}`);
  const writing = spansOf(await collector.passedOn("/v1/traces"))
    .map(({ attributes }) => ATTRIBUTES.map((name) => labels(attributes)[name]))
    .filter(([released]) => released !== undefined);
  const [before, after] = writing.at(-1) ?? [];
  assert.ok(Number(before) > 0, "a call wrote to the cache");
  assert.equal(after, before, "the written tokens under both names");
}
