// The command `reconcile`: a provider's usage and cost API, in the shapes of its documentation, and AgentWatch answer from
// one ledger. The command is a process of its own, as people run it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { printed } from "../../scripts/lib/commands.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const KEY = "sk-admin-0123456789abcdef";
const TOKEN = "agentwatch-token-of-this-test";
const DAY_MS = 86_400_000;
/** The first moment of today, by UTC. */
const TODAY = Math.floor(Date.now() / DAY_MS) * DAY_MS;
const PROVIDERS = /** @type {const} */ (["openai", "anthropic", "openrouter"]);
const VARIABLES = {
  openai: "OPENAI_ADMIN_KEY",
  anthropic: "ANTHROPIC_ADMIN_KEY",
  openrouter: "OPENROUTER_MANAGEMENT_KEY",
};

const root = mkdtempSync(join(tmpdir(), "agentwatch-invoice-"));
after(() => rmSync(root, { recursive: true, force: true }));

/**
 * @typedef {typeof PROVIDERS[number]} Provider
 * @typedef {{ at: number, model: string, billed: string, input: number, output: number, read: number, write: number, usd: number }} Call
 * @typedef {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse) => boolean | void} Meddle
 */

/** @param {number} ms */
const dayOf = (ms) => new Date(ms).toISOString().slice(0, 10);

