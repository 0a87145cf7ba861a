import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openclawCommand } from "./command.mjs";
import { startWorld } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";

/**
 * Allowances on a real gateway, by the provider's own ledger. A call with this directive costs 0.003 USD.
 */
const CALL = "[[usage 990 0 0 2]]";
const CALL_USD = 0.003;
const ALLOWANCE = [
  { usd: 0.01, per: "day", agent: "main", then: "stop" },
  { usd: 0.02, per: "day", agent: "ant", then: "stop" },
];

for (const version of versions)
  describe(`OpenClaw ${version}, allowances`, { skip }, () => {
    const hasRunGate = Number(version.split(".")[1]) > 3;

    test("a cent stops its agent and no other, until an operator lifts it", async () => {
      /** Requests' bodies. @type {string[]} */
      const bodies = [];
      const world = await startWorld({
        version,
        tgz,
        receiver: { binary },
        pluginConfig: { allowance: ALLOWANCE },
        // The grant for `before_agent_run`; 2026.3.13 knows neither.
        ...(hasRunGate ? { pluginEntry: { hooks: { allowConversationAccess: true } } } : {}),
        warmUp: false,
        provider: {
          script: ({ body }) => {
            bodies.push(JSON.stringify(body));
            return undefined;
          },
        },
      });
      try {
        const { gateway, provider } = world;
        /** @param {string} agent @param {string} session @param {string} message */
        const turn = (agent, session, message) =>
          gateway.agentTurn({ agent, session, message }).catch((error) => error);
        /** @param {string} agent */
        const calls = (agent) =>
          provider.ledger.filter(({ model }) => model.startsWith(agent === "ant" ? "a" : "m")).length;
        if (hasRunGate) {
          for (let index = 0; index < 5; index += 1) await turn("main", "one", CALL);
          // Three calls fit into a cent, a fourth does not.
          assert.equal(calls("main"), 3);
          // Two calls one after the other, then eight at once, of which four fit.
          for (let index = 0; index < 2; index += 1) await turn("ant", "first", CALL);
          await sleep(1_500);
          await Promise.all(
            [1, 2, 3, 4, 5, 6, 7, 8].map((n) => turn("ant", `s${n}`, `${CALL}[[delay 1000]]`)),
          );
          const spent = calls("ant") * CALL_USD;
          assert.ok(spent <= 0.02 + CALL_USD && spent > 0.02 - 2 * CALL_USD, `${spent} USD`);
        } else {
          // There is no hook before a run: its tools are refused, and the model is told why.
          for (let index = 0; index < 4; index += 1) await turn("main", "one", CALL);
          await turn("main", "tools", `[[tools 1]]${CALL}`);
          assert.match(
            bodies.at(-1) ?? "",
            /AgentWatch stopped this call by the allowance of 0\.010 USD a day/,
          );
          await turn("ant", "tools", `[[tools 1]]${CALL}`);
          assert.doesNotMatch(bodies.at(-1) ?? "", /AgentWatch stopped/);
        }
        const lifted = await openclawCommand(gateway, ["agentwatch", "allow", "1h"]);
        assert.equal(lifted.code, 0, lifted.all);
        assert.match(lifted.stdout, /All calls pass until/);
        const before = calls("main");
        await turn("main", "two", `[[tools 1]]${CALL}`);
        assert.equal(calls("main"), before + 2);
        assert.doesNotMatch(bodies.at(-1) ?? "", /AgentWatch stopped/);
        const status = await openclawCommand(gateway, ["agentwatch", "status"]);
        assert.match(status.stdout, /allowance +0\.010 USD a day for agent main, stop/);
        assert.match(status.stdout, /lifted until/);
      } finally {
        await world.close();
      }
    });
  });
