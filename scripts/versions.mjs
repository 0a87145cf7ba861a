#!/usr/bin/env node
// Runs the scenarios of the end-to-end tests on several versions of OpenClaw in succession, and writes the results into
// docs/versions.md: `node scripts/versions.mjs [versions…]`. Rows of other versions are not changed.
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheRoot } from "./lib/cache.mjs";
import { onNewNode } from "./lib/node-runtime.mjs";
import { nodeFor, openclaw, VERSIONS } from "./lib/openclaw.mjs";
import { buildReceiver, packPlugin } from "./lib/package.mjs";
import { SetupError, say } from "./lib/run.mjs";

const PAGE = fileURLToPath(new URL("../docs/versions.md", import.meta.url));
const SCENARIO_WITHIN_MS = 180_000;
const HEAD = ["OpenClaw", "Node", "Scenarios", "Counted by", "Requests", "As the provider", "Not told"];

/** Texts for the unreported part of a request, by the reported part. @type {Record<import("../examples/gateway/provider.mjs").Told, string>} */
const UNTOLD = { all: "", request: "without tokens", nothing: "not at all" };

/** Log lines of every start. */
const EXPECTED = /counting model calls by|delivering to|http server listening|answers without usage/;

/**
 * @typedef {object} Report
 * @property {string} version
 * @property {number} passed
 * @property {{ name: string, why: string }[]} failed
 * @property {string} countedBy
 * @property {number} sent Requests of the provider's ledger that the dashboard should show.
 * @property {number} shown
 * @property {string[]} differences Of the totals, models apart.
 * @property {string[]} untold The unreported part of each request that this version does not report completely.
 * @property {[text: string, times: number][]} warnings
 */

/**
 * @param {string} version
 * @param {string} tgz
 * @param {string} binary
 * @returns {Promise<Report>}
 */
async function examine(version, tgz, binary) {
  const { compareTotals } = await import("../examples/gateway/compare.mjs");
  const { snapshot, startWorld, waitForTotals, withTimeout } = await import("../tests/e2e/harness.mjs");
  const { limits, runScenario, scenarios } = await import("../tests/e2e/scenarios.mjs");
  const world = await startWorld({ version, tgz, receiver: { binary }, warmUp: false });
  const { provider, receiver, gateway } = world;
  const { told, note, noted } = limits(version);
  /** @type {Report["failed"]} */
  const failed = [];
  let passed = 0;
  try {
    for (const scenario of scenarios) {
      if (scenario.versions && !scenario.versions.includes(version)) continue;
      const since = await snapshot(provider, receiver, told);
      const first = provider.ledger.length;
      /** @type {string[]} */
      const problems = [];
      await withTimeout(runScenario(scenario, world), SCENARIO_WITHIN_MS, scenario.name).catch((error) =>
        problems.push(error.message),
      );
      note(scenario, provider.ledger.slice(first));
      await waitForTotals(provider, receiver, { since, told, settleMs: 300 }).catch((error) =>
        problems.push(error.message),
      );
      if (problems.length > 0)
        problems.push(
          `requests: ${tally(provider.ledger.slice(first).map(({ outcome }) => outcome)).join(" ")}`,
        );
      say(`${version} ${problems.length > 0 ? "FAILED" : "passed"} ${scenario.name}`);
      if (problems.length === 0) passed += 1;
      else failed.push({ name: scenario.name, why: problems.join("\n") });
    }
    await waitForTotals(provider, receiver, { told, settleMs: 3000 }).catch(() => {});
    const now = await snapshot(provider, receiver, told);
    const log = await readFile(gateway.log.path, "utf8");
    return {
      version,
      passed,
      failed,
      countedBy: /counting model calls by (.+?);/.exec(log)?.[1] ?? "it did not say",
      sent: requests(now.sent),
      shown: requests(now.shown),
      differences: compareTotals(now.sent, now.shown),
      untold: [...noted.values()].map(({ told, scenario }) => `${UNTOLD[told]}: ${scenario}`),
      // The path of the cache has the plugin's name, and is in the gateway's own log lines.
      warnings: warnings(log.replaceAll(gateway.stateDir, "~").replaceAll(cacheRoot(), "…")),
    };
  } finally {
    await world.close();
  }
}

/** @param {{ requests: number }[]} rows */
function requests(rows) {
  return rows.reduce((sum, row) => sum + row.requests, 0);
}

/**
 * Log lines about the plugin, without those of the start.
 *
 * @param {string} log
 */
