import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { modelCalls } from "../../examples/gateway/receiver.mjs";
import { snapshot, startWorld, waitForTotals, withTimeout } from "./harness.mjs";
import { binary, skip as noPackage, tgz, versions } from "./options.mjs";
import { runScenario, scenarios } from "./scenarios.mjs";

/**
 * The whole way, on real gateways: what the provider sent is what the Models tab shows, after every single scenario
 * and over all of them.
 */
for (const version of versions) {
  describe(`OpenClaw ${version}`, { skip: noPackage }, () => {
    /** @type {import("./harness.mjs").World} */
    let world;
    /**
     * Requests that this version tells a plugin nothing of. They must not be shown either: once they are, the limit
     * is gone and its scenario and the README have to be mended.
     *
     * @type {Map<number, import("./scenarios.mjs").LedgerEntry>}
     */
    const untold = new Map();
    const among = (/** @type {{ k: number }} */ { k }) => !untold.has(k);

    before(async () => {
      world = await startWorld({ version, tgz, receiver: { binary }, warmUp: false });
    });
    after(() => world?.close());

    for (const scenario of scenarios) {
      const skip = scenario.versions !== undefined && !scenario.versions.includes(version);
      test(scenario.name, { skip }, async () => {
        const { provider, receiver } = world;
        const since = await snapshot(provider, receiver, among);
        const entries = await withTimeout(runScenario(scenario, world), 120_000, scenario.name);
        for (const entry of entries) if (scenario.untold?.(entry, version)) untold.set(entry.k, entry);
        await waitForTotals(provider, receiver, { since, among, settleMs: 300 });
      });
    }

    test("all of it together", () =>
      waitForTotals(world.provider, world.receiver, { among, settleMs: 3000 }));

    test("what this version tells nobody is not shown", async (t) => {
      const calls = await modelCalls(world.receiver);
      const shown = new Set(calls.map((call) => call.prompt_tokens));
      for (const { k, usage, announced, prompt } of untold.values()) {
        const { input, cacheRead, cacheWrite } =
          usage ?? announced ?? assert.fail(`request ${k} cost nothing`);
        const tokens = input + cacheRead + cacheWrite;
        assert.ok(!shown.has(tokens), `request ${k} (${prompt.slice(0, 30)}) is shown: it is told by now`);
      }
      const limits = scenarios.filter((scenario) => scenario.untold).map(({ name }) => name);
      t.diagnostic(`${untold.size} billed requests untold (${limits.join(", ")})`);
      assert.equal(untold.size, version === "2026.3.13" ? 2 : 1);
    });
  });
}
