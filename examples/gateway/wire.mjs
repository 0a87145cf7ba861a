/**
 * The two wire formats, as lists of frames: which frame carries the usage is all that the provider has to know.
 *
 * @typedef {{ data: string, pauseMs?: number, announces?: boolean, usage?: boolean }} Frame
 *   `announces`: tells a first usage that may still change. `usage`: with it the client has the final usage.
 *
 * @typedef {object} Answer
 * @property {string} id
 * @property {string} model
 * @property {string[]} pieces The text, in the pieces in which it is streamed.
 * @property {number} pauseMs Between pieces.
 * @property {{ name: string, args: Record<string, unknown> } | undefined} tool
 * @property {import("./plan.mjs").Usage | undefined} usage Absent: the answer tells none.
 */

const SECOND = 1000;

/** @param {unknown} value */
const sse = (value) => `data: ${JSON.stringify(value)}\n\n`;

/** @param {import("./plan.mjs").Usage} usage */
function openaiUsage({ input, cacheRead, cacheWrite, output, reasoning = 0 }) {
  const prompt = input + cacheRead + cacheWrite;
  return {
    prompt_tokens: prompt,
    completion_tokens: output,
    total_tokens: prompt + output,
    prompt_tokens_details: { cached_tokens: cacheRead },
    ...(reasoning > 0 ? { completion_tokens_details: { reasoning_tokens: reasoning } } : {}),
  };
}

/**
 * OpenAI chat completions, streamed: the usage is the last chunk before `[DONE]`.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function openaiStream({ id, model, pieces, pauseMs, tool, usage }) {
  const head = { id, object: "chat.completion.chunk", created: Math.floor(Date.now() / SECOND), model };
  const chunk = (/** @type {object} */ delta, /** @type {string | null} */ finish = null) =>
    sse({ ...head, choices: [{ index: 0, delta, finish_reason: finish }] });
  const body = tool
    ? [
        {
          data: chunk({
            tool_calls: [{ index: 0, id: `call_${id}`, type: "function", function: callOf(tool) }],
          }),
        },
      ]
    : pieces.map((content) => ({ data: chunk({ content }), pauseMs }));
  return [
    { data: chunk({ role: "assistant", content: tool ? null : "" }) },
    ...body,
    { data: chunk({}, tool ? "tool_calls" : "stop") },
    ...(usage ? [{ data: sse({ ...head, choices: [], usage: openaiUsage(usage) }), usage: true }] : []),
    { data: "data: [DONE]\n\n" },
  ];
}

/** @param {{ name: string, args: Record<string, unknown> }} tool */
function callOf(tool) {
  return { name: tool.name, arguments: JSON.stringify(tool.args) };
}

/**
 * The same, in one piece.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function openaiWhole({ id, model, pieces, tool, usage }) {
  const calls = tool && [{ id: `call_${id}`, type: "function", function: callOf(tool) }];
  const message = {
    role: "assistant",
    content: tool ? null : pieces.join(""),
    ...(calls ? { tool_calls: calls } : {}),
  };
  const body = {
    id,
    object: "chat.completion",
    created: Math.floor(Date.now() / SECOND),
    model,
    choices: [{ index: 0, message, finish_reason: tool ? "tool_calls" : "stop" }],
    ...(usage ? { usage: openaiUsage(usage) } : {}),
  };
  return [{ data: JSON.stringify(body), usage: usage !== undefined }];
}

/** @param {import("./plan.mjs").Usage} usage @param {number} output */
function anthropicUsage({ compaction, ...usage }, output) {
  const told = (/** @type {number} */ input, /** @type {number} */ output) => ({
    input_tokens: input,
    cache_read_input_tokens: usage.cacheRead,
    cache_creation_input_tokens: usage.cacheWrite,
    output_tokens: output,
  });
  // What a compaction took stands in no other count: https://platform.claude.com/docs/en/build-with-claude/compaction
  const own = told(usage.input - (compaction?.input ?? 0), Math.max(1, output - (compaction?.output ?? 0)));
  if (!compaction || output !== usage.output) return own;
  const summary = { type: "compaction", input_tokens: compaction.input, output_tokens: compaction.output };
  return { ...own, iterations: [summary, { type: "message", ...own }] };
}

/**
 * Anthropic messages, streamed: the prompt's usage comes first, the output's count last, in `message_delta`.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function anthropicStream({ id, model, pieces, pauseMs, tool, usage }) {
  const frame = (/** @type {{ type: string, [field: string]: unknown }} */ value) =>
    `event: ${value.type}\n${sse(value)}`;
  const start = { ...anthropicMessage(id, model), content: [], stop_reason: null };
  const block = tool
    ? { type: "tool_use", id: `toolu_${id}`, name: tool.name, input: {} }
    : { type: "text", text: "" };
  const deltas = tool
    ? [{ type: "input_json_delta", partial_json: JSON.stringify(tool.args) }]
    : pieces.map((text) => ({ type: "text_delta", text }));
  const end = { stop_reason: tool ? "tool_use" : "end_turn", stop_sequence: null };
  return [
    {
      data: frame({
        type: "message_start",
        message: { ...start, usage: usage ? anthropicUsage(usage, 1) : {} },
      }),
      announces: usage !== undefined,
    },
    { data: frame({ type: "content_block_start", index: 0, content_block: block }) },
    ...deltas.map((delta) => ({ data: frame({ type: "content_block_delta", index: 0, delta }), pauseMs })),
    { data: frame({ type: "content_block_stop", index: 0 }) },
    {
      data: frame({
        type: "message_delta",
        delta: end,
        usage: usage ? anthropicUsage(usage, usage.output) : {},
      }),
      usage: usage !== undefined,
    },
    { data: frame({ type: "message_stop" }) },
  ];
}

/** @param {string} id @param {string} model */
function anthropicMessage(id, model) {
  return { id, type: "message", role: "assistant", model, stop_sequence: null };
}

/**
 * The same, in one piece.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function anthropicWhole({ id, model, pieces, tool, usage }) {
  const content = tool
    ? [{ type: "tool_use", id: `toolu_${id}`, name: tool.name, input: tool.args }]
    : [{ type: "text", text: pieces.join("") }];
  const body = {
    ...anthropicMessage(id, model),
    content,
    stop_reason: tool ? "tool_use" : "end_turn",
    usage: usage ? anthropicUsage(usage, usage.output) : {},
  };
  return [{ data: JSON.stringify(body), usage: usage !== undefined }];
}
