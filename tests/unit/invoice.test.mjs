// The command `reconcile`: a provider and AgentWatch answer from one ledger, and each difference has its name.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { printed } from "../../scripts/lib/commands.mjs";
import {
  agentwatch,
  compare,
  DAY_MS,
  dayOf,
  json,
  KEY,
  ledger,
  PROVIDERS,
  provider,
  root,
  run,
  serve,
  TODAY,
  TOKEN,
  VARIABLES,
} from "./invoice-servers.mjs";

/**
 * @typedef {import("./invoice-servers.mjs").Provider} Provider
 * @typedef {import("./invoice-servers.mjs").Call} Call
 * @typedef {import("./invoice-servers.mjs").Meddle} Meddle
 */

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
      .map((call) => (call === calls.find(on(third)) ? { ...call, output: call.output + 1 } : call));
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
    const closed = createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const { port } = /** @type {import("node:net").AddressInfo} */ (closed.address());
    closed.close();
    const gone = await run(["--provider", "openai", "--since", "2d", "--json"], {
      AGENTWATCH_URL: `http://127.0.0.1:${port}`,
      OPENAI_ADMIN_KEY: KEY,
    });
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
      ["env:default:constructor", /constructor, which is not set here/],
      ["file:vault:/openai/admin", /cannot be resolved here/],
      ["nonsense", /write <source>:<provider>:<id>/],
      [KEY, /write <source>:<provider>:<id>/],
      [`env:default:${KEY}`, /write <source>:<provider>:<id>/],
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
      [[...openai, KEY], {}, /takes options alone/],
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

test("the gateway's own command takes its configuration, whose token goes to no other url", async (t) => {
  const { operatorCommand } = await import(new URL("../../dist/operator.js", import.meta.url).href);
  const calls = ledger("openai");
  const api = await provider(t, "openai", calls);
  const url = await agentwatch(t, "openai", calls);
  /** @type {(string | undefined)[]} */
  const shown = [];
  const elsewhere = await serve(t, ({ headers }, response) => {
    shown.push(headers.authorization);
    json(response, { detail: "no" }, 401);
  });
  const inside = {
    config: { plugins: { entries: { agentwatch: { config: { url, token: TOKEN } } } } },
    version: "2026.9.6",
  };
  process.env.OPENAI_ADMIN_KEY = KEY;
  t.after(() => delete process.env.OPENAI_ADMIN_KEY);
  const said = ["log", "error"].map((name) => t.mock.method(console, /** @type {"log"} */ (name), () => {}));
  const args = ["reconcile", "--provider", "openai", "--since", "20d", "--api", api.url, "--json"];
  assert.equal(await operatorCommand(args, inside), 0);
  assert.equal(JSON.parse(said[0]?.mock.calls[0]?.arguments[0]).sums.matched.rows, 20);
  assert.equal(await operatorCommand([...args, "--url", elsewhere], inside), 2);
  assert.deepEqual(shown, [undefined]);
});
