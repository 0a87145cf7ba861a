import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { DIRECTIVE, planOfDirectives, textOf, usageOf, withMore } from "./plan.mjs";
import { apiOf, lastTurn, requestOf } from "./requests.mjs";
import { anthropicStream, anthropicWhole, openaiStream, openaiWhole } from "./wire.mjs";
import {
  compactedResponse,
  geminiList,
  geminiStream,
  geminiWhole,
  ollamaStream,
  ollamaWhole,
} from "./wire-native.mjs";

/**
 * One HTTP request to the provider: the truth that everything else is compared with.
 *
 * @typedef {object} LedgerEntry
 * @property {number} k
 * @property {number} ts When the request's headers had come, Unix ms.
 * @property {string} url
 * @property {import("./requests.mjs").ApiName} api
 * @property {string} model
 * @property {boolean} stream
 * @property {boolean} usageAsked Whether the client asked for usage in its stream.
 * @property {import("./plan.mjs").Plan} plan
 * @property {string} prompt The first 80 characters of the turn that it belongs to.
 * @property {string | null} id The answer's id; null for an error.
 * @property {number} status
 * @property {number | null} ms From the request's headers to the last byte written; null while it runs.
 * @property {boolean} clientClosed The client went away before the end.
 * @property {import("./plan.mjs").Usage | null} usage Set only once its bytes were accepted by an open socket.
 * @property {import("./plan.mjs").Usage | null} announced Anthropic only: told by `message_start`, never confirmed.
 * @property {"open" | "answered" | "error" | "cut" | "no_usage"} outcome
 */

/** @typedef {{ input: number, output: number, cacheRead: number, cacheWrite: number }} Price USD per 1M tokens. */

/** @typedef {Record<import("./requests.mjs").ApiName, string>} Names By format. */

/** @type {Names} */
export const DEFAULT_NAMES = {
  openai: "mock",
  anthropic: "mockant",
  gemini: "mockgem",
  ollama: "mockollama",
  compact: "mock",
};

/** @typedef {"all" | "request" | "nothing"} Told How much of a request a dashboard can know: each has less. */

/** @type {Price} */
export const DEFAULT_PRICE = { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 3.75 };

/**
 * @typedef {object} ProviderOptions
 * @property {number} [port] Default: a free one.
 * @property {import("./plan.mjs").Script} [script]
 * @property {number} [delayMs] Before the first byte of an answer.
 * @property {Record<string, Price>} [prices] By model; `DEFAULT_PRICE` for the others.
 * @property {Partial<Names>} [names] The providers' names in OpenClaw's configuration.
 * @property {(entry: LedgerEntry) => void} [onEntry] Called when a request has ended.
 */

/** @typedef {Awaited<ReturnType<typeof createProvider>>} Provider */

/**
 * A model provider on the loopback interface that answers as it is told and keeps an exact ledger of what it sent.
 * It speaks OpenAI chat completions (`/v1/chat/completions`) and compactions (`/v1/responses/compact`), Anthropic messages
 * (`/v1/messages`), and the own APIs of Gemini (`/v1beta/models/…:generateContent`) and Ollama (`/api/chat`).
 *
 * @param {ProviderOptions} [options]
 */
