/**
 * What the scripted provider answers to one request. Everything is optional: an empty plan is a short text.
 *
 * @typedef {object} Plan
 * @property {string} [text] The answer's text.
 * @property {number} [length] Pads the text to so many characters.
 * @property {number} [delayMs] Pause before the first byte (default: the provider's).
 * @property {number} [together] Answer so many such requests at the same moment, once all of them are here.
 * @property {{ name: string, args: Record<string, unknown> }} [tool] Answer with a call of this tool, no text.
 * @property {number} [status] Answer with this HTTP error.
 * @property {number} [retryAfter] `Retry-After` of that error, in seconds.
 * @property {string} [errorText] The words of that error.
 * @property {boolean} [cut] Send half of the stream, then destroy the socket, before the final usage.
 * @property {{ pieces: number, everyMs: number }} [drip] Send the text in so many slow pieces.
 * @property {boolean} [noUsage] Leave the usage out.
 * @property {boolean} [usageUnasked] Send usage in an OpenAI stream even if `stream_options.include_usage` is absent.
 * @property {string} [responseId] Instead of a new one per answer: some servers repeat theirs.
 * @property {Usage} [usage] Instead of the request's own, unique counts.
 * @property {number} [reasoning] So many tokens more in the answer, which are told as reasoning.
 * @property {number} [toolUse] So many tokens more in the prompt, which tools put there: told by Gemini alone.
 * @property {{ input: number, output: number }} [compaction] A compaction before the answer, told by Anthropic alone.
 */

/**
 * Tokens as OpenClaw counts them, and as they are billed: `input` without the cached ones, with what tools and a compaction
 * took; `output` with reasoning, and with what a compaction wrote.
 *
 * @typedef {{ input: number, cacheRead: number, cacheWrite: number, output: number, reasoning?: number, toolUse?: number, compaction?: { input: number, output: number } }} Usage
 */

/**
 * What a script may decide by.
 *
 * @typedef {object} ScriptRequest
 * @property {number} k Number of the request, from 1.
 * @property {import("./requests.mjs").ApiName} api
 * @property {string} model
 * @property {boolean} stream
 * @property {string} prompt Text of the user's turn that is being answered.
 * @property {number} toolRounds Rounds of tool results that came after that turn.
 * @property {number} attempt How often the same request (prompt, round and model) has come, this one included.
 * @property {string[]} tools Names of the tools on offer.
 * @property {any} body The request's body.
 */

/**
 * Returns a plan, or undefined for "as the directives in the prompt say".
 *
 * @typedef {(request: ScriptRequest) => Plan | undefined} Script
 */

/** Directives look like `[[tools 2]]`; there may be several. */
export const DIRECTIVE = /\[\[(\w+)([^\]]*)\]\]/g;

/**
 * The plan that a person or a test wrote into the message itself:
 *
 * | directive | answer |
 * | --- | --- |
 * | `[[length 5000]]` | a text of 5000 characters |
 * | `[[delay 500]]` | first byte after 500 ms |
 * | `[[together 2]]` | once two such requests are here, both at the same moment |
 * | `[[tools 2]]` | two rounds of the tool `read`, then a text |
 * | `[[spawn TASK]]` | a subagent with that task, then a text |
 * | `[[fail 500]]`, `[[fail 429 m1]]`, `[[fail 500 2]]` | that status: always, for model m1, for the first 2 attempts |
 * | `[[cut]]` | the stream breaks in the middle |
 * | `[[drip 40 250]]` | 40 pieces, one every 250 ms |
 * | `[[nousage]]` | no usage in the answer |
 * | `[[sameid]]` | always the same response id |
 * | `[[usage 10 20 0 5]]` | input, cache read, cache write, output tokens |
 * | `[[reasoning 30]]` | 30 tokens of reasoning in the answer |
 * | `[[tooluse 40]]` | 40 tokens that tools put into the prompt (Gemini) |
 * | `[[compaction 500 60]]` | a compaction that took 500 tokens and wrote 60 (Anthropic) |
 *
 * @param {ScriptRequest} request
 * @returns {Plan}
 */
export function planOfDirectives(request) {
  if (isCompaction(request)) return { text: SUMMARY };
  if (!isTurn(request)) return {};
  const plans = [...request.prompt.matchAll(DIRECTIVE)].map(([, name = "", rest = ""]) => {
    return DIRECTIVES[name]?.(rest.trim(), request) ?? {};
  });
  return Object.assign({}, ...plans);
}

