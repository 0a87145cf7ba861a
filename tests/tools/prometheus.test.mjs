// The receiver's metrics, the dashboard and the alert rules, read by Prometheus itself.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { grafanaSchema } from "../../scripts/lib/grafana.mjs";
import { binary, call, post, startReceiver } from "./receiver.mjs";
import { dashboard, expressions, Prometheus, promtool } from "./scraping.mjs";

const TOKEN = "s3cret-of-the-test";

describe("Prometheus", { skip: binary === "" && "AGENTWATCH_RECEIVER names no receiver" }, () => {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-prometheus-"));
  /** @type {{ url: string, close: () => Promise<void> }} */
  let receiver;
  /** @type {Prometheus} */
  let prometheus;

  before(async () => {
    receiver = await startReceiver(["--token", TOKEN]);
    prometheus = await Prometheus.start(folder, receiver.url.replace("http://", ""), TOKEN);
  });

  after(async () => {
    await prometheus?.close();
    await receiver?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** @param {unknown} batch */
  const ingest = (batch) => post(receiver.url, batch, { authorization: `Bearer ${TOKEN}` });

  test("it scrapes the receiver with its token, and its sums are the calls'", async () => {
    await ingest({ model_usage: [call("a"), call("b", { model: "x/y", gateway: 'a "b" \\ c\nd' })] });
    await prometheus.waitFor("up", 1);
    await prometheus.waitFor("sum(agentwatch_requests_total)", 2);
    const error = { name: "model_errors", value: 1, kind: "counter", agent_name: "main" };
    await ingest({
      model_usage: [call("c"), call("d", { outcome: "failed", cost_usd: 0, cost_source: "unknown" })],
      metrics: [{ ...error, tags: { model: "openai/gpt-5", outcome: "failed" } }],
      enrichments: [{ id: "a", cost_usd: 0.25, cost_source: "provider" }],
    });
    await prometheus.waitFor("sum(agentwatch_requests_total)", 4);
    const net = "sum(agentwatch_cost_usd_total) - sum(agentwatch_withdrawn_cost_usd_total)";
    for (const [query, value] of /** @type {[string, number][]} */ ([
      [net, 1.25],
      ["sum(agentwatch_tokens_total) - sum(agentwatch_withdrawn_tokens_total)", 4400],
      ['sum(agentwatch_tokens_total{kind="cache_read"})', 1600],
      ["sum(agentwatch_unpriced_requests_total)", 1],
      ["sum(agentwatch_model_errors_total)", 1],
      ["sum(agentwatch_request_duration_seconds_count)", 4],
    ]))
      await prometheus.waitFor(query, value);
    const [strange] = await prometheus.ask('agentwatch_cost_usd_total{provider="x"}');
    assert.equal(strange?.metric.gateway, 'a "b" \\ c\nd');
  });

  test("promtool finds no fault in the metrics, the rules and their tests", async () => {
    const headers = { authorization: `Bearer ${TOKEN}` };
    const text = await (await fetch(`${receiver.url}/metrics`, { headers })).text();
    assert.equal(await promtool(["check", "metrics"], text), "");
    assert.match(await promtool(["check", "config", "prometheus.yml"]), /1 rule files found/);
    assert.match(await promtool(["check", "rules", "alerts.yml"]), /5 rules found/);
    assert.match(await promtool(["test", "rules", "alerts.test.yml"]), /SUCCESS/);
  });

  test("the alert rules are loaded, and none fires", async () => {
    const { data } = await (await fetch(`${prometheus.api}/api/v1/rules`)).json();
    const rules = data.groups.flatMap((/** @type {any} */ group) => group.rules);
    assert.equal(rules.length, 5);
    for (const { name, lastError, alerts } of rules)
      assert.deepEqual([name, lastError ?? "", alerts], [name, "", []]);
  });

  test("each expression of the dashboard is parsed, and has a value", async () => {
    // promtool parses expressions in rules alone.
    const rules = expressions.map(({ expr }, at) => ({ record: `dashboard:expression:${at}`, expr }));
    const file = join(folder, "expressions.yml");
    writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
    assert.match(await promtool(["check", "rules", file]), new RegExp(`${expressions.length} rules found`));
    await prometheus.assertDashboard();
  });

  test("a label of the dashboard's variables has values", async () => {
    const queries = dashboard.templating.list.filter(({ type }) => type === "query");
    assert.deepEqual(
      queries.map(({ name }) => name),
      ["gateway", "agent", "model"],
    );
    for (const { name, query } of queries) {
      const [, metric, label] = /^label_values\((\w+), (\w+)\)$/.exec(query.query) ?? [];
      assert.equal(label, name);
      const found = await prometheus.ask(`count by (${label}) (${metric})`);
      assert.equal(found.length, name === "agent" ? 1 : 2);
    }
  });
});

test("it scrapes the plugin of a gateway without a receiver, and the dashboard works with it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-prometheus-plugin-"));
  const { Gateway, answer, SESSION } = await import("../unit/world.mjs");
  const metricsPort = await freePort();
  const gateway = new Gateway("none");
  /** @type {Prometheus | undefined} */
  let prometheus;
  try {
    const allowance = [{ usd: 4, per: "month", then: "warn" }];
    gateway.register(await gateway.evaluate(), { url: false, gateway: 'a "b" c', metricsPort, allowance });
    await gateway.start();
    const call = (/** @type {number} */ tokens) =>
      gateway.emit("before_message_write", answer(tokens, { timestamp: Date.now() }), SESSION);
    call(100);
    prometheus = await Prometheus.start(folder, `127.0.0.1:${metricsPort}`);
    await prometheus.waitFor("up", 1);
    await prometheus.waitFor("sum(agentwatch_requests_total)", 1);
    call(200);
    for (const [query, value] of /** @type {[string, number][]} */ ([
      ["sum(agentwatch_requests_total)", 2],
      ['agentwatch_tokens_total{kind="input",model="p/m",agent="main"}', 300],
      ["sum(agentwatch_cost_usd_total) - sum(agentwatch_withdrawn_cost_usd_total)", 0.5],
      ["agentwatch_allowance_used_ratio", 0.125],
      ["agentwatch_plugin_info", 1],
    ]))
      await prometheus.waitFor(query, value);
    const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    assert.equal(await promtool(["check", "metrics"], text), "");
    await prometheus.assertDashboard();
    await gateway.stop();
  } finally {
    await prometheus?.close();
    gateway.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("the dashboard is one by Grafana's own types", async () => {
  const types = await grafanaSchema();
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-dashboard-"));
  try {
    symlinkSync(join(types, "node_modules"), join(folder, "node_modules"));
    const typescript = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url));
    const flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--types", ""];
    /** The compiler's complaints. @param {unknown} value */
    const complaints = (value) => {
      const text = `import type { Dashboard } from "@grafana/schema";\nexport const it: Dashboard = `;
      writeFileSync(join(folder, "dashboard.ts"), text + JSON.stringify(value));
      const { stdout } = spawnSync(process.execPath, [typescript, ...flags, "dashboard.ts"], { cwd: folder });
      return String(stdout);
    };
    assert.equal(complaints(dashboard), "");
    assert.match(complaints({ ...dashboard, schemaVersion: "39" }), /not assignable/);
    assert.match(complaints({ ...dashboard, panel: [] }), /'"panel"' does not exist/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the dashboard has what Grafana requires", () => {
  assert.ok(dashboard.uid.length <= 40 && dashboard.title && dashboard.schemaVersion >= 30);
  const names = dashboard.templating.list.map(({ name }) => name);
  assert.deepEqual(names, ["datasource", "gateway", "agent", "model"]);
  const titles = new Set(dashboard.panels.map(({ title }) => title));
  const ids = new Set(dashboard.panels.map(({ id }) => id));
  assert.deepEqual([titles.size, ids.size], [dashboard.panels.length, dashboard.panels.length]);
  for (const question of [/^Cost/, /^Requests/, /^Tokens by kind/, /^Latency/, /^Failed/, /^Cache share/])
    assert.ok(
      [...titles].some((title) => question.test(title)),
      `no panel for ${question}`,
    );
  const taken = new Set();
  for (const { type, title, description, gridPos, datasource, targets } of dashboard.panels) {
    assert.match(type, /^(stat|timeseries|table|bargauge)$/, title);
    assert.ok(description, title);
    assert.deepEqual(datasource, { type: "prometheus", uid: "${datasource}" });
    const { x, y, w, h } = gridPos;
    assert.ok(x >= 0 && w > 0 && h > 0 && x + w <= 24, title);
    for (let column = x; column < x + w; column += 1)
      for (let row = y; row < y + h; row += 1) {
        assert.ok(!taken.has(`${column},${row}`), `${title} lies on another panel`);
        taken.add(`${column},${row}`);
      }
    assert.ok(targets.length > 0, title);
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
    for (const { expr } of targets) assert.ok(expr, title);
  }
});
