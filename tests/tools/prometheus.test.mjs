// The receiver's metrics, the dashboard and the alert rules, read by Prometheus itself.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { grafanaSchema } from "../../scripts/lib/grafana.mjs";
import { prometheus } from "../../scripts/lib/prometheus.mjs";
import { binary, call, post, startReceiver, stop } from "./receiver.mjs";

const EXAMPLES = fileURLToPath(new URL("../../examples/grafana/", import.meta.url));
const TOKEN = "s3cret-of-the-test";

/**
 * @typedef {{ refId: string, expr: string }} Target
 * @typedef {{ id: number, type: string, title: string, description: string, gridPos: { x: number, y: number, w: number,
 *   h: number }, datasource: { type: string, uid: string }, targets: Target[] }} Panel
 */

/** @type {{ uid: string, title: string, schemaVersion: number, panels: Panel[], templating: { list: any[] } }} */
const dashboard = JSON.parse(readFileSync(join(EXAMPLES, "models.json"), "utf8"));

/** An expression as Grafana sends it, with all values of its variables. @param {string} expr */
const sent = (expr) =>
  expr
    .replaceAll("$__range", "1h")
    .replaceAll(/\$__(rate_)?interval\b/g, "1m")
    .replaceAll(/\$(gateway|agent|model)\b/g, ".*");

