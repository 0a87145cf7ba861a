// Costs: precedence of their sources, and prices of calls without a cost.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { answer, SESSION, started } from "./world.mjs";

const DIST = new URL("../../dist/", import.meta.url);
const { openclawPrices, usedByLogin } = await import(`${DIST}base.js`);

/** 1,000 tokens in, 100 out, 2,000 from the cache. @param {string} provider @param {string} model @param {number} [usd] */
function call(provider, model, usd = 0) {
  const usage = { input: 1_000, output: 100, cacheRead: 2_000, cacheWrite: 0, cost: { total: usd } };
  return answer(1, { provider, model, usage });
}

/** @param {Record<string, unknown>} config @param {ReturnType<typeof call>[]} calls @param {object} [gatewayConfig] */
async function costs(config, calls, gatewayConfig = {}) {
  const { gateway, receiver, close } = await started(config);
  try {
    gateway.config = gatewayConfig;
    await gateway.start();
    for (const one of calls) gateway.emit("before_message_write", one, SESSION);
    await nextTurn();
    await gateway.finish();
    const all = Object.entries(receiver.totals).map(([model, { cost }]) => [
      model,
      [receiver.costSources[model], Math.round(cost * 1e9) / 1e9],
    ]);
    return { costs: Object.fromEntries(all), log: gateway.log };
  } finally {
    close();
  }
}

test("a cost of the gateway, a price of the settings, a list price, or unknown", async () => {
  const prices = {
    "own/m": { input: 1, output: 2, cacheRead: 0.5 },
    "openai/gpt-4o": { input: 99, output: 99 },
  };
  const { costs: told } = await costs({ prices }, [
    call("openai", "gpt-4o", 0.5),
    call("own", "m"),
    call("openai", "gpt-4o-mini"),
    call("own", "other"),
    call("ollama", "llama3"),
  ]);
  assert.deepEqual(told, {
    "openai/gpt-4o": ["openclaw", 0.5],
    "own/m": ["configured", 0.0022],
    "openai/gpt-4o-mini": ["table", 0.00036],
    "own/other": ["unknown", 0],
    "ollama/llama3": ["subscription", 0],
  });
});

test("calls of a provider with a login only cost nothing, whatever the gateway computes", async () => {
  const profiles = {
    "anthropic:me": { provider: "anthropic", mode: "oauth" },
    "openai:me": { provider: "openai", mode: "oauth" },
    "openai:key": { provider: "openai", mode: "api_key" },
  };
  const calls = [call("anthropic", "claude-opus-4-6", 0.5), call("openai", "gpt-4o", 0.5)];
  const { costs: told } = await costs({}, calls, { auth: { profiles } });
  assert.deepEqual(told, {
    "anthropic/claude-opus-4-6": ["subscription", 0],
    "openai/gpt-4o": ["openclaw", 0.5],
  });
});

test("the gateway's prices hold for calls without a cost", async () => {
  const cost = { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 3.75 };
  const tieredPricing = [
    { input: 1, output: 2, cacheRead: 1, cacheWrite: 1, range: [0, 3_000] },
    { input: 2, output: 4, cacheRead: 2, cacheWrite: 2, range: [3_000] },
  ];
  const free = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };
  const models = [
    { id: "m", cost },
    { id: "tiered", cost: { tieredPricing } },
    { id: "free", cost: free },
    { id: "asked" },
    null,
  ];
  const prices = { "own/m": { input: 99, output: 99 }, "own/free": { input: 1, output: 1 } };
  const calls = ["m", "tiered", "free", "asked"].map((model) => call("own", model));
  const { costs: told } = await costs({ prices }, calls, { models: { providers: { own: { models } } } });
  assert.deepEqual(told, {
    "own/m": ["openclaw", 0.0051],
    // A prompt of 3,000 tokens: the second tier begins there.
    "own/tiered": ["openclaw", 0.0064],
    "own/free": ["configured", 0.0031],
    "own/asked": ["unknown", 0],
  });
});

test("a configuration with values of wrong types has no prices", () => {
  for (const providers of [undefined, { a: null }, { a: { models: 3 } }, { a: { models: [{ cost: 7 }] } }])
    assert.deepEqual(openclawPrices({ models: { providers } }), {});
});

test("a configuration with values of wrong types has no logins", () => {
  for (const config of [
    undefined,
    {},
    { auth: null },
    { auth: { profiles: { a: null, b: 3, c: { mode: "oauth" }, d: { provider: 7, mode: "oauth" } } } },
  ])
    assert.deepEqual(usedByLogin(config), []);
});

test("invalid prices are logged once, and the others hold", async () => {
  const prices = { "own/m": { input: "1", output: 2 }, "own/n": { input: 1, output: 2 } };
  const { costs: told, log } = await costs({ prices }, [call("own", "m"), call("own", "n")]);
  assert.deepEqual(told, { "own/m": ["unknown", 0], "own/n": ["configured", 0.0032] });
  const lines = log.filter((line) => line.includes("prices."));
  assert.equal(lines.length, 1, log.join("\n"));
  assert.match(
    lines[0] ?? "",
    /^warn agentwatch: prices\.own\/m\.input is no number that can be meant; give USD/,
  );
});

test("the table is what `npm run prices` writes", () => {
  const script = fileURLToPath(new URL("../../scripts/prices.mjs", import.meta.url));
  const { status, stderr } = spawnSync(process.execPath, [script, "--check"], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
});

test("the package's table equals the source's", () => {
  const packed = brotliDecompressSync(readFileSync(new URL("prices.br", DIST))).toString();
  const source = readFileSync(new URL("../../crate/src/pricing/table.txt", import.meta.url), "utf8");
  assert.equal(packed, source);
});
