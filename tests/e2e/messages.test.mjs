import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { startTelegram } from "../../examples/gateway/channel/telegram.mjs";
import { modelCalls } from "../../examples/gateway/receiver.mjs";
import { startWorld, waitForTotals } from "./harness.mjs";
import { oldHook } from "./old-hook.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { startProxy } from "./proxy.mjs";

const OLD = "2026.3.13";
const ALICE = 987_650_001;
const BOB = 987_650_002;
const CAROL = 987_650_003;
const DAN = 987_650_004;
const READING_CIRCLE = 7_654_321;
const MARK = "MARKEDTEXT7Q";
/** A turn is over 2 s after its last answer, and its trace is sent a moment later. */
const QUIET_MS = 5_000;
const STEP_WITHIN_MS = 120_000;
/** On a busy machine records of a step may come later than the quiet time. */
const ALL_WITHIN_MS = 60_000;

/**
 * @typedef {object} Step
 * @property {string} name
 * @property {(world: Series) => unknown} run
 * @property {RegExp} answer The bot's message at the step's end, sent or attempted.
 * @property {RegExp} [log] A log record that comes later.
 */

/** @typedef {{ telegram: import("../../examples/gateway/channel/telegram.mjs").Telegram }} Series */

/** @type {Step[]} */
const STEPS = [
  {
    name: "a message",
    run: ({ telegram }) => telegram.receive({ from: ALICE, text: `good morning ${MARK}` }),
    answer: /^Answer/,
  },
  {
    name: "a message in a group",
    run: ({ telegram }) => telegram.receive({ from: BOB, text: `hello ${MARK}`, group: READING_CIRCLE }),
    answer: /^Answer/,
  },
  {
    name: "noise",
    run: ({ telegram }) => telegram.receive({ from: ALICE, text: "HEARTBEAT_OK" }),
    answer: /^Answer/,
  },
  {
    name: "a message whose turn uses a tool",
    run: ({ telegram }) => telegram.receive({ from: ALICE, text: `read it ${MARK} [[tools 1]]` }),
    answer: /^Answer/,
  },
  {
    name: "/new",
    run: ({ telegram }) => telegram.receive({ from: ALICE, text: "/new" }),
    answer: /New session/,
  },
  {
    name: "a delivery that fails",
    run: ({ telegram }) => {
      telegram.refuse(() => ({ status: 403, description: "Forbidden: bot was blocked by the user" }));
      telegram.receive({ from: CAROL, text: `hello? ${MARK}` });
    },
    answer: /^Answer/,
    log: /^Message delivery failed/,
  },
  {
    name: "a model that fails until the fallback answers",
    run: ({ telegram }) => {
      telegram.refuse();
      telegram.receive({ from: DAN, text: `hi ${MARK} [[fail 500 m1]]` });
    },
    answer: /^Answer/,
  },
];

