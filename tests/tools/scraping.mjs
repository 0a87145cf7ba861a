// A real Prometheus with the configuration of the examples.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { prometheus } from "../../scripts/lib/prometheus.mjs";
import { stop } from "./receiver.mjs";

/** The files of the examples. */
export const EXAMPLES = fileURLToPath(new URL("../../examples/grafana/", import.meta.url));

/**
 * @typedef {{ refId: string, expr: string }} Target
 * @typedef {{ id: number, type: string, title: string, description: string, gridPos: { x: number, y: number, w: number,
 *   h: number }, datasource: { type: string, uid: string }, targets: Target[] }} Panel
 */

/** @type {{ uid: string, title: string, schemaVersion: number, panels: Panel[], templating: { list: any[] } }} */
export const dashboard = JSON.parse(readFileSync(join(EXAMPLES, "models.json"), "utf8"));

/** An expression as Grafana sends it, with all values of its variables. @param {string} expr */
export const sent = (expr) =>
  expr
    .replaceAll("$__range", "1h")
    .replaceAll(/\$__(rate_)?interval\b/g, "1m")
    .replaceAll(/\$(gateway|agent|model)\b/g, ".*");

/** The dashboard's expressions, each with its panel's title. */
export const expressions = dashboard.panels.flatMap(({ title, targets }) =>
  targets.map(({ expr }) => ({ title, expr: sent(expr) })),
);

/** promtool's output. @param {string[]} args @param {string} [input] */
export async function promtool(args, input) {
  const tools = await prometheus();
  return execFileSync(tools.promtool, args, { cwd: EXAMPLES, input, encoding: "utf8", stdio: "pipe" });
}

/** A Prometheus that scrapes one target each second. */
export class Prometheus {
  /** @type {import("node:child_process").ChildProcess} */
  #server;
  api;

  /** @param {import("node:child_process").ChildProcess} server @param {string} api */
  constructor(server, api) {
    this.#server = server;
    this.api = api;
  }

  /**
   * The example's file with the test's target, token and pace.
   *
   * @param {string} folder @param {string} target host and port @param {string} [token]
   */
  static async start(folder, target, token) {
    const tools = await prometheus();
    const port = await freePort();
    let config = readFileSync(join(EXAMPLES, "prometheus.yml"), "utf8")
      .replace("127.0.0.1:8470", target)
      .replace("scrape_interval: 30s", "scrape_interval: 1s\n  evaluation_interval: 1s")
      .replace("alerts.yml", join(EXAMPLES, "alerts.yml"));
    if (token !== undefined) {
      const path = join(folder, "token");
      writeFileSync(path, `${token}\n`, { mode: 0o600 });
      config = config.replace(/# (authorization:)\n {4}# {3}(credentials_file:) \S+/, `$1\n      $2 ${path}`);
    }
    const file = join(folder, "prometheus.yml");
    writeFileSync(file, config);
    await promtool(["check", "config", file]);
    const flags = [`--config.file=${file}`, `--storage.tsdb.path=${join(folder, "data")}`];
    const address = `--web.listen-address=127.0.0.1:${port}`;
    const server = spawn(tools.prometheus, [...flags, address, "--log.level=error"], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const api = `http://127.0.0.1:${port}`;
    for (const end = Date.now() + 60_000; Date.now() < end; await sleep(200))
      if ((await fetch(`${api}/-/ready`).catch(() => undefined))?.ok) return new Prometheus(server, api);
    await stop(server);
    return assert.fail("Prometheus is not ready");
  }

  /** @param {string} query @returns {Promise<{ metric: Record<string, string>, value: [number, string] }[]>} */
  async ask(query) {
    const answer = await fetch(`${this.api}/api/v1/query?query=${encodeURIComponent(query)}`);
    const { status, data, error } = await answer.json();
    assert.equal(status, "success", `${query}: ${error}`);
    return data.result;
  }

  /** Waits until a query's first value is as expected. @param {string} query @param {number} expected */
  async waitFor(query, expected) {
    let given;
    for (const end = Date.now() + 60_000; Date.now() < end; await sleep(300)) {
      given = (await this.ask(query))[0]?.value[1];
      if (given !== undefined && Math.abs(Number(given) - expected) < 1e-6) return;
    }
    assert.fail(`${query} is ${given}, not ${expected}`);
  }

  /** Asserts that each expression of the dashboard has a value. */
  async assertDashboard() {
    // An increase needs two scrapes.
    await this.waitFor("min(count_over_time(agentwatch_requests_total[1m])) > bool 2", 1);
    for (const { title, expr } of expressions)
      assert.ok((await this.ask(expr)).length > 0, `${title}: ${expr} has no value`);
  }

  async close() {
    await stop(this.#server);
  }
}
