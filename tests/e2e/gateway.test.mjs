import { after, before, describe, test } from "node:test";
import { snapshot, startWorld, waitForTotals, withTimeout } from "./harness.mjs";
import { runScenario, scenarios, VERSIONS } from "./scenarios.mjs";

/**
 * The whole way, on real gateways: what the provider sent is what the Models tab shows, after every single scenario
 * and over all of them.
 *
 * `AGENTWATCH_TGZ` is the packed plugin, `AGENTWATCH_RECEIVER` another receiver than cargo's, `OPENCLAW_VERSIONS`
 * (comma-separated) takes other gateways.
 */
const { AGENTWATCH_TGZ: tgz, AGENTWATCH_RECEIVER: binary } = process.env;
const versions = process.env.OPENCLAW_VERSIONS?.split(",") ?? VERSIONS;

for (const version of versions) {
  describe(`OpenClaw ${version}`, { skip: !tgz && "AGENTWATCH_TGZ is not set" }, () => {
    /** @type {import("./harness.mjs").World} */
    let world;
    /** Requests that this version tells a plugin nothing of. @type {Set<number>} */
    const untold = new Set();
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
        for (const entry of entries) if (scenario.untold?.(entry, version)) untold.add(entry.k);
        await waitForTotals(provider, receiver, { since, among, settleMs: 300 });
      });
    }

    test("all of it together", () =>
      waitForTotals(world.provider, world.receiver, { among, settleMs: 3000 }));
  });
}
