import assert from "node:assert/strict";
import { test } from "node:test";
import { differing } from "../../examples/gateway/differing.mjs";

const AT = Date.parse("2026-11-18T11:06:40.000Z");

/** @param {number} seconds @param {number} tokens @param {string} [model] */
const request = (seconds, tokens, model = "mock/m1") => ({
  ...{ model, prompt_tokens: tokens, completion_tokens: 5, turn: `turn ${tokens}` },
  at: AT + seconds * 1_000,
});

/** @param {number} seconds @param {number} tokens @param {string} [model] */
const call = (seconds, tokens, model = "mock/m1") => ({
  ...{ model, prompt_tokens: tokens, completion_tokens: 5, agent_name: "main" },
  timestamp: new Date(AT + seconds * 1_000).toISOString(),
});

test("nothing differs where each request is shown once, in any order", () => {
  const requests = [request(0, 10), request(1, 10), request(2, 20)];
  assert.deepEqual(differing(requests, [call(2.1, 20), call(1.1, 10), call(0.1, 10)]), []);
});

test("a request that is not shown is named with its time, agent, model and turn", () => {
  const requests = [request(0, 10), request(60, 10), request(90, 7, "mockant/a1")];
  assert.deepEqual(differing(requests, [call(60.2, 10)]), [
    'not shown: 2026-11-18T11:06:40.000Z agent main, mock/m1, 10 + 5 tokens, of the turn "turn 10"',
    'not shown: 2026-11-18T11:08:10.000Z agent unknown, mockant/a1, 7 + 5 tokens, of the turn "turn 7"',
  ]);
});

test("a call that is shown too often, or was never sent, is named", () => {
  assert.deepEqual(differing([request(0, 10)], [call(0, 10), call(30, 10), call(40, 99)]), [
    "shown too often: 2026-11-18T11:07:10.000Z agent main, mock/m1, 10 + 5 tokens",
    "shown, but not sent: 2026-11-18T11:07:20.000Z agent main, mock/m1, 99 + 5 tokens",
  ]);
});
