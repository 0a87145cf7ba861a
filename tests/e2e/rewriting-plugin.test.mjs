import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { compareTotals, minus } from "../../examples/gateway/compare.mjs";
import { snapshot, startWorld, waitForTotals } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { rewritingPlugin } from "./rewriting-plugin.mjs";

const OLD = "2026.3.13";
const LOST =
  /agentwatch: llm_output reports (\d+) tokens more than its messages showed: another plugin blocks/;
const HARMS = ["block", "replace", "strip"];

for (const version of versions) {
  describe(`OpenClaw ${version}, another plugin changes messages before this one`, { skip }, () => {
    /** @type {import("./harness.mjs").World} */
    let world;
    /** @type {import("../../examples/gateway/config.mjs").GatewayPlugin} */
    let plugin;
    before(async () => {
      plugin = await rewritingPlugin();
      world = await startWorld({ version, tgz, receiver: { binary }, gateway: { plugins: [plugin] } });
      await waitForTotals(world.provider, world.receiver, { settleMs: 300 });
    });
    after(async () => {
      await world?.close();
      if (plugin?.path) await rm(dirname(plugin.path), { recursive: true, force: true });
    });

    for (const harm of HARMS) {
      for (const agent of ["main", "ant"]) {
        test(`${harm}, agent ${agent}`, async () => {
          const { provider, receiver, gateway } = world;
          const since = await snapshot(provider, receiver);
          const before = lost(await logOf(world));
          await gateway.agentTurn({ agent, session: `rewrite-${harm}`, message: "hello" });
          await gateway.agentTurn({ agent, session: `rewrite-${harm}`, message: "hello [[tools 1]]" });
          assert.match(await logOf(world), new RegExp(`rewriter at agent:${agent}:rewrite-${harm}`));
          if (version !== OLD) {
            // Diagnostic events have the real usage, whatever another plugin did to the messages.
            await waitForTotals(provider, receiver, { since, settleMs: 2500 });
            return;
          }
          // 2026.3.13 has only the messages: the log names the exact number of missing tokens.
          await sleep(3000);
          for (const deadline = Date.now() + 30_000; ; await sleep(500)) {
            const now = await snapshot(provider, receiver);
            const [sent, shown] = [minus(now.sent, since.sent), minus(now.shown, since.shown)];
            const hidden = tokens(sent) - tokens(shown);
            const said = lost(await logOf(world)).slice(before.length);
            const isTold = said.reduce((sum, count) => sum + count, 0) === hidden;
            if (!isTold && Date.now() < deadline) continue;
            assert.ok(isTold, `${hidden} tokens are hidden; the log says ${said}`);
            assert.notDeepEqual(compareTotals(sent, shown), [], "the other plugin ran first");
            break;
          }
        });
      }
    }
  });
}

/** @param {import("./harness.mjs").World} world */
function logOf({ gateway }) {
  return readFile(gateway.log.path, "utf8");
}

/** Numbers of missing tokens in the plugin's log lines. @param {string} log */
function lost(log) {
  return log.split("\n").flatMap((line) => {
    const found = LOST.exec(line);
    return found ? [Number(found[1])] : [];
  });
}

/** @param {import("./harness.mjs").Totals[]} rows */
function tokens(rows) {
  return rows.reduce(
    (sum, { prompt_tokens, completion_tokens }) => sum + prompt_tokens + completion_tokens,
    0,
  );
}
