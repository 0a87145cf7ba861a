import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startWorld, waitForTotals, withTimeout } from "./harness.mjs";
import { anyVersion, skip, tgz } from "./options.mjs";
import { startProxy } from "./proxy.mjs";
import { limits, runScenario, scenarios } from "./scenarios.mjs";
import { startStock, stockName } from "./stock-server.mjs";

/**
 * Stock AgentWatch 0.1.0, whose model usage has no ids, behind a network with all faults: nothing may be
 * lost and nothing counted twice. The plugin is tested on one gateway; it sends the same from each.
 */
const FAULTS = /** @type {import("./proxy.mjs").Treatment[]} */ ([
  "pass",
  "lose answer",
  "pass",
  "refuse",
  "lose answer",
  "drop",
  "refuse",
]);
/** Scenarios that take long and show nothing about the network. */
const LEFT_OUT = /compaction|abort|fallback|long answers/;

describe(`OpenClaw ${anyVersion}, ${stockName} behind a bad network`, { skip }, () => {
  /** @type {import("./harness.mjs").World} */
  let world;
  /** @type {import("./proxy.mjs").Proxy} */
  let proxy;
  const { told, note } = limits(anyVersion);

  before(async () => {
    let posts = 0;
    world = await startWorld({
      version: anyVersion,
      tgz,
      warmUp: false,
      receiver: startStock,
      between: async (url) => {
        proxy = await startProxy(url, ({ method }) => {
          if (method !== "POST") return "pass";
          posts += 1;
          return FAULTS[posts % FAULTS.length] ?? "pass";
        });
        return proxy;
      },
    });
  });
  after(() => world?.close());

  for (const scenario of scenarios.filter(({ name }) => !LEFT_OUT.test(name))) {
    test(scenario.name, async () => {
      const entries = await withTimeout(runScenario(scenario, world), 120_000, scenario.name);
      note(scenario, entries);
    });
  }

  test("everything was counted once", async (t) => {
    await waitForTotals(world.provider, world.receiver, { told, timeoutMs: 180_000, settleMs: 5000 });
    const counts = Object.fromEntries(
      [...new Set(FAULTS)].map((fault) => [
        String(fault),
        proxy.passed.filter(({ method, treatment }) => method === "POST" && treatment === fault).length,
      ]),
    );
    t.diagnostic(JSON.stringify(counts));
    for (const [fault, count] of Object.entries(counts)) assert.ok(count > 0, `${fault} happened`);
  });
});
