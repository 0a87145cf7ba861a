// The proxy counts further APIs than OpenAI's and Anthropic's, and reports every other POST by its path.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { inWords } from "../../dist/pipeline.js";
import { get, pause, world } from "./upstream.mjs";

/** @param {unknown} body */
const post = (body) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

/** Model, prompt tokens, completion tokens and outcome of a call. @param {any} call */
const told = ({ model, input, output, cache_read, cache_write, outcome }) => [
  model,
  (input ?? 0) + (cache_read ?? 0) + (cache_write ?? 0),
  output ?? 0,
  outcome,
];

/** A message of Amazon's event stream. @param {object} event */
function frame(event) {
  const payload = Buffer.from(JSON.stringify(event));
  const name = Buffer.from(":message-type");
  const header = Buffer.concat([
    Buffer.from([name.length]),
    name,
    Buffer.from([7, 0, 5]),
    Buffer.from("event"),
  ]);
  const bytes = Buffer.alloc(12 + header.length + payload.length + 4);
  bytes.writeUInt32BE(bytes.length, 0);
  bytes.writeUInt32BE(header.length, 4);
  header.copy(bytes, 12);
  payload.copy(bytes, 12 + header.length);
  return bytes;
}

const GEMINI = {
  candidates: [{ content: { parts: [{ text: "x" }] }, finishReason: "STOP" }],
  usageMetadata: {
    promptTokenCount: 20,
    candidatesTokenCount: 198,
    thoughtsTokenCount: 405,
    totalTokenCount: 623,
  },
};
/** @type {[path: string, asked: object, answer: string | Buffer, told: unknown[]][]} */
const CALLS = [
  [
    "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse",
    { contents: [] },
    `data: ${JSON.stringify(GEMINI)}\r\n\r\n`,
    ["gemini-3-pro", 20, 603, "completed"],
  ],
  [
    "/v1beta/models/gemini-3-pro:streamGenerateContent",
    { contents: [] },
    `[${JSON.stringify(GEMINI)}\n]`,
    ["gemini-3-pro", 20, 603, "completed"],
  ],
  [
    "/v1beta/models/gemini-3-pro:generateContent",
    { contents: [] },
    JSON.stringify(GEMINI),
    ["gemini-3-pro", 20, 603, "completed"],
  ],
  [
    "/v1internal:streamGenerateContent?alt=sse",
    { model: "gemini-3-pro", request: {} },
    `data: ${JSON.stringify({ response: GEMINI })}\n\n`,
    ["gemini-3-pro", 20, 603, "completed"],
  ],
  [
    "/api/chat",
    { model: "qwen3", messages: [] },
    '{"model":"qwen3","message":{"content":"x"},"done":false}\n{"model":"qwen3","done":true,"done_reason":"stop","prompt_eval_count":77,"eval_count":8}\n',
    ["qwen3", 77, 8, "completed"],
  ],
  [
    "/api/generate",
    { model: "qwen3", prompt: "x", stream: false },
    '{"model":"qwen3","response":"x","done":true,"prompt_eval_count":77,"eval_count":8}',
    ["qwen3", 77, 8, "completed"],
  ],
  [
    "/model/amazon.nova-pro-v1%3A0/converse-stream",
    { messages: [] },
    Buffer.concat(
      [
        { delta: { text: "x" }, contentBlockIndex: 0 },
        { stopReason: "end_turn" },
        { usage: { inputTokens: 5, outputTokens: 6, totalTokens: 18, cacheReadInputTokens: 7 } },
      ].map(frame),
    ),
    ["amazon.nova-pro-v1:0", 12, 6, "completed"],
  ],
  [
    "/model/meta.llama4/invoke",
    { prompt: "x" },
    '{"generation":"x","prompt_token_count":5,"generation_token_count":6,"stop_reason":"stop"}',
    ["meta.llama4", 5, 6, "completed"],
  ],
  [
    "/v1/completions",
    { model: "davinci", prompt: "x" },
    '{"choices":[{"text":"x"}],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}',
    ["davinci", 4, 2, "completed"],
  ],
  [
    "/v1/responses/compact",
    { model: "gpt-5", input: [] },
    '{"id":"resp_c","object":"response.compaction","output":[],"usage":{"input_tokens":192000,"output_tokens":900,"total_tokens":192900}}',
    ["gpt-5", 192000, 900, "completed"],
  ],
];

for (const [path, asked, answer, expected] of CALLS)
  test(`counts ${path}`, async () => {
    const at = await world((_, response) => {
      const bytes = Buffer.from(answer);
      response.writeHead(200);
      response.write(bytes.subarray(0, bytes.length / 2));
      setImmediate(() => response.end(bytes.subarray(bytes.length / 2)));
    });
    try {
      const { body } = await get(`${at.url}${path}`, post(asked));
      assert.deepEqual(body, Buffer.from(answer));
      const [call] = await at.told(1);
      assert.deepEqual([told(call), at.passed], [expected, []]);
      // All other APIs are chats, which is not said.
      assert.equal(call.operation, path === "/v1/completions" ? "text_completion" : undefined);
    } finally {
      await at.close();
    }
  });

