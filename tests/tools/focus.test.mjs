// The receiver's download of costs, read by the FinOps Foundation's validator of FOCUS files.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { focusValidator } from "../../scripts/lib/focus-validator.mjs";
import { binary, call, post, startReceiver } from "./receiver.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));

/**
 * A rule of the report that fails for each file without invoices: InvoiceId is empty or not empty, and each half is a rule
 * of its own. `InvoiceId-C-003-C`, which wants one of the two, has to pass.
 */
const OTHER_HALF = "InvoiceId-C-005-C";

/** The rules of a report by their outcome. @param {string} report @param {"✅" | "❌"} mark */
const rules = (report, mark) =>
  [...report.matchAll(new RegExp(`^${mark} ([\\w-]+): `, "gmu"))].map(([, name = ""]) => name);

describe("the FOCUS validator", { skip: binary === "" && "AGENTWATCH_RECEIVER names no receiver" }, () => {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-focus-"));
  /** @type {(file: string) => Promise<string>} */
  let validate;
  /** @type {{ url: string, close: () => Promise<void> }} */
  let receiver;

  before(async () => {
    validate = await focusValidator();
    receiver = await startReceiver();
    // Names in ASCII: the validator takes no other letters; the specification has no such rule.
    await post(receiver.url, {
      model_usage: [
        call("a"),
        call("b", { model: 'x/y "z", 1', agent_name: "a, b", gateway: "g;=1" }),
        call("c", { timestamp: "2025-12-31T23:59:59Z", cost_usd: 1e-9 }),
        call("d", { model: "bare", gateway: undefined, cost_usd: 0, cost_source: "unknown" }),
        call("e", { prompt_tokens: 0, completion_tokens: 0, timestamp: "2026-02-28T12:00:00Z" }),
      ],
    });
  });

  after(async () => {
    await receiver?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** @param {string} query */
  async function download(query) {
    const answer = await fetch(`${receiver.url}/models/focus.csv?from=2025-01-01&${query}`);
    assert.equal(answer.status, 200);
    return answer.text();
  }

  /** @param {string} name @param {string} text */
  function report(name, text) {
    const file = join(folder, name);
    writeFileSync(file, text);
    return validate(file);
  }

  /** Asserts that all rules pass. @param {string} name @param {string} text */
  async function passes(name, text) {
    const found = await report(name, text);
    assert.deepEqual(rules(found, "❌"), [OTHER_HALF]);
    const passed = rules(found, "✅");
    assert.ok(passed.length > 120, `${passed.length} rules`);
    for (const rule of ["InvoiceId-C-003-C", "BilledCost-C-000-M", "ServiceCategory-C-000-M"])
      assert.ok(passed.includes(rule), rule);
    // What all rules for the presence of columns, and for their values, come together in.
    for (const whole of ["CostAndUsage-D-001-M", "CostAndUsage-D-002-M"])
      assert.match(found, new RegExp(`${whole}: .*AND passed - all child rules succeeded`));
  }

  for (const period of ["day", "hour"])
    test(`passes the costs by ${period}`, async () => {
      const text = await download(`period=${period}`);
      assert.equal(text.trim().split("\r\n").length, 6);
      await passes(`${period}.csv`, text);
    });

  test("passes the costs of a state directory", async () => {
    const stateDir = join(folder, "state");
    mkdirSync(stateDir);
    const cli = (/** @type {string[]} */ args, input = "") =>
      execFileSync(process.execPath, [CLI, ...args, "--state-dir", stateDir], {
        ...{ input, encoding: "utf8", env: { PATH: process.env.PATH, HOME: folder } },
      });
    const context = { model: "openai/gpt-4o-mini", promptTokens: 1000, completionTokens: 100 };
    const events = ["main", "a, b", "=1"].map((agentName) => ({
      ...{ type: "model", action: "used", context: { ...context, agentName } },
    }));
    cli(["ingest", "--url", receiver.url], events.map((event) => `${JSON.stringify(event)}\n`).join(""));
    const text = cli(["report", "--focus"]);
    assert.equal(text.trim().split("\n").length, 4);
    await passes("state.csv", text);
  });

  test("passes a filter without calls", async () => {
    const text = await download("agent=nobody");
    assert.equal(text.trim().split("\r\n").length, 1);
  });

  test("finds a missing column and a wrong value", async () => {
    const text = await download("period=day");
    const nameless = await report("nameless.csv", text.replace("BilledCost,", "x_Billed,"));
    assert.ok(rules(nameless, "❌").includes("BilledCost-C-000-M"));
    const foreign = await report("foreign.csv", text.replaceAll(",USD,", ",dollars,"));
    assert.ok(rules(foreign, "❌").includes("BillingCurrency-C-000-M"));
  });
});