for (const version of versions) {
  describe(`OpenClaw ${version}, messages`, { skip }, () => {
    /** @type {import("./harness.mjs").World} */
    let world;
    /** @type {Series["telegram"]} */
    let telegram;
    /** @type {Awaited<ReturnType<typeof oldHook>>} */
    let old;
    /** @type {import("./proxy.mjs").Proxy} */
    let proxy;
    /** @type {Seen} */
    let all = { traces: [], logs: [], metrics: [], health: [] };
    /** @type {Record<string, object>} */
    const steps = {};
    const path = fileURLToPath(new URL(`golden/${version}.json`, import.meta.url));
    /** The expected records of each step; undefined while they are renewed. @type {Record<string, object> | undefined} */
    let golden;

    before(async () => {
      if (!process.env.UPDATE_GOLDEN) golden = JSON.parse(await readFile(path, "utf8"));
      // Old gateways by default edit a preview into the answer, which runs no hook.
      telegram = await startTelegram(version === OLD ? { streaming: "off" } : {});
      old = await oldHook();
      const { config, env } = telegram.gateway;
      world = await startWorld({
        version,
        tgz,
        receiver: { binary },
        between: async (url) => {
          proxy = await startProxy(url);
          return proxy;
        },
        gateway: {
          config: { ...config, hooks: { internal: { enabled: true } } },
          env,
          plugins: [old.plugin],
        },
      });
      await note("start");
    });
    after(async () => {
      await world?.close();
      await telegram?.close();
      await old?.remove();
    });

    /** Waits until nothing new has come for a while. */
    async function quiet() {
      let [last, since] = ["", Date.now()];
      while (Date.now() - since < QUIET_MS) {
        await sleep(250);
        const requests = world.provider.ledger.filter(({ outcome }) => outcome !== "open").length;
        const now = [
          world.provider.ledger.length,
          requests,
          telegram.sent.length,
          proxy.passed.length,
        ].join();
        if (now !== last) [last, since] = [now, Date.now()];
      }
    }

    /**
     * The records of a step, once they are complete. A later record counts for the next step, where it is an error.
     *
     * @param {string} name
     */
    async function note(name) {
      await quiet();
      for (const deadline = Date.now() + ALL_WITHIN_MS; ; await sleep(500)) {
        const now = await seen(world.receiver.url);
        const left = normalized(since(now, all));
        if (golden && !isDeepStrictEqual(left, golden[name]) && Date.now() < deadline) continue;
        steps[name] = left;
        all = now;
        return;
      }
    }

    for (const step of STEPS) {
      test(`${step.name}`, async () => {
        const first = telegram.sent.length;
        await step.run({ telegram });
        const done = async () =>
          telegram.sent.slice(first).some(({ text }) => step.answer.test(text)) &&
          (!step.log ||
            since(await seen(world.receiver.url), all).logs.some(({ message }) => step.log?.test(message)));
        for (const deadline = Date.now() + STEP_WITHIN_MS; !(await done()); await sleep(250))
          assert.ok(
            Date.now() < deadline,
            `no ${step.answer}: ${JSON.stringify(telegram.sent.slice(first))}\n${world.gateway.log.recent().slice(-3000)}`,
          );
        await note(step.name);
      });
    }

    test("the records equal the expected records", async () => {
      if (!golden) {
        await mkdir(dirname(path), { recursive: true });
        return writeFile(path, `${JSON.stringify(steps, null, 2)}\n`);
      }
      for (const [name, left] of Object.entries(steps)) assert.deepEqual(left, golden[name], name);
      assert.deepEqual(Object.keys(steps), Object.keys(golden));
    });

    test("traces are complete, and their times nest", () => {
      assert.ok(all.traces.length >= STEPS.length);
      for (const trace of all.traces) checkTrace(trace);
    });

    test("ids are unique", () => {
      for (const kind of /** @type {const} */ (["traces", "logs", "metrics"])) {
        const ids = all[kind].map(({ id }) => id);
        assert.equal(new Set(ids).size, ids.length, kind);
      }
      const spans = all.traces.flatMap((trace) => trace.spans.map((/** @type {any} */ { id }) => id));
      assert.equal(new Set(spans).size, spans.length, "spans");
    });

    test("the models' totals equal the provider's", () => waitForTotals(world.provider, world.receiver));

    test("the receiver accepted everything", () => {
      const refused = proxy.passed.filter(({ status = 0 }) => status < 200 || status > 299);
      assert.deepEqual(
        refused.map(({ url, status, body }) => [url, status, body]),
        [],
      );
      assert.deepEqual(telegram.strangers, []);
    });

    test("every record of the old hook has a counterpart", async () => {
      /** @type {[Record<string, number>, Record<string, number>]} */
      const [before, now] = [await old.records(), records(all)];
      for (const [kind, count] of Object.entries(before))
        assert.ok((now[kind] ?? 0) >= count, `${kind}: ${now[kind]}, the old hook ${count}`);
      // Not every gateway reports every message, but each reports some.
      for (const kind of ["log: message received", "log: delivery failed", "log: command"])
        assert.ok(before[kind], `the old hook saw one: ${kind}`);
    });

    test("no message, no name and no address leaves", async () => {
      const people = [ALICE, BOB, CAROL, DAN, READING_CIRCLE, "Wilhelmina", "wilhelmina_v", "Reading circle"];
      const words = [MARK, "good morning", "Answer ", "HEARTBEAT_OK", "New session", "Forbidden"];
      const stored = JSON.stringify([all, await modelCalls(world.receiver)]);
      const left = [stored, ...proxy.passed.map(({ url, body }) => `${url}\n${body}`)];
      for (const text of left)
        for (const mark of [...people, ...words])
          assert.ok(!text.includes(String(mark)), `${mark} in ${text}`);
    });
  });
}

/** @typedef {{ traces: any[], logs: any[], metrics: any[], health: any[] }} Seen */

/** Everything in the receiver's read API. @param {string} url @returns {Promise<Seen>} */
async function seen(url) {
  const read = async (/** @type {string} */ path) => (await fetch(`${url}/api/${path}`)).json();
  const traces = await read("traces?limit=500");
  return {
    traces: await Promise.all(traces.map((/** @type {any} */ { id }) => read(`traces/${id}`))),
    logs: await read("logs?limit=1000"),
    metrics: await read("metrics?limit=1000"),
    health: await read("health"),
  };
}

