import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { instantiate, priceTable } from "../../dist/base.js";
import { Pipeline } from "../../dist/pipeline.js";

/** Number of events, of random kinds, as a gateway records in months. */
const EVENTS = 1_000_000;
/** Numbers of sessions, conversations and models that exceed the bound of every map of the core. */
const SESSIONS = 50_000;
const BATCH = 2_000;
/**
 * The receiver accepts nothing for this many events, so all queues fill up once. Otherwise their size depends on how fast the
 * machine sends, and memory that they take once is never freed.
 */
const AWAY = 150_000;
/** Growth of memory that is allowed in the second half, in bytes: wasm, heap and external. */
const MOST_GROWTH = 4 * 1024 * 1024;
/** Total memory that is allowed, in bytes, with queues, maps and journal at their bounds. */
const MOST = 128 * 1024 * 1024;
/** One warning for each of 300 models without usage; all other lines at most once a minute. */
const MOST_LINES = 300;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

/** A small generator, so that a failure can be repeated. @param {number} seed */
function random(seed) {
  let state = seed;
  return (/** @type {number} */ below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % below;
  };
}

/** @param {(below: number) => number} below @param {number} now @returns {[string, unknown[]]} */
function event(below, now) {
  const sessionKey = `agent:a${below(20)}:direct:${below(SESSIONS)}`;
  const ctx = { sessionKey, agentId: "main", channelId: "telegram", conversationId: sessionKey };
  const usage = {
    input: below(1000),
    output: below(100),
    cacheRead: below(50),
    cacheWrite: 0,
    cost: { total: 0.01 },
  };
  const call = { provider: "mock", model: `m${below(300)}`, usage };
  const assistant = {
    role: "assistant",
    ...call,
    stopReason: below(3) ? "stop" : "toolUse",
    timestamp: now - below(900),
  };
  const spanId = String(below(1e9));
  switch (below(12)) {
    case 0:
      return ["before_message_write", [{ message: assistant }, ctx]];
    case 1:
      return [
        "model.call.completed",
        [{ ...call, sessionKey, durationMs: below(900), ts: now, trace: { spanId } }],
      ];
    case 2:
      return ["model_call_ended", [{ ...call, sessionKey, durationMs: below(900) }, { trace: { spanId } }]];
    case 3:
      return ["message_received", [{ content: "hello", from: sessionKey, sessionKey }, ctx]];
    case 4:
      return ["message_sent", [{ content: "hello", to: sessionKey, success: true, sessionKey }, ctx]];
    case 5:
      return ["before_tool_call", [{ toolName: `t${below(100)}`, toolCallId: spanId }, ctx]];
    case 6:
      return ["run.started", [{ sessionKey, runId: spanId, trigger: "user" }]];
    case 7:
      return ["model.usage", [{ sessionKey, usage: {} }]];
    case 8:
      return ["session_end", [{ sessionKey, reason: "idle" }, ctx]];
    case 9:
      return ["conversation:start", [{ conversationId: sessionKey }]];
    case 10:
      return [
        "session:complete",
        [{ sessionKey, models: [{ model: call.model, requests: 2, promptTokens: 9 }] }],
      ];
    default:
      return [
        "model.call.error",
        [{ provider: below(2) ? "mock" : 5, model: [], usage: { input: -1 }, ts: Number.NaN }],
      ];
  }
}

test("a million events of random kinds: memory stays bounded, and removed entries are counted", async (t) => {
  let isAway = true;
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      if (isAway) response.statusCode = 503;
      response.end('{"status": "ok", "features": ["record_ids"]}');
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  // Its clock runs faster, so that waits and ages pass too.
  let clock = 1_795_000_000_000;
  const lines = /** @type {string[]} */ ([]);
  const pipeline = new Pipeline(
    {
      instantiate,
      priceTable,
      log: { info: () => {}, warn: (text) => lines.push(text) },
      wall: () => clock,
      mono: () => clock - 1_700_000_000_000,
    },
    { url: `http://127.0.0.1:${port}`, identityKey: "00".repeat(16) },
  );
  const seed = 20261123;
  const below = random(seed);
  let settled = 0;
  for (let sent = 0; sent < EVENTS; sent += BATCH) {
    for (let index = 0; index < BATCH; index += 1) {
      clock += below(3);
      pipeline.accept(...event(below, clock));
    }
    pipeline.drain();
    await turn();
    if (sent === AWAY) isAway = false;
    if (!isAway && sent % (5 * BATCH) === 0) await pipeline.reduceBacklog(2_000, 5_000);
    if (sent === EVENTS / 2) settled = await used();
  }
  await pipeline.stop(1_000);
  server.closeAllConnections();
  server.close();
  const grown = (await used()) - settled;
  const status = pipeline.status();
  const [mib, more] = [settled, grown].map((bytes) => (bytes / 2 ** 20).toFixed(1));
  t.diagnostic(`${mib} MiB halfway, ${more} MiB more at the end`);
  assert.ok(settled + grown < MOST, `memory is ${mib} + ${more} MiB`);
  assert.ok(grown < MOST_GROWTH, `seed ${seed}: memory grew by ${more} MiB`);
  const told = Object.values(/** @type {Record<string, number>} */ (status.seen)).reduce((a, b) => a + b, 0);
  assert.equal(told, EVENTS, "every event was seen");
  assert.equal(status.core_restarts, 0);
  assert.ok(Number(status.forgotten) > 0, "sessions gave way, and were counted");
  assert.ok(Number(/** @type {any} */ (status.rejected)["model.call.error: no_model"]) > 0);
  assert.ok(lines.length <= MOST_LINES, `the log stays quiet: ${lines.length} lines`);
});

/** Memory in use. Freed memory counts until several collections have run. */
async function used() {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 6; round += 1) {
    collect();
    await sleep(50);
    const { heapUsed, external } = process.memoryUsage();
    least = Math.min(least, heapUsed + external);
  }
  return least;
}