function warnings(log) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const line of log.split("\n")) {
    if (!/agentwatch/i.test(line) || EXPECTED.test(line)) continue;
    const text = line.replace(/^\S*\d\d:\d\d:\d\d\S*\s+/, "").trim();
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return [...counts];
}

/** @param {Report} report */
function row({ version, passed, failed, countedBy, sent, shown, differences, untold }) {
  const limits = tally(untold).map(([what, times]) => `${times} ${what}`);
  return [
    version,
    nodeFor(version),
    `${passed} of ${passed + failed.length}`,
    countedBy,
    `${shown} of ${sent}`,
    differences.length === 0 ? "yes" : "no",
    limits.join(", ") || "nothing",
  ];
}

/** @param {string[]} words @returns {[string, number][]} */
function tally(words) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts];
}

/** Shortens an assertion's message, which has all requests before the difference. @param {string} text */
function short(text) {
  const lines = text.startsWith("[\n") ? (text.match(/^[+-] .*$/gm) ?? []) : text.split("\n");
  return lines.slice(0, 5).join(" ").slice(0, 300);
}

/** @param {Report} report */
function notes({ version, failed, differences, warnings }) {
  return [
    ...failed.map(({ name, why }) => `failed: ${name}: ${short(why)}`),
    ...differences,
    ...warnings.map(([text, times]) => `logged${times > 1 ? ` ${times} times` : ""}: \`${short(text)}\``),
  ].map((text) => `- ${version}: ${text}`);
}

/** @param {Report[]} reports */
async function write(reports) {
  const page = await readFile(PAGE, "utf8").catch(() => "");
  const isNew = new Set(reports.map(({ version }) => version));
  const kept = page.split("\n");
  const old = (/** @type {RegExp} */ shape) =>
    kept.filter((line) => {
      const version = shape.exec(line)?.[1];
      return version !== undefined && !isNew.has(version);
    });
  const cells = (/** @type {unknown[]} */ row) => `| ${row.join(" | ")} |`;
  const byVersion = (/** @type {string} */ a, /** @type {string} */ b) =>
    versionIn(a).localeCompare(versionIn(b), "en", { numeric: true });
  const rows = [...old(/^\| (2\S+) \|/), ...reports.map((report) => cells(row(report)))].sort(byVersion);
  const lines = [...old(/^- (2\S+): /), ...reports.flatMap(notes)].sort(byVersion);
  const text = `# Versions of OpenClaw

Which versions of OpenClaw the plugin counts correctly. \`node scripts/versions.mjs\` writes this page: it plays the scenarios of
\`tests/e2e/scenarios.mjs\` on real gateways with the packed plugin. "Requests" are the requests on AgentWatch's Models page, of
the requests in the provider's ledger. "As the provider" is yes if requests, tokens and cost agree for every model. Calls that a
version does not report to a plugin are excluded on both sides and listed under "Not told".

${cells(HEAD)}
${cells(HEAD.map(() => "---"))}
${rows.join("\n")}

## Notes

${lines.join("\n") || "None."}
`;
  await mkdir(join(PAGE, ".."), { recursive: true });
  await writeFile(PAGE, text);
}

/** @param {string} line */
function versionIn(line) {
  return /2\d{3}\.\d+\.\d+/.exec(line)?.[0] ?? "";
}

/** @param {string[]} args */
async function main(args) {
  const unknown = args.find((version) => !VERSIONS.includes(version));
  if (unknown) throw new SetupError(`${unknown} is none of the versions: ${VERSIONS.join(", ")}`);
  if (await onNewNode(fileURLToPath(import.meta.url), args)) return;
  const folder = await mkdtemp(join(tmpdir(), "agentwatch-versions-"));
  try {
    const { AGENTWATCH_TGZ, AGENTWATCH_RECEIVER } = process.env;
    const tgz = AGENTWATCH_TGZ ?? (await packPlugin(folder));
    const binary = AGENTWATCH_RECEIVER ?? (await buildReceiver());
    for (const version of args.length > 0 ? args : VERSIONS) {
      await openclaw(version);
      const report = await examine(version, tgz, binary);
      for (const { name, why } of report.failed) say(`${version}: ${name}\n${why}`);
      await write([report]);
      console.log(row(report).join("  "));
      if (report.failed.length > 0 || report.differences.length > 0) process.exitCode = 1;
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

main(process.argv.slice(2)).catch((error) => {
  say(error instanceof SetupError ? error.message : error.stack);
  process.exitCode = 1;
});