/** Calls of ten days that ended: each has tokens that no other has. @param {Provider} provider @returns {Call[]} */
function ledger(provider) {
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
async function serve(t, answer) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`;
}

/** @param {import("node:http").ServerResponse} response @param {unknown} body @param {number} [status] */
function json(response, body, status = 200) {
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
async function provider(t, provider, calls, meddle) {
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
        .flatMap((sum) => (isOpenAi ? openAiRows(sum, isCosts) : anthropicRows(sum, isCosts))),
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

/**
 * AgentWatch: agentwatch-receiver, or 0.1.0.
 *
 * @param {import("node:test").TestContext} t
 * @param {Provider} provider
 * @param {Call[]} calls
 * @param {boolean} [isStock]
 */
async function agentwatch(t, provider, calls, isStock = false) {
  const records = calls.map((call, index) => ({
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
  return serve(t, (request, response) => {
    const { pathname, searchParams: query } = new URL(request.url ?? "", "http://x");
    assert.equal(request.headers.authorization, `Bearer ${TOKEN}`);
    if (pathname === "/api/v1/ingest/capabilities")
      return isStock
        ? json(response, { detail: "Not Found" }, 404)
        : json(response, { features: ["record_ids"] });
    if (pathname === "/models/calls.json" && !isStock) {
      const [from = 0, to = 0] = ["from", "to"].map((name) => Date.parse(query.get(name) ?? ""));
      const found = records.filter(
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
      const costs = records
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
 */
async function run(args, env = {}) {
  homes += 1;
  const home = join(root, `home-${homes}`);
  mkdirSync(home);
  const child = spawn(process.execPath, [CLI, "reconcile", ...args], {
    env: { PATH: process.env.PATH, HOME: home, AGENTWATCH_TOKEN: TOKEN, ...env },
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
async function compare(t, name, settings = {}) {
  const calls = ledger(name);
  const { ours = calls, theirs = calls, isStock, meddle, args = ["--json"], env } = settings;
  const api = await provider(t, name, theirs, meddle);
  const url = await agentwatch(t, name, ours, isStock);
  const words = ["--provider", name, "--since", "20d", "--api", api.url, ...args];
  const ran = await run(words, { AGENTWATCH_URL: url, [VARIABLES[name]]: KEY, ...env });
  return { ...ran, asked: api.asked, document: args.includes("--json") ? JSON.parse(ran.stdout) : undefined };
}

describe("reconcile", () => {
  for (const name of PROVIDERS)
    for (const isStock of [false, true])
      test(`${name} and ${isStock ? "AgentWatch 0.1.0" : "agentwatch-receiver"}: the sums are exact on both sides`, async (t) => {
        const { code, document, stderr, asked } = await compare(t, name, { isStock });
        assert.equal(code, 0, stderr);
        const calls = ledger(name);
        const total = (/** @type {(call: Call) => number} */ of) =>
          calls.reduce((sum, call) => sum + of(call), 0);
        const { ours, theirs } = document.sums.all;
        for (const side of [ours, theirs]) {
          assert.equal(
            side.input_tokens,
            total(({ input, read, write }) => input + read + write),
          );
          assert.equal(
            side.output_tokens,
            total(({ output }) => output),
          );
          assert.ok(Math.abs(side.cost_usd - total(({ usd }) => usd)) < 1e-9, `${side.cost_usd}`);
        }
        assert.equal(ours.calls, calls.length);
        assert.equal(document.rows.length, 20, "two models on ten days");
        for (const row of document.rows) assert.equal(row.verdict, "matched");
        if (name !== "openrouter") assert.equal(asked.length, 14, "seven pages of two reports");
      });

  test("names what is on one side alone, and what differs", async (t) => {
    const calls = ledger("openai");
    const [first, second, third] = [
      dayOf(TODAY - 12 * DAY_MS),
      dayOf(TODAY - 11 * DAY_MS),
      dayOf(TODAY - 10 * DAY_MS),
    ];
    const on = (/** @type {string} */ day) => (/** @type {Call} */ call) => dayOf(call.at) === day;
    const ours = calls
      .filter((call) => !on(second)(call))
      .map((call) => (on(first)(call) ? { ...call, usd: 2 * call.usd } : call))
      .map((call, index) =>
        index === calls.findIndex(on(third)) ? { ...call, output: call.output + 1 } : call,
      );
    const theirs = calls.filter((call) => !on(dayOf(TODAY - 9 * DAY_MS))(call));
    const { code, document } = await compare(t, "openai", { ours, theirs });
    assert.equal(code, 1);
    const { sums, rows } = document;
    assert.equal(rows.filter((/** @type {any} */ row) => row.day === first)[0].verdict, "price_differs");
    assert.equal(rows.filter((/** @type {any} */ row) => row.day === second)[0].verdict, "only_theirs");
    assert.equal(
      rows.filter((/** @type {any} */ row) => row.day === dayOf(TODAY - 9 * DAY_MS))[0].verdict,
      "only_ours",
    );
    assert.ok(sums.usage_differs.rows >= 1);
    const { ours: twice, theirs: once } = sums.price_differs;
    assert.ok(Math.abs(twice.cost_usd - 2 * once.cost_usd) < 1e-9);
    const all = Object.entries(sums).filter(([verdict]) => verdict !== "all");
    const rowsOf = (/** @type {any} */ group) => group.rows;
    assert.equal(
      all.reduce((sum, [, group]) => sum + rowsOf(group), 0),
      sums.all.rows,
    );
    assert.match(document.notes.join("\n"), /other programs and keys/);
  });

  test("prints a table of 80 characters", async (t) => {
    const calls = ledger("anthropic");
    const args = ["--differing"];
    const { code, stdout } = await compare(t, "anthropic", { ours: calls.slice(1), args });
    assert.equal(code, 1);
    for (const line of stdout.split("\n")) assert.ok([...line].length <= 80, line);
    assert.match(stdout, /^AgentWatch against Anthropic, \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d \(UTC\)\n/);
    assert.match(stdout, /usage differs ours/);
    assert.match(stdout, /^sum +20 rows +all +ours/m);
    assert.doesNotMatch(stdout, /both/, "what matches is left out");
  });

  test("a day that has not ended is pending", async (t) => {
    const late = { ...(ledger("openai")[0] ?? assert.fail()), at: Date.now() - 1 };
    const { code, document } = await compare(t, "openai", {
      ours: [...ledger("openai"), late],
      args: ["--json", "--until", "0d"],
    });
    assert.equal(code, 0);
    assert.equal(document.rows.at(-1).verdict, "pending");
    assert.match(document.notes.join("\n"), /has not ended/);
  });

  test("waits as long as it is told, and no longer than five minutes", async (t) => {
    let limited = 0;
    /** @type {number[]} */
    const times = [];
    /** @type {Meddle} */
    const meddle = (_, response) => {
      times.push(performance.now());
      limited += 1;
      if (limited > 2) return false;
      response.writeHead(429, {
        "retry-after": limited === 1 ? "1" : new Date(Date.now() + 2_000).toUTCString(),
      });
      response.end('{"error":{"type":"rate_limit_error"}}');
      return true;
    };
    const { code, stderr } = await compare(t, "openrouter", { meddle });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /waiting 1 s/);
    const [first = 0, second = 0, third = 0] = times;
    assert.ok(second - first > 950, `${second - first} ms`);
    assert.ok(third - second > 900, `${third - second} ms`);
    const long = await compare(t, "openrouter", {
      meddle: (_, response) => Boolean(response.writeHead(429, { "retry-after": "900" }).end()) || true,
    });
    assert.equal(long.code, 2);
    assert.match(long.document.error, /wants a pause of 900 s/);
  });

  for (const name of PROVIDERS)
    for (const status of [401, 403])
      test(`${name} that answers ${status} names the key that is wanted, and repeats none`, async (t) => {
        const { code, document, stderr } = await compare(t, name, {
          meddle: (_, response) => {
            json(response, { error: { message: `Incorrect key: ${KEY}`, type: KEY, code: KEY } }, status);
            return true;
          },
        });
        assert.equal(code, 2);
        assert.match(document.error, new RegExp(VARIABLES[name]));
        assert.match(stderr, new RegExp(VARIABLES[name]));
      });

  test("bad answers are said, and nothing is compared", async (t) => {
    const bad = /** @type {[number, string, RegExp][]} */ ([
      [200, "<!DOCTYPE html><title>Sign in</title>", /HTML/],
      [200, '{"data":', /something else/],
      [200, '{"data":[],"has_more":true,"next_page":null}', /not where/],
      [200, '{"data":[],"has_more":true,"next_page":"same"}', /no end/],
      [302, "", /sends elsewhere/],
      [400, '{"error":{"type":"invalid_request_error"}}', /HTTP 400, invalid_request_error/],
    ]);
    for (const [status, body, says] of bad) {
      const { code, document } = await compare(t, "openai", {
        meddle: (_, response) => Boolean(response.writeHead(status, { location: "/x" }).end(body)) || true,
      });
      assert.equal(code, 2);
      assert.match(document.error, says);
    }
    const gone = await run(
      ["--provider", "openai", "--since", "2d", "--api", "http://127.0.0.1:1", "--json"],
      {
        AGENTWATCH_URL: "http://127.0.0.1:1",
        OPENAI_ADMIN_KEY: KEY,
      },
    );
    assert.match(JSON.parse(gone.stdout).error, /AgentWatch does not answer \(ECONNREFUSED\)/);
  });

  test("a key comes from a reference too", async (t) => {
    const { code, stderr } = await compare(t, "openai", {
      args: ["--json", "--key-ref", "env:default:MY_KEY"],
      env: { OPENAI_ADMIN_KEY: "", MY_KEY: KEY },
    });
    assert.equal(code, 0, stderr);
    for (const [ref, says] of /** @type {const} */ ([
      ["env:default:NOT_SET", /NOT_SET, which is not set here/],
      ["file:vault:/openai/admin", /cannot be resolved here/],
      ["nonsense", /write <source>:<provider>:<id>/],
    ])) {
      const { code, document } = await compare(t, "openai", { args: ["--json", "--key-ref", ref] });
      assert.equal(code, 2);
      assert.match(document.error, says);
    }
  });

  test("options that are wrong are named, in JSON too", async () => {
    const openai = ["--provider", "openai", "--since", "3d"];
    for (const [args, env, says] of /** @type {[string[], Record<string, string>, RegExp][]} */ ([
      [["--since", "3d"], {}, /--provider is missing/],
      [["--provider", "azure", "--since", "3d"], {}, /--provider azure: there are openai/],
      [["--provider", "openai"], {}, /--since is missing/],
      [["--provider", "openai", "--since", "soon"], {}, /--since soon: not a day/],
      [openai, {}, /OPENAI_ADMIN_KEY is not set/],
      [openai, { OPENAI_ADMIN_KEY: "two words of it" }, /OPENAI_ADMIN_KEY holds no key/],
      [[...openai, "--api", "http://example.com"], { OPENAI_ADMIN_KEY: KEY }, /--api: write an address/],
      [
        [...openai, "--api", "https://user:pass@example.com"],
        { OPENAI_ADMIN_KEY: KEY },
        /--api: write an address/,
      ],
      [["--nonsense"], {}, /--nonsense/],
    ])) {
      const { code, stdout, stderr } = await run([...args, "--json"], env);
      assert.equal(code, 2, stderr);
      assert.match(JSON.parse(stdout).error, says);
      assert.match(stderr, says);
    }
  });

  test("the token of AgentWatch stays out of what is said", async (t) => {
    const api = await provider(t, "openai", []);
    const url = await serve(t, (_, response) => json(response, { error: TOKEN }, 401));
    const args = ["--provider", "openai", "--since", "3d", "--api", api.url, "--json"];
    const { code, stdout, stderr } = await run(args, { AGENTWATCH_URL: url, OPENAI_ADMIN_KEY: KEY });
    assert.equal(code, 2);
    assert.match(JSON.parse(stdout).error, /AgentWatch refuses the token \(HTTP 401\)/);
    assert.ok(!`${stdout}${stderr}`.includes(TOKEN));
    assert.deepEqual(api.asked, [], "the provider is asked last");
  });

  test("the commands of its page", async (t) => {
    const commands = await printed("docs/invoice.md", "Comparing a month");
    assert.ok(commands.length > 0);
    for (const command of commands) {
      const [, name = ""] = /--provider (\w+)/.exec(command) ?? [];
      const calls = ledger(/** @type {Provider} */ (name));
      const api = await provider(t, /** @type {Provider} */ (name), calls);
      const url = await agentwatch(t, /** @type {Provider} */ (name), calls);
      const [, variable = "", words = ""] =
        /^(?:(\w+)=\S+ )?agentwatch-openclaw reconcile (.*)$/.exec(command) ?? [];
      if (variable) assert.equal(variable, VARIABLES[/** @type {Provider} */ (name)]);
      const env = { AGENTWATCH_URL: url, [VARIABLES[/** @type {Provider} */ (name)]]: KEY };
      const { code, stdout, stderr } = await run([...words.split(" "), "--api", api.url], env);
      assert.equal(code, 0, `${command}\n${stdout}${stderr}`);
    }
  });
});

test("a state directory's url and token are the gateway's", async (t) => {
  const calls = ledger("openrouter");
  const api = await provider(t, "openrouter", calls);
  const url = await agentwatch(t, "openrouter", calls);
  const stateDir = join(root, "state");
  mkdirSync(stateDir);
  const entry = { config: { url, token: TOKEN } };
  writeFileSync(
    join(stateDir, "openclaw.json"),
    JSON.stringify({ plugins: { entries: { agentwatch: entry } } }),
  );
  const args = ["--provider", "openrouter", "--since", "20d", "--api", api.url, "--state-dir", stateDir];
  const { code, stderr } = await run(args, { AGENTWATCH_TOKEN: "", OPENROUTER_MANAGEMENT_KEY: KEY });
  assert.equal(code, 0, stderr);
});
