// Repeated observations of one call, by the commands as a user runs them: copied rows, messages of restored histories,
// batches that LiteLLM repeats, polls; also much later and after restarts. A repeated call counts once.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { until } from "./faulty-receiver.mjs";
import { lines, Store } from "./stored.mjs";
import { get } from "./upstream.mjs";
import { Receiver } from "./world.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const BEGAN = Date.parse("2026-11-20T02:20:51.435Z");
const iso = (/** @type {number} */ ms) => new Date(ms).toISOString();

/** @typedef {import("node:test").TestContext} TestContext */

/** Runs a command on a state directory. @param {TestContext} t @param {string} stateDir @param {string} url @param {string[]} args */
function run(t, stateDir, url, args) {
  const env = { PATH: process.env.PATH ?? "", HOME: stateDir, AGENTWATCH_URL: url };
  const child = spawn(process.execPath, [CLI, ...args, "--state-dir", stateDir], {
    env,
    timeout: 120_000,
    killSignal: "SIGKILL",
  });
  t.after(() => child.kill("SIGKILL"));
  const said = { out: "", error: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => {
    said.out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    said.error += text;
  });
  const ended = once(child, "close").then(([status]) => ({ status, ...said }));
  return { child, said, ended };
}

/** @param {TestContext} t */
async function receiving(t) {
  const receiver = await Receiver.open();
  t.after(() => receiver.close());
  const requests = () => Object.values(receiver.totals).reduce((sum, total) => sum + total.requests, 0);
  return { receiver, requests };
}

/** An answer as OpenClaw writes it. @param {number} after in ms @param {object} [more] */
const answer = (after, more = {}) => ({
  role: "assistant",
  content: [{ type: "text", text: "x" }],
  api: "openai-completions",
  provider: "p",
  model: "m",
  usage: { input: 100, output: 10, cacheRead: 0, cacheWrite: 0, totalTokens: 110, cost: { total: 0 } },
  stopReason: "stop",
  timestamp: BEGAN + after,
  responseId: "resp-A",
  ...more,
});

/** @param {string} id @param {number} written after the beginning, in ms @param {object} message */
const row = (id, written, message) => ({
  type: "message",
  id,
  parentId: null,
  timestamp: iso(BEGAN + written),
  message,
});

const head = (/** @type {string} */ id, after = -1_000) => ({
  type: "session",
  version: 3,
  id,
  timestamp: iso(BEGAN + after),
});

describe("rows", { concurrency: 4 }, () => {
  const other = answer(60_000, { responseId: "resp-B" });
  const bare = answer(0, { responseId: undefined });
  const noUsage = { usage: undefined };
  /** Rows by file of the store, and the number of calls. @type {Record<string, [Record<string, object[]>, number]>} */
  const STORES = {
    "a branch whose rows have new ids": [
      {
        "a.jsonl": [
          head("a"),
          row("1000001b", 900, answer(0)),
          row("1000001c", 60_900, other),
          row("1000001d", 900, answer(0)),
          row("1000001e", 60_900, other),
        ],
      },
      2,
    ],
    "a branch whose rows were written later": [
      { "a.jsonl": [head("a"), row("1000001f", 900, answer(0)), row("10000020", 500_000, answer(0))] },
      1,
    ],
    "a restored session under another name": [
      {
        "a.jsonl": [head("a"), row("1", 900, answer(0)), row("2", 60_900, other)],
        "b.jsonl": [
          head("b", 700_000),
          row("3", 700_001, answer(0)),
          row("4", 700_002, other),
          row("5", 800_000, answer(799_000)),
        ],
      },
      3,
    ],
    "an import a month later": [
      {
        "a.jsonl": [head("a"), row("1", 900, answer(0))],
        "a.jsonl.reset.2026-11-21T00-00-00.000Z": [row("2", -30 * 86_400_000, answer(0))],
      },
      1,
    ],
    "copies without ids, as 2026.3 stores them": [
      { "a.jsonl": [head("a"), row("1", 900, bare), row("2", 900, bare), row("3", 9_000, bare)] },
      1,
    ],
    "a copy of an answer without usage": [
      {
        "a.jsonl": [head("a"), row("1", 900, answer(0, noUsage)), row("2", 900, answer(0, noUsage))],
      },
      1,
    ],
    "calls of equal usage": [
      {
        "a.jsonl": [
          head("a"),
          row("1", 900, answer(0)),
          row("2", 900, answer(1)),
          row("3", 900, answer(0, { responseId: "resp-B" })),
          row("4", 900, answer(0, { model: "n" })),
        ],
      },
      4,
    ],
  };
  for (const [what, [files, calls]] of Object.entries(STORES))
    test(what, async (t) => {
      const store = new Store();
      t.after(() => store.close());
      const { receiver, requests } = await receiving(t);
      for (const [name, rows] of Object.entries(files)) store.write(name, lines(...rows));
      const first = await run(t, store.stateDir, receiver.url, ["sync", "--json"]).ended;
      assert.equal(first.status, 0, first.error);
      assert.deepEqual([JSON.parse(first.out).calls, requests()], [calls, calls]);
      // The whole session is written again under another name, after a restart.
      const copies = Object.values(files)
        .flat()
        .filter((entry) => "message" in entry)
        .map((entry, index) => ({ ...entry, id: `copy${index}`, timestamp: iso(Date.now() - 1) }));
      store.write("copies.jsonl", lines(head("copies"), ...copies));
      const again = await run(t, store.stateDir, receiver.url, ["sync", "--json"]).ended;
      assert.equal(again.status, 0, again.error);
      assert.deepEqual([JSON.parse(again.out).calls, requests()], [0, calls]);
    });
});

