// Calls that no run makes, of which the gateway tells `model.usage` alone: a plugin's completions, which are OpenClaw's dream
// diary of each night, and the side question `/btw`.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startWorld, waitForTotals } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { until } from "./scenarios.mjs";

/** Versions before it write no dream diary by themselves. */
const NEW = "2026.9.6";
const DREAMING = "Memory Dreaming Promotion";

for (const version of versions)
  describe(`OpenClaw ${version}, calls outside of runs`, { skip: skip || version !== NEW }, () => {
    /** @type {import("./harness.mjs").World} */
    let world;
    before(async () => {
      world = await startWorld({ version, tgz, receiver: { binary } });
      for (const agent of ["main", "ant"])
        await world.gateway.agentTurn({ agent, session: "awake", message: "remember that the cat is red" });
    });
    after(() => world?.close());

    /** Requests since then whose prompt has these words. @param {number} since @param {string} words */
    const requests = (since, words) =>
      world.provider.ledger.slice(since).filter(({ prompt }) => prompt.includes(words));

    test("the dream diary, which a cron job has written for each agent", async () => {
      const { provider, receiver, gateway } = world;
      const before = provider.ledger.length;
      const { jobs } = /** @type {{ jobs: { id: string, name: string }[] }} */ (
        await gateway.rpc("cron.list", {})
      );
      const job = jobs.find(({ name }) => name === DREAMING);
      assert.ok(job, jobs.map(({ name }) => name).join(", "));
      await gateway.rpc("cron.run", { id: job.id, mode: "force" });
      const models = () => new Set(requests(before, "dream diary").map(({ model }) => model));
      await until(() => models().size === 2, "both agents to dream", 60_000);
      await waitForTotals(provider, receiver, { settleMs: 5_000, timeoutMs: 60_000 });
    });

    test("/btw", async () => {
      const { provider, receiver, gateway } = world;
      const before = provider.ledger.length;
      await gateway.chatSend({ session: "awake", message: "/btw which colour has the cat?" });
      await until(() => requests(before, "side question").length === 1, "the answer", 60_000);
      await waitForTotals(provider, receiver, { settleMs: 5_000, timeoutMs: 60_000 });
    });
  });