/** @type {Record<string, (rest: string, request: ScriptRequest) => Plan>} */
const DIRECTIVES = {
  length: (rest) => ({ length: Number(rest) }),
  delay: (rest) => ({ delayMs: Number(rest) }),
  together: (rest) => ({ together: Number(rest) }),
  tools: (rest, { toolRounds }) => (toolRounds < Number(rest || 1) ? readNote() : {}),
  spawn: (task, request) => (request.toolRounds === 0 ? spawnSubagent(task, request.tools) : {}),
  fail: (rest, request) => failure(rest, request),
  cut: () => ({ cut: true }),
  drip: (rest) => {
    const [pieces = 40, everyMs = 250] = rest.split(/\s+/).filter(Boolean).map(Number);
    return { drip: { pieces, everyMs } };
  },
  nousage: () => ({ noUsage: true }),
  sameid: () => ({ responseId: "chatcmpl-417" }),
  usage: (rest) => {
    const [input = 0, cacheRead = 0, cacheWrite = 0, output = 0] = rest.split(/\s+/).map(Number);
    return { usage: { input, cacheRead, cacheWrite, output } };
  },
  reasoning: (rest) => ({ reasoning: Number(rest) }),
  tooluse: (rest) => ({ toolUse: Number(rest) }),
  compaction: (rest) => {
    const [input = 0, output = 0] = rest.split(/\s+/).map(Number);
    return { compaction: { input, output } };
  },
};

/** Newer gateways throw a summary away that does not have these sections, or does not mention the last request. */
const SUMMARY = `## Decisions
The user asked for turn 1 to turn 6 and got long answers with length 20000.

## Open TODOs
None.

## Constraints/Rules
None.

## Pending user asks
None.

## Exact identifiers
None captured.`;

/** @param {ScriptRequest} request */
function isCompaction({ prompt }) {
  return prompt.includes("<conversation>");
}

/**
 * A title for a session quotes the conversation, its directives included: they are not meant for it.
 *
 * @param {ScriptRequest} request
 */
function isTurn({ prompt }) {
  return prompt.length < 20_000 && !/filename slug/i.test(prompt);
}

function readNote() {
  return { tool: { name: "read", args: { path: "note.txt" } } };
}

/**
 * Newer gateways do not show all their tools: a model reaches the others through `tool_call`.
 *
 * @param {string} task
 * @param {string[]} tools
 * @returns {Plan}
 */
function spawnSubagent(task, tools) {
  const args = { task: task || "say hello", label: "helper" };
  if (tools.includes("sessions_spawn")) return { tool: { name: "sessions_spawn", args } };
  return { tool: { name: "tool_call", args: { id: "sessions_spawn", args } } };
}

/**
 * @param {string} rest
 * @param {ScriptRequest} request
 * @returns {Plan}
 */
function failure(rest, { model, attempt }) {
  const [status = "500", ...limits] = rest.split(/\s+/);
  const applies = limits.every((limit) => (/^\d+$/.test(limit) ? attempt <= Number(limit) : limit === model));
  if (!applies) return {};
  return { status: Number(status), ...(status === "429" ? { retryAfter: 1 } : {}) };
}

/** The text of an answer. @param {Plan} plan @param {number} k */
export function textOf(plan, k) {
  const text = plan.text ?? `Answer ${k}.`;
  const length = plan.length ?? text.length;
  return text.length >= length
    ? text
    : `${text} ${"lorem ipsum dolor sit amet ".repeat(length / 27 + 1)}`.slice(0, length);
}

/**
 * Counts that no other request has, so that whatever reports them can be matched to its request.
 *
 * @param {number} k
 * @param {import("./requests.mjs").ApiName} api Only Anthropic tells cache writes, Ollama tells of no cache, and Gemini thinks.
 * @returns {Usage}
 */
export function usageOf(k, api) {
  const usage = {
    input: 100 + k,
    cacheRead: api === "ollama" ? 0 : 600 + k,
    cacheWrite: api === "anthropic" ? 300 + k : 0,
    output: 20 + k,
  };
  return api === "gemini" ? { ...usage, output: usage.output + 40, reasoning: 40 } : usage;
}

/**
 * The usage with what a plan adds to it.
 *
 * @param {Usage} usage
 * @param {Plan} plan
 * @returns {Usage}
 */
export function withMore(usage, { reasoning = 0, toolUse = 0, compaction }) {
  return {
    ...usage,
    input: usage.input + toolUse + (compaction?.input ?? 0),
    output: usage.output + reasoning + (compaction?.output ?? 0),
    reasoning: (usage.reasoning ?? 0) + reasoning,
    toolUse,
    ...(compaction ? { compaction } : {}),
  };
}