test("Bedrock's headers have usage that a model's own format lacks", async () => {
  const at = await world((_, response) => {
    response.setHeader("X-Amzn-Bedrock-Input-Token-Count", "5");
    response.setHeader("X-Amzn-Bedrock-Output-Token-Count", "6");
    response.end('{"outputs":[{"text":"x","stop_reason":"stop"}]}');
  });
  try {
    await get(`${at.url}/model/mistral.large/invoke`, post({ prompt: "x" }));
    const [call] = await at.told(1);
    assert.deepEqual(told(call), ["mistral.large", 5, 6, "completed"]);
  } finally {
    await at.close();
  }
});

test("a POST that reached a provider and is no call is reported by its path, other requests are not", async () => {
  // The path of the upstream's address may be a key.
  const at = await world((_, response) => response.end('{"object":"thread.message"}'), {
    path: "/open-sesame",
  });
  try {
    await get(`${at.url}/v1/embeddings?key=secret`, post({ model: "m" }));
    await get(`${at.url}/v1/threads/thread_1/messages`, post({ role: "user" }));
    // A path of calls, with an answer that is no call.
    await get(`${at.url}/v1/chat/completions`, post({ model: "m" }));
    await get(`${at.url}/v1/models`);
    await get(`${at.url}/v1/responses/resp_1`);
    for (let tries = 0; at.passed.length < 3 && tries < 200; tries += 1) await pause(5);
    assert.deepEqual(at.passed, [
      "up /v1/embeddings",
      "up /v1/threads/thread_1/messages",
      "up /v1/chat/completions",
    ]);
    assert.deepEqual([at.proxy.counts.calls, at.proxy.counts.uncounted], [0, 3]);
  } finally {
    await at.close();
  }
});

test("a background response counts once, when it is over", async () => {
  const base = {
    id: "resp_1",
    object: "response",
    background: true,
    created_at: 1_780_000_000,
    model: "gpt-5",
  };
  const usage = { input_tokens: 12, output_tokens: 3, total_tokens: 15 };
  const done = { ...base, status: "completed", completed_at: 1_780_000_009, output: [], usage };
  const answers = [
    { ...base, status: "queued", output: [], usage: null, error: null },
    { ...base, status: "in_progress", output: [], usage: null, error: null },
    done,
    done,
    // Fetching a response that was answered at once is no second call.
    { ...done, id: "resp_2", background: false },
  ];
  const at = await world((_, response) => response.end(JSON.stringify(answers.shift())));
  try {
    await get(`${at.url}/v1/responses`, post({ model: "gpt-5", background: true }));
    for (const id of [1, 1, 1, 2]) await get(`${at.url}/v1/responses/resp_${id}`);
    const [call] = await at.told(1);
    await pause(50);
    assert.deepEqual(at.calls.map(told), [[null, 12, 3, "completed"]]);
    const { started, ended, duration, response_model } = call;
    assert.deepEqual(
      [started, ended, duration, response_model],
      [1_780_000_000_000, 1_780_000_009_000, 9_000, "gpt-5"],
    );
    assert.deepEqual([at.proxy.counts.pending, at.passed], [1, []]);
  } finally {
    await at.close();
  }
});

test("status and log name the path of each uncounted POST once", async () => {
  const folder = await mkdtemp(join(tmpdir(), "agentwatch-uncounted-"));
  const { Pipeline } = await import(fileURLToPath(new URL("../../dist/pipeline.js", import.meta.url)));
  const { instantiate, priceTable } = await import("../../dist/base.js");
  /** @type {string[]} */
  const said = [];
  const log = {
    info: (/** @type {string} */ text) => void said.push(text),
    warn: (/** @type {string} */ text) => void said.push(text),
  };
  const clocks = { wall: () => Date.now(), mono: () => performance.now() };
  const open = async (/** @type {string} */ role) => {
    const host = { instantiate, priceTable, log, ...clocks, folder, role };
    const pipeline = new Pipeline(host, { url: "http://127.0.0.1:9" });
    await pipeline.open();
    return pipeline;
  };
  const owner = await open("gateway");
  const other = await open("proxy");
  try {
    for (const id of [1, 2])
      for (const pipeline of [owner, other])
        pipeline.accept("passed", [{ provider: "openai", path: `/v1/threads/thread_${id}/messages` }]);
    await other.journalled();
    const path = "openai /v1/threads/{id}/messages";
    for (let tries = 0; tries < 500 && owner.status().uncounted?.[path] !== 4; tries += 1) await pause(10);
    assert.deepEqual(owner.status().uncounted, { [path]: 4 });
    const lines = said.filter((line) => line.includes(path));
    assert.equal(lines.length, 2, said.join("\n"));
    const words = inWords({ owner: null, written_ms: 1, status: owner.status() }, Date.now());
    assert.ok(words.includes(`uncounted  4 POSTs to ${path}`), words.join("\n"));
  } finally {
    for (const pipeline of [other, owner]) {
      await pipeline.stop(100);
      await pipeline.close();
    }
    await rm(folder, { recursive: true, force: true });
  }
});
