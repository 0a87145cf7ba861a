// The command `reconcile` against the real receiver, as itself and as AgentWatch 0.1.0: what the plugin sends is what is
// compared.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import {
  KEY,
  ledger,
  PROVIDERS,
  provider,
  records,
  root,
  run,
  TOKEN,
  VARIABLES,
} from "../unit/invoice-servers.mjs";
import { binary, skip, tgz } from "./options.mjs";

describe("reconcile against the real receiver", { skip }, () => {
  if (tgz) execFileSync("tar", ["-xzf", tgz, "-C", root]);
  const cli = join(root, "package", "dist", "cli.js");

  for (const mode of ["agentwatch-receiver", "AgentWatch 0.1.0"])
    for (const name of PROVIDERS)
      test(`${name}, ${mode}`, async (t) => {
        const args = ["--db", ":memory:", ...(mode === "agentwatch-receiver" ? [] : ["--stock"])];
        const receiver = await startReceiver({ binary, args, token: TOKEN });
        t.after(() => receiver.stop());
        const calls = ledger(name);
        const sent = await fetch(`${receiver.url}/api/v1/ingest/batch`, {
          method: "POST",
          headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
          body: JSON.stringify(batch(name, calls)),
        });
        assert.equal(sent.status, 200, await sent.text());
        const api = await provider(t, name, calls);
        const { code, stdout, stderr } = await run(
          ["--provider", name, "--since", "20d", "--api", api.url, "--json"],
          { AGENTWATCH_URL: receiver.url, [VARIABLES[name]]: KEY },
          cli,
        );
        assert.equal(code, 0, `${stdout}${stderr}`);
        const { sums, left_out } = JSON.parse(stdout);
        const usd = calls.reduce((sum, call) => sum + call.usd, 0);
        for (const side of [sums.all.ours, sums.all.theirs]) assert.ok(Math.abs(side.cost_usd - usd) < 1e-9);
        assert.deepEqual([sums.all.rows, sums.matched.rows], [20, 20]);
        assert.equal(sums.all.ours.calls, calls.length);
        assert.deepEqual(left_out, {});
      });
});

/**
 * As the plugin posts calls: each is a cost, whose metadata has the further fields, and a usage.
 *
 * @param {import("../unit/invoice-servers.mjs").Provider} name
 * @param {import("../unit/invoice-servers.mjs").Call[]} calls
 */
function batch(name, calls) {
  const usages = records(name, calls);
  const costs = usages.map(
    ({ id, timestamp, agent_name, model, prompt_tokens, completion_tokens, cost_usd, ...metadata }) => ({
      ...{ id, timestamp, agent_name, model, metadata },
      ...{ input_tokens: prompt_tokens, output_tokens: completion_tokens, estimated_cost_usd: cost_usd },
    }),
  );
  return { costs, model_usage: usages };
}