test("messages of restored histories, seconds later and after a restart", { timeout: 240_000 }, async (t) => {
  const stateDir = mkdtempSync(join(tmpdir(), "agentwatch-again-"));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const { receiver, requests } = await receiving(t);
  const told = (/** @type {object} */ message, sessionKey = "agent:main:main") =>
    `${JSON.stringify({ hook: "before_message_write", event: { message }, ctx: { sessionKey, agentId: "main" } })}\n`;
  const bare = answer(5_000, { responseId: undefined });
  const ingest = async (/** @type {string[]} */ ...texts) => {
    const { child, ended } = run(t, stateDir, receiver.url, ["ingest"]);
    for (const text of texts) {
      child.stdin.write(text);
      if (texts.length > 1) await sleep(4_000);
    }
    child.stdin.end();
    const { status, error } = await ended;
    assert.equal(status, 0, error);
  };
  await ingest(told(answer(0)) + told(bare), told(answer(0)) + told(bare));
  assert.equal(requests(), 2);
  await ingest(told(answer(0), "agent:main:branch") + told(bare) + told(answer(0)));
  assert.equal(requests(), 2);
  await ingest(told(answer(1)) + told(answer(0, { responseId: "resp-C" })));
  assert.equal(requests(), 4);
});

/** A payload of LiteLLM's logger. @param {number} after in ms @param {object} [more] */
const payload = (after, more = {}) => ({
  id: "chatcmpl-1",
  litellm_call_id: "call-1",
  call_type: "acompletion",
  cache_hit: null,
  stream: true,
  status: "success",
  custom_llm_provider: "openai",
  startTime: (BEGAN + after) / 1e3,
  endTime: (BEGAN + after + 1_500) / 1e3,
  completionStartTime: (BEGAN + after + 400) / 1e3,
  model: "gpt-5",
  model_group: "g",
  metadata: { usage_object: { prompt_tokens: 1200, completion_tokens: 34, total_tokens: 1234 } },
  response_cost: 0.00079,
  prompt_tokens: 1200,
  completion_tokens: 34,
  ...more,
});

test("batches that LiteLLM repeats, and polls", { timeout: 240_000 }, async (t) => {
  const stateDir = mkdtempSync(join(tmpdir(), "agentwatch-again-"));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const { receiver, requests } = await receiving(t);
  /** @param {(post: (...payloads: object[]) => Promise<any>) => Promise<void>} work */
  const life = async (work) => {
    const { child, said, ended } = run(t, stateDir, receiver.url, ["litellm", "--port", "0"]);
    const url = () => /litellm endpoint on (\S+),/.exec(said.error)?.[1];
    await until(url);
    const at = url() ?? "";
    await work(async (...payloads) => {
      const { status, body } = await get(at, { method: "POST", body: JSON.stringify(payloads) });
      assert.equal(status, 200);
      return JSON.parse(body.toString());
    });
    child.kill("SIGTERM");
    assert.equal((await ended).status, 0, said.error);
  };
  await life(async (post) => {
    await post(payload(0));
    await sleep(3_000);
    await post(payload(0));
    await post(payload(0, { id: "chatcmpl-2" }));
    const polls = ["aget_responses", "acancel_responses", "adelete_responses", "alist_input_items"];
    const answered = await post(...polls.map((call_type) => payload(9_000, { call_type })));
    assert.deepEqual(answered, { accepted: 0, skipped: { no_model_call: polls.length } });
    // A bridge logs one call as two.
    const bridged = { litellm_call_id: "call-2" };
    const at = 20_000;
    await post(
      payload(at, { ...bridged, call_type: "anthropic_messages", id: "msg_1" }),
      payload(at + 7, { ...bridged, endTime: (BEGAN + at + 1_499) / 1e3 }),
    );
  });
  assert.equal(requests(), 2);
  await life(async (post) => {
    await post(payload(0), payload(5_000));
    await post(payload(0, { litellm_call_id: "call-3", startTime: (BEGAN + 1) / 1e3 }));
  });
  assert.equal(requests(), 4);
});