export async function createProvider(options = {}) {
  const { prices = {} } = options;
  const names = { ...DEFAULT_NAMES, ...options.names };
  /** @type {State} */
  const state = { ledger: [], script: options.script, attempts: new Map(), meeting: [], options };
  const server = createServer((request, response) => {
    serve(state, request, response).catch(() => response.destroy());
  });
  server.listen(options.port ?? 0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    port,
    baseUrl: `http://127.0.0.1:${port}`,
    /** @type {readonly LedgerEntry[]} */
    ledger: state.ledger,
    /**
     * Per model, what a dashboard has to show; of some of the requests only, or less of them, if asked.
     *
     * @param {(entry: LedgerEntry) => Told} [told]
     */
    totals: (told) => totals(state.ledger, prices, names, told),
    /** The requests that count in `totals`, one by one. */
    requests: () => requests(state.ledger, names),
    /** Replaces the script; undefined leaves only directives. @param {import("./plan.mjs").Script} [script] */
    script: (script) => {
      state.script = script;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * @typedef {object} State
 * @property {LedgerEntry[]} ledger
 * @property {import("./plan.mjs").Script | undefined} script
 * @property {Map<string, number>} attempts
 * @property {(() => void)[]} meeting Lets those go that wait for others.
 * @property {ProviderOptions} options
 */

/**
 * @param {State} state
 * @param {import("node:http").IncomingMessage} request
 * @param {import("node:http").ServerResponse} response
 */
async function serve(state, request, response) {
  const ts = Date.now();
  const begun = performance.now();
  const url = request.url ?? "";
  const api = apiOf(url);
  if (request.method !== "POST" || !api) return void response.writeHead(404).end("{}");
  const body = JSON.parse(await textOfBody(request));
  const { isList, ...asked } = describe(state, api, url, body);
  const plan = { ...(state.script?.(asked) ?? planOfDirectives(asked)) };
  /** @type {LedgerEntry} */
  const entry = {
    k: asked.k,
    ts,
    url,
    api,
    model: asked.model,
    stream: asked.stream,
    usageAsked: api !== "openai" || !asked.stream || body.stream_options?.include_usage === true,
    plan,
    prompt: asked.prompt.slice(0, 80),
    id: null,
    status: 200,
    ms: null,
    clientClosed: false,
    usage: null,
    announced: null,
    outcome: "open",
  };
  state.ledger.push(entry);
  response.on("close", () => {
    if (!response.writableFinished && entry.outcome === "open") entry.clientClosed = true;
  });
  if (plan.together) await meet(state, plan.together);
  await answer(entry, plan, response, isList, state.options.delayMs ?? 0).catch(() => {});
  entry.ms = Math.round(performance.now() - begun);
  entry.outcome = outcomeOf(entry, plan);
  if (entry.usage) entry.announced = null;
  state.options.onEntry?.(entry);
}

/** Until so many requests wait here. @param {State} state @param {number} wanted */
async function meet({ meeting }, wanted) {
  await new Promise((resolve) => {
    meeting.push(() => resolve(undefined));
    if (meeting.length >= wanted) for (const go of meeting.splice(0)) go();
  });
}

/** @param {import("node:http").IncomingMessage} request */
async function textOfBody(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/**
 * @param {State} state
 * @param {import("./requests.mjs").ApiName} api
 * @param {string} url
 * @param {any} body
 * @returns {import("./plan.mjs").ScriptRequest & { isList: boolean }}
 */
function describe(state, api, url, body) {
  const { messages, model, ...asked } = requestOf(api, url, body);
  const { prompt, toolRounds } = lastTurn(messages);
  // Newer gateways put words of their own around the message when they try again; the directives stay.
  const attempt = countAttempt(
    state,
    `${model} ${toolRounds} ${[...new Set(prompt.match(DIRECTIVE))].join("")}`,
  );
  return { k: state.ledger.length + 1, api, model, prompt, toolRounds, attempt, body, ...asked };
}

/** @param {State} state @param {string} key */
function countAttempt({ attempts }, key) {
  const attempt = (attempts.get(key) ?? 0) + 1;
  attempts.set(key, attempt);
  return attempt;
}

/**
 * @param {LedgerEntry} entry
 * @param {import("./plan.mjs").Plan} plan
 * @param {import("node:http").ServerResponse} response
 * @param {boolean} isList
 * @param {number} delayMs
 */
async function answer(entry, plan, response, isList, delayMs) {
  await sleep(plan.delayMs ?? delayMs);
  if (plan.status) return refuse(entry, plan, response);
  entry.id = plan.responseId ?? newId(entry);
  const usage = withMore(plan.usage ?? usageOf(entry.k, entry.api), plan);
  const tells = !plan.noUsage && (entry.usageAsked || plan.usageUnasked === true);
  const frames = framesOf(entry, plan, isList, tells ? usage : undefined);
  response.writeHead(200, { "content-type": typeOf(entry, isList) });
  const end = plan.cut ? Math.floor(frames.length / 2) : frames.length;
  for (const frame of frames.slice(0, end)) {
    if (frame.pauseMs) await sleep(frame.pauseMs);
    if (!(await accepted(response, frame.data))) return;
    if (frame.announces) entry.announced = { ...usage, output: 1 };
    if (frame.usage) entry.usage = usage;
  }
  if (plan.cut) return void response.destroy();
  await new Promise((resolve) => response.end(() => resolve(undefined)));
}

/** @param {LedgerEntry} entry @param {boolean} isList */
function typeOf({ api, stream }, isList) {
  if (!stream || isList) return "application/json";
  return api === "ollama" ? "application/x-ndjson" : "text/event-stream";
}

const ID_BEGINS = {
  openai: "chatcmpl-",
  anthropic: "msg_",
  gemini: "gem-",
  ollama: "lama-",
  compact: "resp_",
};

/** @param {LedgerEntry} entry */
function newId({ k, api }) {
  return `${ID_BEGINS[api]}${String(k).padStart(8, "0")}`;
}

/**
 * @param {LedgerEntry} entry
 * @param {import("./plan.mjs").Plan} plan
 * @param {boolean} isList
 * @param {import("./plan.mjs").Usage | undefined} usage
 */
function framesOf(entry, plan, isList, usage) {
  const answer = {
    id: entry.id ?? "",
    model: entry.model,
    pieces: split(textOf(plan, entry.k), plan.drip?.pieces ?? 4),
    pauseMs: plan.drip?.everyMs ?? 5,
    tool: plan.tool,
    usage,
  };
  const [stream, whole] = WRITERS[entry.api];
  if (isList) return geminiList(answer);
  return entry.stream ? stream(answer) : whole(answer);
}

/** @typedef {(answer: import("./wire.mjs").Answer) => import("./wire.mjs").Frame[]} Writer */

/** What writes an answer of each format, streamed and whole. @type {Record<import("./requests.mjs").ApiName, [Writer, Writer]>} */
const WRITERS = {
  openai: [openaiStream, openaiWhole],
  anthropic: [anthropicStream, anthropicWhole],
  gemini: [geminiStream, geminiWhole],
  ollama: [ollamaStream, ollamaWhole],
  compact: [compactedResponse, compactedResponse],
};

/** @param {string} text @param {number} pieces */
function split(text, pieces) {
  const size = Math.max(1, Math.ceil(text.length / pieces));
  return Array.from({ length: Math.ceil(text.length / size) }, (_, i) =>
    text.slice(i * size, (i + 1) * size),
  );
}

/**
 * @param {LedgerEntry} entry
 * @param {import("./plan.mjs").Plan} plan
 * @param {import("node:http").ServerResponse} response
 */
async function refuse(entry, plan, response) {
  entry.status = plan.status ?? 500;
  const headers = {
    "content-type": "application/json",
    ...(plan.retryAfter ? { "retry-after": String(plan.retryAfter) } : {}),
  };
  const type = entry.status === 429 ? "rate_limit_error" : "api_error";
  const body = JSON.stringify({
    type: "error",
    error: { type, message: plan.errorText ?? `scripted ${entry.status}` },
  });
  await new Promise((resolve) =>
    response.writeHead(entry.status, headers).end(body, () => resolve(undefined)),
  );
}

/**
 * Writes, and tells whether the socket took all of it and is still open.
 *
 * @param {import("node:http").ServerResponse} response
 * @param {string} data
 * @returns {Promise<boolean>}
 */
function accepted(response, data) {
  const socket = response.socket;
  if (!socket || socket.destroyed) return Promise.resolve(false);
  return new Promise((resolve) => {
    const gone = () => resolve(false);
    response.once("close", gone);
    response.write(data, (error) => {
      response.off("close", gone);
      resolve(!error && !socket.destroyed);
    });
  });
}

/**
 * @param {LedgerEntry} entry
 * @param {import("./plan.mjs").Plan} plan
 * @returns {LedgerEntry["outcome"]}
 */
function outcomeOf(entry, plan) {
  if (entry.status !== 200) return "error";
  if (entry.usage) return "answered";
  return plan.cut || entry.clientClosed ? "cut" : "no_usage";
}

/**
 * @typedef {object} ModelTotals
 * @property {string} model `provider/model`
 * @property {number} requests Answers with usage, be it only announced (Anthropic), and good answers without.
 * @property {number} prompt_tokens
 * @property {number} completion_tokens
 * @property {number} cost_usd
 * @property {number} errors Error statuses, and streams cut before their usage.
 * @property {number} no_usage Good answers without usage (they are in `requests`, with no tokens).
 */

/**
 * @param {LedgerEntry[]} ledger
 * @param {Record<string, Price>} prices
 * @param {Names} names
 * @param {(entry: LedgerEntry) => Told} [told]
 * @returns {ModelTotals[]} Sorted by model.
 */
export function totals(ledger, prices, names, told = () => "all") {
  /** @type {Map<string, ModelTotals>} */
  const byModel = new Map();
  for (const entry of ledger) {
    const known = told(entry);
    if (entry.outcome === "open" || known === "nothing") continue;
    const model = `${names[entry.api]}/${entry.model}`;
    const sum = byModel.get(model) ?? emptyTotals(model);
    byModel.set(model, sum);
    const usage = entry.usage ?? entry.announced;
    const isFailure = entry.outcome === "error" || entry.outcome === "cut";
    if (isFailure) sum.errors += 1;
    // A provider bills what `message_start` announced, although the stream was cut behind it.
    if (usage || !isFailure) sum.requests += 1;
    if (entry.outcome === "no_usage") sum.no_usage += 1;
    if (usage && known !== "request") addUsage(sum, usage, prices[entry.model] ?? DEFAULT_PRICE);
  }
  return [...byModel.values()].sort((a, b) => a.model.localeCompare(b.model));
}

/**
 * The requests that a dashboard shows.
 *
 * @param {LedgerEntry[]} ledger @param {Names} names
 * @returns {import("./differing.mjs").Request[]}
 */
function requests(ledger, names) {
  return ledger.flatMap((entry) => {
    const usage = entry.usage ?? entry.announced;
    if (entry.outcome === "open" || (!usage && entry.outcome !== "answered" && entry.outcome !== "no_usage"))
      return [];
    const sum = emptyTotals(`${names[entry.api]}/${entry.model}`);
    if (usage) addUsage(sum, usage, DEFAULT_PRICE);
    const { model, prompt_tokens, completion_tokens } = sum;
    return [{ model, prompt_tokens, completion_tokens, at: entry.ts + (entry.ms ?? 0), turn: entry.prompt }];
  });
}

/** @param {string} model @returns {ModelTotals} */
function emptyTotals(model) {
  return { model, requests: 0, prompt_tokens: 0, completion_tokens: 0, cost_usd: 0, errors: 0, no_usage: 0 };
}

/**
 * @param {{ prompt_tokens: number, completion_tokens: number, cost_usd: number }} sum
 * @param {import("./plan.mjs").Usage} usage
 * @param {Price} price
 */
function addUsage(sum, usage, price) {
  sum.prompt_tokens += usage.input + usage.cacheRead + usage.cacheWrite;
  sum.completion_tokens += usage.output;
  const { input, cacheRead, cacheWrite, output } = usage;
  const microUsd =
    input * price.input + cacheRead * price.cacheRead + cacheWrite * price.cacheWrite + output * price.output;
  sum.cost_usd += microUsd / 1_000_000;
}
