// Costs: whose figure is taken, and what a model costs of which nobody told.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { brotliDecompressSync } from "node:zlib";
import { answer, SESSION, started } from "./world.mjs";

const DIST = new URL("../../dist/", import.meta.url);
const { usedByLogin } = await import(`${DIST}prices.js`);

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
    await gateway.stop();
    const all = Object.entries(receiver.totals).map(([model, { cost }]) => [
      model,
      [receiver.costSources[model], Math.round(cost * 1e9) / 1e9],
    ]);
    return { costs: Object.fromEntries(all), log: gateway.log };
  } finally {
    close();
  }
}

test("a figure of the gateway's, a price of the settings, one of the table, or unknown", async () => {
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

test("a provider that is used by login alone is no spend, whatever the gateway reckons", async () => {
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

test("a configuration with anything in it names no login", () => {
  for (const config of [
    undefined,
    {},
    { auth: null },
    { auth: { profiles: { a: null, b: 3, c: { mode: "oauth" }, d: { provider: 7, mode: "oauth" } } } },
  ])
    assert.deepEqual(usedByLogin(config), []);
});

test("prices that cannot be meant are named, once, and the others hold", async () => {
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

test("the package's table is the source's", () => {
  const packed = brotliDecompressSync(readFileSync(new URL("prices.br", DIST))).toString();
  const source = readFileSync(new URL("../../crate/src/prices/table.txt", import.meta.url), "utf8");
  assert.equal(packed, source);
});
