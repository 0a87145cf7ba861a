// A provider's usage and cost API, in the shapes of its documentation, and AgentWatch, which answer from one ledger; and the
// command `reconcile` as a process of its own, as people run it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
export const KEY = "sk-admin-0123456789abcdef";
export const TOKEN = "agentwatch-token-of-this-test";
export const DAY_MS = 86_400_000;
/** Longer than the tests of a file take: today is to be the same day for all of them. */
const FILE_MS = 300_000;
const leftOfDay = DAY_MS - (Date.now() % DAY_MS);
if (leftOfDay < FILE_MS) await sleep(leftOfDay + 1_000);
/** The first moment of today, by UTC. */
export const TODAY = Math.floor(Date.now() / DAY_MS) * DAY_MS;
export const PROVIDERS = /** @type {const} */ (["openai", "anthropic", "openrouter"]);
export const VARIABLES = {
  openai: "OPENAI_ADMIN_KEY",
  anthropic: "ANTHROPIC_ADMIN_KEY",
  openrouter: "OPENROUTER_MANAGEMENT_KEY",
};

export const root = mkdtempSync(join(tmpdir(), "agentwatch-invoice-"));
after(() => rmSync(root, { recursive: true, force: true }));

/**
 * @typedef {typeof PROVIDERS[number]} Provider
 * @typedef {{ at: number, model: string, billed: string, input: number, output: number, read: number, write: number, usd: number }} Call
 * @typedef {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse) => boolean | void} Meddle
 */

/** @param {number} ms */
export const dayOf = (ms) => new Date(ms).toISOString().slice(0, 10);

/** Calls of ten days that ended: each has tokens that no other has. @param {Provider} provider @returns {Call[]} */
export function ledger(provider) {
  const models = {
    openai: [
      ["openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18"],
      ["openai/gpt-5", "gpt-5-2025-08-07"],
    ],
    anthropic: [
      ["anthropic/claude-sonnet-4-5", "claude-sonnet-4-5-20250929"],
      ["anthropic/claude-opus-4-1", "claude-opus-4-1-20250805"],
    ],
    openrouter: [
      ["openrouter/openai/gpt-4.1", "openai/gpt-4.1"],
      ["openrouter/deepseek/deepseek-chat", "deepseek/deepseek-chat"],
    ],
  }[provider];
  return Array.from({ length: 120 }, (_, index) => {
    const [model = "", billed = ""] = models[Math.floor(index / 10) % 2] ?? [];
    const at = TODAY - 12 * DAY_MS + (index % 10) * DAY_MS + ((index * 7_654_321) % DAY_MS);
    const [input, output] = [1_000 + index * 37, 10 + index * 3];
    const [read, write] = [index * 5, provider === "anthropic" ? index * 2 : 0];
    return { at, model, billed, input, output, read, write, usd: input * 1.25e-7 + output * 3.3e-6 + 1e-9 };
  });
}

/** Sums by day and model. @param {Call[]} calls */
function sums(calls) {
  /** @type {Map<string, Call & { day: string, count: number }>} */
  const found = new Map();
  for (const call of calls) {
    const day = dayOf(call.at);
    const key = `${day} ${call.billed}`;
    const sum = found.get(key) ?? { ...call, day, count: 0, input: 0, output: 0, read: 0, write: 0, usd: 0 };
    found.set(key, sum);
    for (const field of /** @type {const} */ (["input", "output", "read", "write", "usd"]))
      sum[field] += call[field];
    sum.count += 1;
  }
  return [...found.values()];
}

