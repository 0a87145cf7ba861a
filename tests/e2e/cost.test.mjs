import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { modelCalls } from "../../examples/gateway/receiver.mjs";
import { startWorld } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";

/** @typedef {{ input: number, output: number, cacheRead: number, cacheWrite: number }} Rates */

/** The model of each agent, its expected cost source and rates. @type {Record<string, [model: string, source: string, rates: Rates]>} */
const AGENTS = {
  main: ["mock/m1", "openclaw", { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 3.75 }],
  // As in the plugin's settings below.
  set: ["own/priced", "configured", { input: 1.5, output: 6, cacheRead: 0.25, cacheWrite: 1.5 }],
  // As in the table of the crate `genai-prices`.
  list: [
    "groq/llama-3.3-70b-versatile",
    "table",
    { input: 0.59, output: 0.79, cacheRead: 0.59, cacheWrite: 0.59 },
  ],
  plan: ["vllm/llama3", "subscription", { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 }],
  none: ["own/x1", "unknown", { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 }],
};
const PRICES = { "own/priced": { input: 1.5, output: 6, cacheRead: 0.25 } };
const TURNS = 2;

/** A provider whose models have no price in the gateway's configuration. @param {string} url @param {string[]} ids */
const provider = (url, ids) => ({
  baseUrl: `${url}/v1`,
  apiKey: "scripted",
  api: "openai-completions",
  models: ids.map(model),
});

/** @param {string} id */
const model = (id) => ({
  id,
  name: id,
  reasoning: false,
  input: ["text"],
  contextWindow: 128_000,
  maxTokens: 4096,
  cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
  compat: { supportsUsageInStreaming: true },
});

for (const version of versions)
  describe(`OpenClaw ${version}, costs`, { skip }, () => {
    test("each call has the cost of the best source, and its name", async (t) => {
      const port = await freePort();
      const world = await startWorld({
        version,
        tgz,
        receiver: { binary },
        pluginConfig: { prices: PRICES },
        warmUp: false,
        provider: { port },
        gateway: { config: agentsAndProviders(`http://127.0.0.1:${port}`) },
      });
      try {
        for (const agent of Object.keys(AGENTS))
          for (let turn = 1; turn <= TURNS; turn += 1)
            await world.gateway.agentTurn({ agent, session: `costs-${agent}`, message: `turn ${turn}` });
        const calls = await all(world, TURNS * Object.keys(AGENTS).length);
        for (const [name, source, rates] of Object.values(AGENTS)) {
          const own = calls.filter((call) => call.model === name);
          const expected = world.provider.ledger
            .filter((entry) => name.endsWith(`/${entry.model}`))
            .map(({ usage }) => usage ?? assert.fail("no usage"))
            .reduce((sum, usage) => sum + reckon(usage, rates), 0);
          const cost = own.reduce((sum, call) => sum + call.cost_usd, 0);
          t.diagnostic(`${name}: ${own.length} calls, $${cost} by ${own[0]?.cost_source}`);
          assert.deepEqual(
            own.map((call) => call.cost_source),
            Array(TURNS).fill(source),
            name,
          );
          assert.ok(Math.abs(cost - expected) < 1e-9, `${name}: ${cost} instead of ${expected}`);
        }
      } finally {
        await world.close();
      }
    });
  });

/** @param {string} url */
function agentsAndProviders(url) {
  const list = Object.entries(AGENTS).map(([id, [primary]]) => ({
    id,
    default: id === "main",
    model: { primary, fallbacks: [] },
  }));
  const providers = {
    groq: provider(url, ["llama-3.3-70b-versatile"]),
    own: provider(url, ["priced", "x1"]),
    vllm: provider(url, ["llama3"]),
  };
  return { agents: { list }, models: { providers } };
}

/** @param {import("../../examples/gateway/plan.mjs").Usage} usage @param {Rates} rates */
function reckon(usage, rates) {
  const kinds = /** @type {const} */ (["input", "output", "cacheRead", "cacheWrite"]);
  return kinds.reduce((sum, kind) => sum + usage[kind] * rates[kind], 0) / 1e6;
}

/** @param {import("./harness.mjs").World} world @param {number} count */
async function all({ receiver }, count) {
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; await sleep(200)) {
    const calls = await modelCalls(receiver);
    if (calls.length >= count) return calls;
  }
  return modelCalls(receiver);
}
