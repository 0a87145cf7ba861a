/**
 * The wire formats of Gemini's and Ollama's own APIs, and of a compacted response, as lists of frames; see `wire.mjs`.
 *
 * @typedef {import("./wire.mjs").Frame} Frame
 * @typedef {import("./wire.mjs").Answer} Answer
 */

/**
 * The prompt's count has the cached part in it, and neither what tools put there nor the thoughts are in a count beside
 * them; the total is all of it.
 *
 * @param {import("./plan.mjs").Usage} usage
 */
function geminiUsage({ input, cacheRead, output, reasoning = 0, toolUse = 0 }) {
  const count = (/** @type {string} */ name, /** @type {number} */ tokens) =>
    tokens > 0 ? { [name]: tokens } : {};
  return {
    promptTokenCount: input - toolUse + cacheRead,
    candidatesTokenCount: output - reasoning,
    totalTokenCount: input + cacheRead + output,
    ...count("cachedContentTokenCount", cacheRead),
    ...count("thoughtsTokenCount", reasoning),
    ...count("toolUsePromptTokenCount", toolUse),
  };
}

/** @param {Answer} answer @returns {{ chunks: object[], last: object }} */
function geminiChunks({ id, model, pieces, tool, usage }) {
  const head = { modelVersion: model, responseId: id };
  const candidate = (/** @type {object} */ part, more = {}) => ({
    candidates: [{ index: 0, content: { role: "model", parts: [part] }, ...more }],
  });
  const parts = tool
    ? [{ functionCall: { name: tool.name, args: tool.args } }]
    : pieces.map((text) => ({ text }));
  return {
    chunks: parts.map((part) => ({ ...candidate(part), ...head })),
    last: {
      ...candidate({ text: "" }, { finishReason: "STOP" }),
      ...head,
      ...(usage ? { usageMetadata: geminiUsage(usage) } : {}),
    },
  };
}

/**
 * Gemini's `streamGenerateContent?alt=sse`: the last event has the final usage.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function geminiStream(answer) {
  const { chunks, last } = geminiChunks(answer);
  const event = (/** @type {object} */ chunk) => `data: ${JSON.stringify(chunk)}\r\n\r\n`;
  return [
    ...chunks.map((chunk) => ({ data: event(chunk), pauseMs: answer.pauseMs })),
    { data: event(last), usage: answer.usage !== undefined },
  ];
}

/**
 * The same as a JSON list, which is what comes without `alt=sse`.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function geminiList(answer) {
  const { chunks, last } = geminiChunks(answer);
  return [
    ...chunks.map((chunk, index) => ({
      data: `${index > 0 ? ",\r\n" : "["}${JSON.stringify(chunk)}\n`,
      pauseMs: answer.pauseMs,
    })),
    {
      data: `${chunks.length > 0 ? ",\r\n" : "["}${JSON.stringify(last)}]\n`,
      usage: answer.usage !== undefined,
    },
  ];
}

/**
 * `generateContent`.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function geminiWhole(answer) {
  const { last } = geminiChunks(answer);
  const { tool, pieces, usage } = answer;
  const part = tool ? { functionCall: { name: tool.name, args: tool.args } } : { text: pieces.join("") };
  const content = { role: "model", parts: [part] };
  const body = { ...last, candidates: [{ index: 0, content, finishReason: "STOP" }] };
  return [{ data: JSON.stringify(body), usage: usage !== undefined }];
}

/**
 * Ollama's `/api/chat`: a line each, of which the last has the counts. A client may leave behind it.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function ollamaStream({ model, pieces, pauseMs, tool, usage }) {
  const line = (/** @type {object} */ message, more = {}) =>
    `${JSON.stringify({ model, created_at: new Date().toISOString(), message: { role: "assistant", ...message }, done: false, ...more })}\n`;
  const calls = tool && [{ function: { name: tool.name, arguments: tool.args } }];
  const body = calls
    ? [{ data: line({ content: "", tool_calls: calls }) }]
    : pieces.map((content) => ({ data: line({ content }), pauseMs }));
  return [...body, { data: line({ content: "" }, ollamaEnd(usage)), usage: usage !== undefined }];
}

/**
 * The same, in one piece.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function ollamaWhole({ model, pieces, tool, usage }) {
  const calls = tool ? { tool_calls: [{ function: { name: tool.name, arguments: tool.args } }] } : {};
  const message = { role: "assistant", content: tool ? "" : pieces.join(""), ...calls };
  const body = { model, created_at: new Date().toISOString(), message, ...ollamaEnd(usage) };
  return [{ data: JSON.stringify(body), usage: usage !== undefined }];
}

/** @param {import("./plan.mjs").Usage | undefined} usage */
function ollamaEnd(usage) {
  const times = { total_duration: 9_000_000, load_duration: 1_000_000 };
  const counts = usage && {
    prompt_eval_count: usage.input + usage.cacheRead,
    eval_count: usage.output,
  };
  return { done: true, done_reason: "stop", ...times, ...counts };
}

/**
 * `/v1/responses/compact`: a response without a status.
 *
 * @param {Answer} answer
 * @returns {Frame[]}
 */
export function compactedResponse({ id, usage }) {
  const prompt = (usage?.input ?? 0) + (usage?.cacheRead ?? 0);
  const told = usage && {
    input_tokens: prompt,
    input_tokens_details: { cached_tokens: usage.cacheRead },
    output_tokens: usage.output,
    output_tokens_details: { reasoning_tokens: usage.reasoning ?? 0 },
    total_tokens: prompt + usage.output,
  };
  const body = {
    id,
    object: "response.compaction",
    created_at: Math.floor(Date.now() / 1000),
    output: [{ type: "compaction", id: `cmp_${id}`, encrypted_content: "x" }],
    ...(told ? { usage: told } : {}),
  };
  return [{ data: JSON.stringify(body), usage: usage !== undefined }];
}