/** @param {Seen} now @param {Seen} before @returns {Seen} */
function since(now, before) {
  const fresh = (/** @type {keyof Seen} */ kind) => {
    const known = new Set(before[kind].map(({ id }) => id));
    return now[kind].filter(({ id }) => !known.has(id));
  };
  return { traces: fresh("traces"), logs: fresh("logs"), metrics: fresh("metrics"), health: fresh("health") };
}

/** Asserts that a trace has one root, and no span that is open, lost or outside of its time. @param {any} trace */
function checkTrace(trace) {
  const { spans } = trace;
  const text = JSON.stringify(trace, null, 1);
  const roots = spans.filter((/** @type {any} */ span) => span.parent_id === null);
  assert.equal(roots.length, 1, `one root: ${text}`);
  const byId = new Map(spans.map((/** @type {any} */ span) => [span.id, span]));
  for (const span of [trace, ...spans]) {
    assert.ok(["completed", "failed"].includes(span.status), `it is over: ${text}`);
    assert.ok(span.ended_at, `it has an end: ${text}`);
    assert.ok(span.started_at <= span.ended_at, `it ends after its start: ${text}`);
    const took = Date.parse(span.ended_at) - Date.parse(span.started_at);
    assert.ok(Math.abs(took - span.duration_ms) <= 1, `it took as long as it says: ${text}`);
  }
  for (const span of spans) {
    const parent = span.parent_id === null ? trace : byId.get(span.parent_id);
    assert.ok(parent, `no orphan: ${text}`);
    assert.ok(parent.started_at <= span.started_at && span.ended_at <= parent.ended_at, `they nest: ${text}`);
  }
}

/** The plugin's records by the names of the old hook's records. @param {Seen} seen @returns {Record<string, number>} */
function records({ traces, logs, metrics, health }) {
  const log = (/** @type {RegExp} */ text) => logs.filter(({ message }) => text.test(message)).length;
  const metric = (/** @type {string} */ name) => metrics.filter((row) => row.name === name).length;
  const spans = traces.flatMap((trace) => trace.spans);
  return {
    health: health.length,
    "log: started": log(/gateway started/),
    "log: message received": log(/^Message received/),
    "log: delivery failed": log(/^Message delivery failed/),
    "log: command": log(/^Command/),
    "metric: messages_received": metric("messages_received"),
    "metric: messages_sent": metric("messages_sent"),
    "metric: response_time_ms": metric("response_time_ms"),
    // Several messages of one turn are spans of one trace.
    "trace: message sent": spans.filter(({ name }) => name.startsWith("deliver:")).length,
    "trace: command": traces.filter(({ name }) => name.startsWith("command:")).length,
  };
}

const VOLATILE = new Set([
  "id",
  "trace_id",
  "span_id",
  "timestamp",
  "started_at",
  "ended_at",
  "duration_ms",
  "call_id",
  "gateway",
]);
const COUNTED = new Set([
  "cost_usd",
  "gen_ai.response.time_to_first_chunk",
  "gen_ai.usage.cache_creation.input_tokens",
  "gen_ai.usage.cache_read.input_tokens",
  "gen_ai.usage.input_tokens",
  "gen_ai.usage.output_tokens",
]);

/**
 * The part of records that does not change between runs: hashes are numbered, times and ids are left out.
 *
 * @param {Seen} seen
 */
function normalized({ traces, logs, metrics, health }) {
  const shown = {
    traces: sorted(traces.map(({ spans, ...trace }) => ({ ...trace, spans: sorted(spans) }))),
    logs: sorted(logs),
    metrics: sorted(
      metrics.map(({ value, ...row }) => (row.name === "response_time_ms" ? row : { ...row, value })),
    ),
    health: sorted(health),
  };
  /** @type {string[]} */
  const known = [];
  const number = (/** @type {string} */ id) =>
    (known.includes(id) ? known.indexOf(id) : known.push(id) - 1) + 1;
  const text = JSON.stringify(shown, (key, value) => {
    if (key === "parent_id") return value === null ? "root" : "child";
    if (VOLATILE.has(key)) return undefined;
    if (COUNTED.has(key)) return value > 0 ? "some" : value;
    return value;
  });
  return JSON.parse(
    text
      .replace(/#[0-9a-f]{16}/g, (hash) => `#${number(hash)}`)
      .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, (id) => `run ${number(id)}`),
  );
}

/** Sorts rows by their constant parts. @param {any[]} rows */
function sorted(rows) {
  const key = (/** @type {any} */ row) =>
    JSON.stringify(row, (name, value) =>
      VOLATILE.has(name) || COUNTED.has(name) ? undefined : value,
    ).replace(/#?[0-9a-f]{8,16}(-[0-9a-f-]{27})?/g, "");
  return rows
    .map((row) => ({ row, key: `${key(row)} ${row.started_at ?? row.timestamp}` }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ row }) => row);
}