/** A free port. @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

describe("Prometheus", { skip: binary === "" && "AGENTWATCH_RECEIVER names no receiver" }, () => {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-prometheus-"));
  /** @type {{ prometheus: string, promtool: string }} */
  let tools;
  /** @type {{ url: string, close: () => Promise<void> }} */
  let receiver;
  /** @type {import("node:child_process").ChildProcess} */
  let server;
  let api = "";

  /** @param {string[]} args @param {string} [input] */
  const promtool = (args, input) =>
    execFileSync(tools.promtool, args, { cwd: EXAMPLES, input, encoding: "utf8", stdio: "pipe" });

  /** @param {string} query @returns {Promise<{ metric: Record<string, string>, value: [number, string] }[]>} */
  async function ask(query) {
    const answer = await fetch(`${api}/api/v1/query?query=${encodeURIComponent(query)}`);
    const { status, data, error } = await answer.json();
    assert.equal(status, "success", `${query}: ${error}`);
    return data.result;
  }

  /** Waits until a query's first value is as expected. @param {string} query @param {number} expected */
  async function waitFor(query, expected) {
    let given;
    for (const end = Date.now() + 60_000; Date.now() < end; await sleep(300)) {
      given = (await ask(query))[0]?.value[1];
      if (given !== undefined && Math.abs(Number(given) - expected) < 1e-6) return;
    }
    assert.fail(`${query} is ${given}, not ${expected}`);
  }

  before(async () => {
    tools = await prometheus();
    receiver = await startReceiver(["--token", TOKEN]);
    const port = await freePort();
    api = `http://127.0.0.1:${port}`;
    const token = join(folder, "token");
    writeFileSync(token, `${TOKEN}\n`, { mode: 0o600 });
    // The example's file with the test's port, token and pace.
    const config = readFileSync(join(EXAMPLES, "prometheus.yml"), "utf8")
      .replace("127.0.0.1:8470", receiver.url.replace("http://", ""))
      .replace("scrape_interval: 30s", "scrape_interval: 1s\n  evaluation_interval: 1s")
      .replace(/# (authorization:)\n {4}# {3}(credentials_file:) \S+/, `$1\n      $2 ${token}`)
      .replace("alerts.yml", join(EXAMPLES, "alerts.yml"));
    const file = join(folder, "prometheus.yml");
    writeFileSync(file, config);
    promtool(["check", "config", file]);
    const data = join(folder, "data");
    const flags = [`--config.file=${file}`, `--storage.tsdb.path=${data}`];
    server = spawn(
      tools.prometheus,
      [...flags, `--web.listen-address=127.0.0.1:${port}`, "--log.level=error"],
      {
        stdio: ["ignore", "ignore", "inherit"],
      },
    );
    for (const end = Date.now() + 60_000; Date.now() < end; await sleep(200))
      if ((await fetch(`${api}/-/ready`).catch(() => undefined))?.ok) return;
    assert.fail("Prometheus is not ready");
  });

  after(async () => {
    if (server) await stop(server);
    await receiver?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** @param {unknown} batch */
  const ingest = (batch) => post(receiver.url, batch, { authorization: `Bearer ${TOKEN}` });

  test("it scrapes the receiver with its token, and its sums are the calls'", async () => {
    await ingest({ model_usage: [call("a"), call("b", { model: "x/y", gateway: 'a "b" \\ c\nd' })] });
    await waitFor("up", 1);
    await waitFor("sum(agentwatch_requests_total)", 2);
    const error = { name: "model_errors", value: 1, kind: "counter", agent_name: "main" };
    await ingest({
      model_usage: [call("c"), call("d", { outcome: "failed", cost_usd: 0, cost_source: "unknown" })],
      metrics: [{ ...error, tags: { model: "openai/gpt-5", outcome: "failed" } }],
      enrichments: [{ id: "a", cost_usd: 0.25, cost_source: "provider" }],
    });
    await waitFor("sum(agentwatch_requests_total)", 4);
    const net = "sum(agentwatch_cost_usd_total) - sum(agentwatch_withdrawn_cost_usd_total)";
    for (const [query, value] of /** @type {[string, number][]} */ ([
      [net, 1.25],
      ["sum(agentwatch_tokens_total) - sum(agentwatch_withdrawn_tokens_total)", 4400],
      ['sum(agentwatch_tokens_total{kind="cache_read"})', 1600],
      ["sum(agentwatch_unpriced_requests_total)", 1],
      ["sum(agentwatch_model_errors_total)", 1],
      ["sum(agentwatch_request_duration_seconds_count)", 4],
    ]))
      await waitFor(query, value);
    const [strange] = await ask('agentwatch_cost_usd_total{provider="x"}');
    assert.equal(strange?.metric.gateway, 'a "b" \\ c\nd');
  });

  test("promtool finds no fault in the metrics, the rules and their tests", async () => {
    const headers = { authorization: `Bearer ${TOKEN}` };
    const text = await (await fetch(`${receiver.url}/metrics`, { headers })).text();
    assert.equal(promtool(["check", "metrics"], text), "");
    assert.match(promtool(["check", "config", "prometheus.yml"]), /1 rule files found/);
    assert.match(promtool(["check", "rules", "alerts.yml"]), /4 rules found/);
    assert.match(promtool(["test", "rules", "alerts.test.yml"]), /SUCCESS/);
  });

  test("the alert rules are loaded, and none fires", async () => {
    const { data } = await (await fetch(`${api}/api/v1/rules`)).json();
    const rules = data.groups.flatMap((/** @type {any} */ group) => group.rules);
    assert.equal(rules.length, 4);
    for (const { name, lastError, alerts } of rules)
      assert.deepEqual([name, lastError ?? "", alerts], [name, "", []]);
  });

  test("each expression of the dashboard is parsed, and has a value", async () => {
    const expressions = dashboard.panels.flatMap(({ title, targets }) =>
      targets.map(({ expr }) => [title, sent(expr)]),
    );
    // promtool parses expressions in rules alone.
    const rules = expressions.map(([, expr], at) => ({ record: `dashboard:expression:${at}`, expr }));
    const file = join(folder, "expressions.yml");
    writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
    assert.match(promtool(["check", "rules", file]), new RegExp(`${expressions.length} rules found`));
    // An increase needs two scrapes.
    await waitFor("min(count_over_time(agentwatch_requests_total[1m])) > bool 2", 1);
    for (const [title = "", expr = ""] of expressions)
      assert.ok((await ask(expr)).length > 0, `${title}: ${expr} has no value`);
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
      const found = await ask(`count by (${label}) (${metric})`);
      assert.equal(found.length, name === "agent" ? 1 : 2);
    }
  });
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