/** A server that is closed with its test. @param {import("node:test").TestContext} t @param {import("node:http").RequestListener} answer */
export async function serve(t, answer) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`;
}

/** @param {import("node:http").ServerResponse} response @param {unknown} body @param {number} [status] */
export function json(response, body, status = 200) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

/**
 * The provider: three buckets a page, and a cursor that has to be escaped. Days without calls are empty buckets.
 *
 * @param {import("node:test").TestContext} t
 * @param {Provider} provider
 * @param {Call[]} calls
 * @param {Meddle} [meddle] Answers instead, where it says so.
 */
export async function provider(t, provider, calls, meddle) {
  /** @type {string[]} */
  const asked = [];
  const url = await serve(t, (request, response) => {
    const { pathname, searchParams: query } = new URL(request.url ?? "", "http://x");
    asked.push(request.url ?? "");
    if (meddle?.(request, response)) return;
    const given =
      provider === "anthropic" ? request.headers["x-api-key"] : request.headers.authorization?.slice(7);
    if (given !== KEY)
      return json(response, { error: { type: "invalid_request_error", message: `bad ${given}` } }, 401);
    if (provider === "openrouter") {
      assert.equal(pathname, "/api/v1/activity");
      const data = sums(calls).map(({ day, billed, count, input, read, output, usd }) => ({
        date: day,
        model: billed,
        model_permaslug: `${billed}-2025-04-14`,
        endpoint_id: "e",
        provider_name: "P",
        usage: usd,
        byok_usage_inference: 0,
        requests: count,
        prompt_tokens: input + read,
        completion_tokens: output,
        reasoning_tokens: 0,
      }));
      return json(response, { data });
    }
    const isCosts = pathname.includes("cost");
    const isOpenAi = provider === "openai";
    assert.equal(
      pathname,
      isOpenAi
        ? `/v1/organization/${isCosts ? "costs" : "usage/completions"}`
        : `/v1/organizations/${isCosts ? "cost_report" : "usage_report/messages"}`,
    );
    if (!isOpenAi) assert.equal(request.headers["anthropic-version"], "2023-06-01");
    assert.equal(query.get("bucket_width"), "1d");
    const from = isOpenAi
      ? Number(query.get("start_time")) * 1_000
      : Date.parse(query.get("starting_at") ?? "");
    const to = isOpenAi ? Number(query.get("end_time")) * 1_000 : Date.parse(query.get("ending_at") ?? "");
    assert.equal(from % DAY_MS, 0);
    const group = query.get(isOpenAi ? "group_by" : "group_by[]");
    assert.equal(group, isCosts ? (isOpenAi ? "line_item" : "description") : "model");
    const first = Number(/^page\+(\d+)\/=$/.exec(query.get("page") ?? "page+0/=")?.[1]);
    const days = Array.from({ length: (to - from) / DAY_MS }, (_, index) => from + index * DAY_MS);
    const data = days.slice(first, first + 3).map((at) => ({
      ...(isOpenAi
        ? { object: "bucket", start_time: at / 1_000, end_time: (at + DAY_MS) / 1_000 }
        : { starting_at: new Date(at).toISOString(), ending_at: new Date(at + DAY_MS).toISOString() }),
      results: sums(calls)
        .filter(({ day }) => day === dayOf(at))
        .flatMap(
          (sum) =>
            /** @type {object[]} */ (isOpenAi ? openAiRows(sum, isCosts) : anthropicRows(sum, isCosts)),
        ),
    }));
    const isMore = first + 3 < days.length;
    return json(response, { data, has_more: isMore, next_page: isMore ? `page+${first + 3}/=` : null });
  });
  return { url, asked };
}

/** @param {ReturnType<typeof sums>[number]} sum @param {boolean} isCosts */
function openAiRows({ billed, input, output, read, usd, count }, isCosts) {
  const cost = (/** @type {number} */ part, /** @type {string} */ kind) => ({
    object: "organization.costs.result",
    // Numbers in the documentation, texts with thirty decimals from the API itself.
    amount: { value: kind === "output" ? (usd * part).toFixed(30) : usd * part, currency: "usd" },
    line_item: `${billed}, ${kind}`,
    project_id: null,
  });
  if (isCosts) return [cost(0.5, "input"), cost(0.125, "cached input"), cost(0.375, "output")];
  return [
    {
      object: "organization.usage.completions.result",
      input_tokens: input + read,
      output_tokens: output,
      input_cached_tokens: read,
      num_model_requests: count,
      project_id: null,
      model: billed,
      batch: null,
    },
  ];
}

/** @param {ReturnType<typeof sums>[number]} sum @param {boolean} isCosts */
function anthropicRows({ billed, input, output, read, write, usd }, isCosts) {
  const cost = {
    currency: "USD",
    cost_type: "tokens",
    description: "Usage",
    model: billed,
    service_tier: "standard",
  };
  if (isCosts)
    return [
      // Cents, as text.
      { ...cost, amount: (usd * 25).toFixed(20), token_type: "output_tokens" },
      { ...cost, amount: (usd * 75).toFixed(20), token_type: "uncached_input_tokens" },
    ];
  return [
    {
      uncached_input_tokens: input,
      cache_creation: {
        ephemeral_1h_input_tokens: Math.floor(write / 2),
        ephemeral_5m_input_tokens: Math.ceil(write / 2),
      },
      cache_read_input_tokens: read,
      output_tokens: output,
      server_tool_use: { web_search_requests: 0 },
      model: billed,
      api_key_id: null,
    },
  ];
}

/** The calls as AgentWatch has them. @param {Provider} provider @param {Call[]} calls */
export function records(provider, calls) {
  return calls.map((call, index) => ({
    id: `c${index}`,
    timestamp: new Date(call.at).toISOString().replace("Z", "+00:00"),
    agent_name: `agent-${index % 3}`,
    model: call.model,
    provider,
    prompt_tokens: call.input + call.read + call.write,
    completion_tokens: call.output,
    cache_read_tokens: call.read,
    cache_write_tokens: call.write,
    cost_usd: call.usd,
    cost_source: "table",
    usage_source: "reported",
    response_model: null,
  }));
}

/**
 * AgentWatch: agentwatch-receiver, or 0.1.0.
 *
 * @param {import("node:test").TestContext} t
 * @param {Provider} provider
 * @param {Call[]} calls
 * @param {boolean} [isStock]
 */
export async function agentwatch(t, provider, calls, isStock = false) {
  const all = records(provider, calls);
  return serve(t, (request, response) => {
    const { pathname, searchParams: query } = new URL(request.url ?? "", "http://x");
    assert.equal(request.headers.authorization, `Bearer ${TOKEN}`);
    if (pathname === "/api/v1/ingest/capabilities")
      return isStock
        ? json(response, { detail: "Not Found" }, 404)
        : json(response, { features: ["record_ids"] });
    if (pathname === "/models/calls.json" && !isStock) {
      const [from = 0, to = 0] = ["from", "to"].map((name) => Date.parse(query.get(name) ?? ""));
      const found = all.filter(
        ({ timestamp }) => from <= Date.parse(timestamp) && Date.parse(timestamp) < to,
      );
      return json(response, found);
    }
    const model = query.get("model");
    if (pathname === "/api/costs") {
      const models = [...new Set(calls.map((call) => call.model))];
      const count = (/** @type {string} */ name) => calls.filter((call) => call.model === name).length;
      return json(response, { by_model: models.map((name) => ({ model: name, count: count(name) })) });
    }
    if (pathname === "/api/costs/usage" && isStock) {
      const costs = all
        .filter((one) => one.model === model)
        .map(
          ({
            id,
            timestamp,
            agent_name,
            model,
            prompt_tokens,
            completion_tokens,
            cost_usd,
            ...metadata
          }) => ({
            ...{ id, timestamp, agent_name, model, metadata },
            ...{
              input_tokens: prompt_tokens,
              output_tokens: completion_tokens,
              estimated_cost_usd: cost_usd,
            },
          }),
        );
      return json(response, costs.slice(0, Number(query.get("limit"))));
    }
    return json(response, { detail: "Not Found" }, 404);
  });
}

let homes = 0;
/**
 * Runs the command.
 *
 * @param {string[]} args
 * @param {Record<string, string>} env
 * @param {string} cli
 */
export async function run(args, env = {}, cli = CLI) {
  homes += 1;
  const home = join(root, `home-${homes}`);
  mkdirSync(home);
  const child = spawn(process.execPath, [cli, "reconcile", ...args], {
    // Days are UTC wherever the command runs.
    env: { PATH: process.env.PATH, HOME: home, TZ: "Pacific/Kiritimati", AGENTWATCH_TOKEN: TOKEN, ...env },
    timeout: 60_000,
  });
  const out = { stdout: "", stderr: "" };
  for (const name of /** @type {const} */ (["stdout", "stderr"]))
    child[name].setEncoding("utf8").on("data", (text) => {
      out[name] += text;
    });
  const [code] = await once(child, "close");
  assert.ok(!`${out.stdout}${out.stderr}`.includes(KEY), "the key is in no output");
  return { code, ...out };
}

/**
 * Both servers and the command between them.
 *
 * @param {import("node:test").TestContext} t
 * @param {Provider} name
 * @param {{ ours?: Call[], theirs?: Call[], isStock?: boolean, meddle?: Meddle, args?: string[], env?: Record<string, string> }} [settings]
 */
export async function compare(t, name, settings = {}) {
  const calls = ledger(name);
  const { ours = calls, theirs = calls, isStock, meddle, args = ["--json"], env } = settings;
  const api = await provider(t, name, theirs, meddle);
  const url = await agentwatch(t, name, ours, isStock);
  const words = ["--provider", name, "--since", "20d", "--api", api.url, ...args];
  const ran = await run(words, { AGENTWATCH_URL: url, [VARIABLES[name]]: KEY, ...env });
  return { ...ran, asked: api.asked, document: args.includes("--json") ? JSON.parse(ran.stdout) : undefined };
}
