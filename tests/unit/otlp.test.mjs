// The OpenTelemetry outlet: exported data, retries, and independence of AgentWatch.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { Collector } from "./collector.mjs";
import { answer, Gateway, Receiver, SESSION } from "./world.mjs";

/** @param {any} config @param {Gateway} [gateway] */
async function begin(config, gateway = new Gateway("none")) {
  const plugin = await gateway.evaluate();
  gateway.register(plugin, config);
  await gateway.start(gateway.services.length - 1);
  return gateway;
}

/** @param {Gateway} gateway @param {number[]} tokens */
async function calls(gateway, ...tokens) {
  for (const count of tokens) gateway.emit("before_message_write", answer(count), SESSION);
  await nextTurn();
}

/** @param {Gateway} gateway */
const finish = (gateway) => gateway.finish(gateway.services.length - 1);

/** @param {() => boolean | Promise<boolean>} holds @param {string} what */
async function until(holds, what, ms = 15_000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(20)) if (await holds()) return;
  assert.fail(`${what}: not within ${ms} ms`);
}

const KEY = "k3y-that-nobody-must-see";

test("a collector gets each call, in the names of the conventions, and its headers are nowhere else", async () => {
  const [collector, receiver] = [await Collector.open(), await Receiver.open()];
  const otlp = { url: collector.url, headers: { "X-Api-Key": KEY } };
  const gateway = await begin({ url: receiver.url, otlp });
  try {
    await calls(gateway, 100, 200, 300);
    await finish(gateway);
    assert.deepEqual(
      { ...collector.tokens, start: 0 },
      { input: 600, output: 3, requests: 3, cost: 0.75, start: 0 },
    );
    assert.equal(receiver.totals["p/m"]?.requests, 3, "and AgentWatch is");
    for (const { headers } of collector.requests) assert.equal(headers["x-api-key"], KEY);
    assert.ok(receiver.requests.every(({ authorization }) => authorization === undefined));
    const files = readdirSync(join(gateway.stateDir, "agentwatch"), { recursive: true, withFileTypes: true });
    const texts = files
      .filter((file) => file.isFile())
      .map((file) => readFileSync(join(file.parentPath, file.name)));
    assert.ok(!texts.some((text) => text.includes(KEY)) && !gateway.log.join("\n").includes(KEY));
    assert.ok(gateway.log.some((line) => line.includes(`and the collector at ${collector.url}`)));
  } finally {
    gateway.close();
    receiver.close();
    collector.close();
  }
});

test("a restarted gateway continues the same sums with the same start time", async () => {
  const [collector, receiver] = [await Collector.open(), await Receiver.open()];
  const config = { url: receiver.url, otlp: { url: collector.url } };
  const gateway = await begin(config);
  try {
    await calls(gateway, 100);
    await finish(gateway);
    const { start } = collector.tokens;
    await begin(config, gateway);
    await calls(gateway, 200);
    await finish(gateway);
    assert.deepEqual(collector.tokens, { input: 300, output: 2, requests: 2, cost: 0.5, start });
  } finally {
    gateway.close();
    receiver.close();
    collector.close();
  }
});

test("without an AgentWatch the collector gets everything, and nothing is pending", async () => {
  const collector = await Collector.open();
  const gateway = await begin({ url: false, otlp: { url: collector.url } });
  try {
    await calls(gateway, 100, 200);
    await finish(gateway);
    assert.equal(collector.tokens.input, 300);
    assert.equal((await gateway.status()).waiting, 0);
    assert.equal(
      gateway.log.find((line) => line.startsWith("warn")),
      undefined,
    );
  } finally {
    gateway.close();
    collector.close();
  }
});

test("a collector that is down delays nothing, and gets everything later", async () => {
  const [collector, receiver] = [await Collector.open(), await Receiver.open()];
  const { url } = collector;
  let isAway = true;
  collector.reply = () => (isAway ? { status: 503, headers: { "retry-after": "1" } } : {});
  const gateway = await begin({ url: receiver.url, otlp: { url } });
  try {
    await calls(gateway, 100, 200);
    await until(() => receiver.totals["p/m"]?.requests === 2, "AgentWatch is told");
    const refused = () => gateway.log.some((line) => /otlp: .* does not take .*HTTP 503/.test(line));
    await until(refused, "the collector is asked");
    isAway = false;
    await until(async () => (await gateway.status()).otlp.metrics.sent > 0, "the collector is told", 60_000);
    assert.equal(collector.tokens.input, 300);
    await finish(gateway);
  } finally {
    gateway.close();
    receiver.close();
    collector.close();
  }
});

