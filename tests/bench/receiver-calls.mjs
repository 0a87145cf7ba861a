/**
 * Generated model calls in the shape of the plugin's records, for measuring and showing the receiver.
 * The same seed gives the same calls.
 */

/**
 * @typedef {object} Sample
 * @property {number} calls
 * @property {number} [models] Up to a hundred.
 * @property {number} [days] Number of days; the last ends at `until`.
 * @property {number} [until] End, in ms since 1970.
 * @property {number} [seed]
 */

/** Prices in USD per million tokens, latency in ms, and share of calls. */
const KNOWN = [
  { name: "anthropic/claude-opus-4-6", input: 5, output: 25, ms: 9200, weight: 10 },
  { name: "anthropic/claude-sonnet-4-6", input: 3, output: 15, ms: 4800, weight: 30 },
  { name: "openai/gpt-5.2", input: 1.75, output: 14, ms: 6400, weight: 16 },
  { name: "openai/gpt-5-mini", input: 0.25, output: 2, ms: 2100, weight: 14 },
  { name: "google/gemini-3-pro", input: 2, output: 12, ms: 5200, weight: 9 },
  { name: "google/gemini-3-flash", input: 0.5, output: 3, ms: 1300, weight: 11 },
  { name: "openrouter/moonshotai/kimi-k2.5", input: 0.6, output: 2.5, ms: 3700, weight: 6 },
  { name: "ollama/qwen3-coder:30b", input: 0, output: 0, ms: 7600, weight: 4, source: "unknown" },
  { name: "openai-codex/gpt-5.2-codex", input: 0, output: 0, ms: 7100, weight: 5, source: "subscription" },
];
const AGENTS = /** @type {const} */ ([
  ["main", 40, "user"],
  ["research", 22, "user"],
  ["coder", 18, "subagent"],
  ["mailbox", 12, "cron"],
  ["watch", 8, "heartbeat"],
]);
const GATEWAYS = ["atlas-k3fd", "nas-x2pq"];
/** Calls by hour of the day, UTC. */
const HOURS = [2, 1, 1, 1, 1, 2, 4, 8, 13, 16, 17, 15, 12, 15, 17, 18, 17, 14, 11, 10, 9, 7, 5, 3];
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A generator of numbers from 0 to 1, the same for the same seed (xorshift32). @param {number} seed */
function random(seed) {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** @template T @param {readonly T[]} all @param {(one: T) => number} weight */
function chooser(all, weight) {
  const total = all.reduce((sum, one) => sum + weight(one), 0);
  return (/** @type {number} */ share) => {
    let rest = share * total;
    for (const one of all) {
      rest -= weight(one);
      if (rest < 0) return one;
    }
    return /** @type {T} */ (all[all.length - 1]);
  };
}

/** @param {number} count */
function modelsOf(count) {
  const more = Array.from({ length: Math.max(0, count - KNOWN.length) }, (_, index) => ({
    name: `openrouter/vendor-${String.fromCharCode(97 + (index % 26))}/model-${index + 1}`,
    input: 0.1 + (index % 7) * 0.4,
    output: 0.4 + (index % 11) * 1.3,
    ms: 900 + (index % 13) * 600,
    weight: 1,
  }));
  return [...KNOWN, ...more].slice(0, count);
}

/** @param {number} index @param {number} at */
function id(index, at) {
  const time = at.toString(16).padStart(12, "0");
  const rest = index.toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-${rest}`;
}

/**
 * Calls in the order of their times, each with the fields of `model_usage`.
 *
 * @param {Sample} sample
 */
export function* sampleCalls({ calls, models = KNOWN.length, days = 30, until = Date.now(), seed = 1 }) {
  const next = random(seed * 7919 + 17);
  const model = chooser(modelsOf(models), ({ weight }) => weight);
  const agent = chooser(AGENTS, ([, weight]) => weight);
  const from = until - days * DAY_MS;
  // Share of the calls up to the end of each hour.
  const hours = Math.ceil((days * DAY_MS) / HOUR_MS);
  const weights = Array.from({ length: hours }, (_, hour) => {
    const at = new Date(from + hour * HOUR_MS);
    const weekend = [0, 6].includes(at.getUTCDay()) ? 0.45 : 1;
    return (HOURS[at.getUTCHours()] ?? 1) * weekend * (0.8 + 0.4 * next());
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let [index, passed] = [0, 0];
  for (const [hour, weight] of weights.entries()) {
    passed += weight;
    const upTo = Math.round((passed / total) * calls);
    const count = upTo - index;
    for (let place = 0; place < count; place++, index++) {
      const at = Math.floor(from + (hour + (place + next()) / count) * HOUR_MS);
      yield call(index, Math.min(at, until), next, model(next()), agent(next()));
    }
  }
}

/**
 * @param {number} index @param {number} at @param {() => number} next
 * @param {ReturnType<typeof modelsOf>[number] & { source?: string }} model
 * @param {readonly [string, number, string]} agent
 */
function call(index, at, next, model, [agent, , trigger]) {
  const prompt = Math.round(1500 + 22_000 * next() ** 2.2);
  const output = Math.round(40 + 1400 * next() ** 3);
  const hasCache = model.name.startsWith("anthropic/") || model.name.startsWith("openai/");
  const cached = hasCache && next() < 0.75 ? Math.round(prompt * (0.45 + 0.5 * next())) : 0;
  const failed = next() < 0.004;
  const isRouted = model.name.startsWith("openrouter/moonshotai/") && next() < 0.06;
  const isMissing = model.source === "unknown" && next() < 0.02;
  const source = model.source ?? (next() < 0.9 ? "openclaw" : "provider");
  const dollars = ((prompt - cached + cached * 0.1) * model.input + output * model.output) / 1e6;
  const session = Math.floor(at / (3 * HOUR_MS)) * 8 + (index % 8);
  const latency = model.ms * (0.35 + 1.1 * next() + 2.2 * next() ** 8);
  const run = `run-${session}-${Math.floor(index / 5)}`;
  return {
    id: id(index, at),
    timestamp: new Date(at).toISOString(),
    model: model.name,
    agent_name: agent,
    prompt_tokens: isMissing ? 0 : prompt,
    completion_tokens: isMissing ? 0 : output,
    cost_usd: Math.round(dollars * 1e9) / 1e9,
    latency_ms: Math.round(latency),
    gateway: GATEWAYS[agent === "mailbox" || agent === "watch" ? 1 : 0],
    provider: model.name.split("/")[0],
    cache_read_tokens: cached,
    cache_write_tokens: hasCache ? Math.round((prompt - cached) * 0.2) : 0,
    // Reads cost a tenth of the input rate, writes a quarter more than it.
    ...(hasCache &&
      model.input > 0 && {
        cache_saved_usd: (0.9 * model.input * cached) / 1e6,
        cache_write_extra_usd: (0.25 * model.input * Math.round((prompt - cached) * 0.2)) / 1e6,
      }),
    reasoning_tokens: model.name.includes("gpt-5") ? Math.round(output * 0.4) : 0,
    cost_source: source,
    usage_source: isMissing ? "missing" : "reported",
    latency_source: "measured",
    session_key: `s_${((session * 2654435761) >>> 0).toString(16).padStart(8, "0")}`,
    run_id: run,
    trigger,
    outcome: failed ? "failed" : next() < 0.003 ? "aborted" : "completed",
    ttfb_ms: Math.round(latency * 0.2),
    ...(isRouted && { response_model: "moonshotai/kimi-k2-thinking" }),
  };
}

/** The same call as a record of `costs`, as the plugin sends it. @param {ReturnType<typeof call>} usage */
export function costOf(usage) {
  const {
    id,
    timestamp,
    model,
    agent_name,
    prompt_tokens,
    completion_tokens,
    cost_usd,
    latency_ms,
    ...metadata
  } = usage;
  return {
    id,
    timestamp,
    model,
    agent_name,
    input_tokens: prompt_tokens,
    output_tokens: completion_tokens,
    estimated_cost_usd: cost_usd,
    metadata,
  };
}

/** Failed model calls that were not billed, as the plugin's metrics. @param {Sample} sample */
export function* sampleErrors({ calls, days = 30, until = Date.now(), seed = 1 }) {
  const next = random(seed * 31 + 5);
  const model = chooser(KNOWN, ({ weight }) => weight);
  for (let index = 0; index < calls; index++) {
    const at = until - next() * days * DAY_MS;
    const outcome = next() < 0.7 ? "failed" : "aborted";
    yield {
      id: `error-${seed}-${index}`,
      timestamp: new Date(at).toISOString(),
      agent_name: AGENTS[index % AGENTS.length]?.[0],
      name: "model_errors",
      value: 1,
      kind: "counter",
      tags: { model: model(next()).name, outcome },
    };
  }
}

/** @template T @param {Iterable<T>} all @param {number} size */
export function* inBatches(all, size) {
  /** @type {T[]} */
  let batch = [];
  for (const one of all) {
    batch.push(one);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
