import { after, before, describe, test } from "node:test";
import { startWorld, waitForTotals, withTimeout } from "./harness.mjs";
import { runScenario, scenarios, VERSIONS } from "./scenarios.mjs";

/**
 * The whole way, on real gateways: what the provider sent is what the Models tab shows, after every single scenario.
 *
 * `AGENTWATCH_TGZ` is the packed plugin; `OPENCLAW_VERSIONS` (comma-separated) takes other gateways.
 */
const tgz = process.env.AGENTWATCH_TGZ;
const versions = process.env.OPENCLAW_VERSIONS?.split(",") ?? VERSIONS;

for (const version of versions) {
  describe(`OpenClaw ${version}`, { skip: !tgz && "AGENTWATCH_TGZ is not set" }, () => {
    /** @type {import("./harness.mjs").World} */
    let world;
    before(async () => {
      world = await startWorld({ version, tgz });
    });
    after(() => world?.close());

    for (const scenario of scenarios) {
      const skip = scenario.versions !== undefined && !scenario.versions.includes(version);
      test(scenario.name, { skip }, async () => {
        await withTimeout(runScenario(scenario, world), 120_000, scenario.name);
        await waitForTotals(world.provider, world.receiver);
      });
    }
  });
}