test("refused exports are not retried, and rejected points are counted", async () => {
  const collector = await Collector.open();
  collector.reply = (path) =>
    path === "/v1/traces" ? { status: 400 } : { body: '{"partialSuccess":{"rejectedDataPoints":"1"}}' };
  const gateway = await begin({ url: false, otlp: { url: collector.url } });
  try {
    gateway.emit("session_start", { sessionId: "s" }, SESSION);
    await calls(gateway, 100);
    await finish(gateway);
    const traces = collector.of("/v1/traces").length;
    assert.ok(traces <= 1, `asked ${traces} times`);
    const { otlp } = await gateway.status();
    assert.equal(otlp.metrics.rejected, 1);
    assert.equal(otlp.traces.refused > 0, traces > 0);
  } finally {
    gateway.close();
    collector.close();
  }
});

for (const [otlp, line] of /** @type {[unknown, RegExp][]} */ ([
  ["http://h", /otlp is no object; set it to \{"url"/],
  [{}, /otlp\.url is missing; set it to an address such as http:\/\/localhost:4318/],
  [{ url: "localhost:4318" }, /otlp\.url does not start with http/],
  [{ url: `http://user:pass@h/${KEY}?${KEY}` }, /otlp\.url "http:\/\/h" holds credentials/],
  [{ url: "http://h", token: "x" }, /otlp\.token is no setting of otlp; give url and headers/],
  [{ url: "http://h", protocol: "grpc" }, /otlp\.protocol is "grpc"; set it to http\/protobuf or http\/json/],
  [{ url: "http://h", compression: "zstd" }, /otlp\.compression is "zstd"; set it to gzip or none/],
  [{ url: "http://h", headers: { "a b": "x" } }, /otlp\.headers has "a b", which cannot be set/],
  [
    { url: "http://h", headers: { key: `${KEY}\n` } },
    /otlp\.headers\.key holds characters that no header takes/,
  ],
  [true, /otlp is true, and OTEL_EXPORTER_OTLP_ENDPOINT is not set/],
]))
  test(`otlp: ${JSON.stringify(otlp)}`, async () => {
    const receiver = await Receiver.open();
    const gateway = await begin({ url: receiver.url, otlp });
    try {
      assert.ok(
        gateway.log.some((text) => text.startsWith("warn agentwatch: ") && line.test(text)),
        gateway.log.join("\n"),
      );
      assert.ok(!gateway.log.join("\n").includes(KEY));
      await calls(gateway, 100);
      await finish(gateway);
      assert.equal(receiver.totals["p/m"]?.requests, 1, "AgentWatch is told as ever");
    } finally {
      gateway.close();
      receiver.close();
    }
  });

test("OpenTelemetry's own variables are used where the setting says so", async () => {
  const collector = await Collector.open();
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = `${collector.url}/`;
  process.env.OTEL_EXPORTER_OTLP_HEADERS = "x-api-key=a%20b,other=c";
  const gateway = await begin({ url: false, otlp: true });
  try {
    await calls(gateway, 100);
    await finish(gateway);
    assert.equal(collector.tokens.input, 100);
    const { headers } = collector.requests[0] ?? assert.fail("nothing was told");
    assert.deepEqual([headers["x-api-key"], headers.other], ["a b", "c"]);
  } finally {
    delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT;
    delete process.env.OTEL_EXPORTER_OTLP_HEADERS;
    gateway.close();
    collector.close();
  }
});

test("protobuf and gzip where the setting says so, and newer names where the environment does", async () => {
  const collector = await Collector.open();
  process.env.OTEL_SEMCONV_STABILITY_OPT_IN = "gen_ai_latest_experimental";
  const otlp = { url: collector.url, protocol: "http/protobuf", compression: "gzip" };
  const gateway = await begin({ url: false, otlp });
  try {
    await calls(gateway, 3);
    await finish(gateway);
    const [metrics] = collector.of("/v1/metrics").slice(-1);
    const { headers, raw } = metrics ?? assert.fail("nothing was told");
    assert.deepEqual(
      [headers["content-type"], headers["content-encoding"]],
      ["application/x-protobuf", "gzip"],
    );
    // A message of resource metrics: field 1, with a length.
    assert.equal(raw[0], 0x0a);
    assert.ok(raw.includes("gen_ai.client.inference.usage.input_tokens"));
    assert.ok(!raw.includes("gen_ai.client.token.usage"));
  } finally {
    delete process.env.OTEL_SEMCONV_STABILITY_OPT_IN;
    gateway.close();
    collector.close();
  }
});
