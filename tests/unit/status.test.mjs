// The command `status` on a state directory whose gateway runs, has stopped, or was
// killed.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { inWords, StatusWriter } from "../../dist/pipeline.js";
import { until, within } from "./faulty-receiver.mjs";
import { Receiver, started } from "./world.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const DIST = new URL("../../dist/", import.meta.url).href;
const root = mkdtempSync(join(tmpdir(), "agentwatch-status-"));
after(() => rmSync(root, { recursive: true, force: true }));

/** An address at which nothing listens. */
const NOWHERE = "http://127.0.0.1:9";

/** @param {string} stateDir @param {...string} more */
function status(stateDir, ...more) {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [CLI, "status", "--state-dir", stateDir, ...more],
    {
      encoding: "utf8",
    },
  );
  return { stdout, stderr, code: status };
}

/** @param {string} stateDir */
function document(stateDir) {
  const { stdout, code } = status(stateDir, "--json");
  return { ...JSON.parse(stdout), code };
}

/** A process that counts calls, prints a line, and runs until it is ended. @param {string} stateDir @param {string} url @param {number} calls */
async function gateway(stateDir, url, calls) {
  const script = join(root, "gateway.mjs");
  writeFileSync(
    script,
    `import { instantiate, priceTable } from "${DIST}base.js";
    import { Pipeline } from "${DIST}pipeline.js";
    const [, , folder, url, calls] = process.argv;
    const log = { info() {}, warn() {} };
    const host = { instantiate, priceTable, log, wall: () => Date.now(), mono: () => performance.now(), folder };
    const pipeline = new Pipeline(host, { url, identityKey: "00".repeat(16) });
    await pipeline.open();
    for (let index = 0; index < Number(calls); index += 1) {
      const usage = { input: 10 + index, output: 1, cost: { total: 0.25 } };
      const message = { role: "assistant", provider: "p", model: "m", stopReason: "stop", usage, timestamp: Date.now() - index };
      pipeline.accept("before_message_write", [{ message }, { sessionKey: "agent:main:x" }]);
    }
    setTimeout(() => console.log("counted"), 3_000);
    process.on("SIGTERM", async () => { await pipeline.stop(200); await pipeline.close(); process.exit(0); });
    setInterval(() => {}, 1_000);`,
  );
  const child = spawn(process.execPath, [script, join(stateDir, "agentwatch"), url, String(calls)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  after(() => child.kill("SIGKILL"));
  await within(once(child.stdout, "data"), "the process has counted");
  return child;
}

test("a directory without state of the plugin", () => {
  const { stderr, code } = status(join(root, "none"));
  assert.equal(code, 2);
  assert.match(stderr, /never run on .*none.*--state-dir/);
});

test("--json is one document, whatever happens", () => {
  const none = join(root, "none");
  for (const args of [
    ["status", "--state-dir", none],
    ["status", "--no-such-option"],
    ["doctor", "--state-dir", none],
    ["doctor", "--no-such-option"],
    ["test", "--no-such-option"],
    ["report", "--state-dir", none],
    ["reconcile", "--provider", "nobody"],
    ["sync", "--state-dir", none],
    ["sync", "--no-such-option"],
    ["sync", "--gateway", "nowhere"],
    ["allow", "--no-such-option"],
    ["ingest", "--no-such-option"],
    ["litellm", "--no-such-option"],
    ["purge", "--no-such-option"],
    ["proxy", "--no-such-option"],
    ["no-such-command"],
  ]) {
    const { stdout, stderr, status } = spawnSync(process.execPath, [CLI, ...args, "--json"], {
      encoding: "utf8",
      env: { PATH: process.env.PATH, HOME: none },
    });
    assert.ok(status === 1 || status === 2, `${args}: ${status} ${stderr}`);
    const document = JSON.parse(stdout);
    assert.ok(typeof document.error === "string" || Array.isArray(document.findings), `${args}: ${stdout}`);
  }
});

test("docs/delivery.md names the fields of what was lost, and every one", async () => {
  const page = readFileSync(new URL("../../docs/delivery.md", import.meta.url), "utf8");
  const section = /^## What was lost, and why$([^]*?)^## /m.exec(page)?.[1] ?? "";
  const rows = [...section.matchAll(/^\| (`.*?) \|/gm)].map(([, names = ""]) => names);
  const named = rows.flatMap((names) => names.split(", ").map((name) => name.replaceAll("`", "")));
  const { gateway, close } = await started({
    otlp: { url: NOWHERE },
    webhook: { url: NOWHERE, secret: "made-up" },
  });
  try {
    await gateway.start();
    const told = await gateway.status();
    const existing = paths(told);
    assert.deepEqual(
      named.filter((name) => !existing.includes(name)),
      [],
      "fields that are not there",
    );
    const lost = existing.filter((name) => /(^|[._])(dropped|rejected|refused)/.test(name));
    assert.ok(lost.length > 8, lost.join(", "));
    assert.deepEqual(
      lost.filter((name) => !named.includes(name)),
      [],
      "fields without a line",
    );
    await gateway.stop();
  } finally {
    close();
  }
});

/** The paths of a document's fields, such as `webhook.dropped`. @param {object} value @returns {string[]} */
function paths(value, before = "") {
  return Object.entries(value).flatMap(([name, inner]) => [
    before + name,
    ...(inner && typeof inner === "object" ? paths(inner, `${before}${name}.`) : []),
  ]);
}

test("a running gateway, and a receiver that accepts everything", async () => {
  const receiver = await Receiver.open();
  const stateDir = join(root, "well");
  const child = await gateway(stateDir, receiver.url, 5);
  try {
    // The status is written at intervals.
    await until(() => document(stateDir).status.delivered === 5);
    const { owner, status: told, code } = document(stateDir);
    assert.equal(owner.pid, child.pid);
    assert.deepEqual([told.requests, told.delivered, told.waiting], [5, 5, 0]);
    assert.equal(code, 0);
    const { stdout } = status(stateDir);
    assert.match(stdout, /5 counted, 5 delivered, 0 waiting/);
    assert.equal(statSync(join(stateDir, "agentwatch", "status.json")).mode & 0o777, 0o600);
  } finally {
    child.kill("SIGKILL");
    receiver.close();
  }
});

test("a stopped gateway with pending calls", async () => {
  const stateDir = join(root, "stopped");
  const child = await gateway(stateDir, NOWHERE, 7);
  child.kill("SIGTERM");
  await within(once(child, "exit"), "the process ends");
  const { owner, status: told, code } = document(stateDir);
  assert.equal(owner, null);
  assert.equal(told.waiting, 7);
  assert.equal(code, 1);
  assert.match(status(stateDir).stdout, /trouble +nothing runs: start the gateway/);
});

test("a killed gateway: pending calls are counted in its journal, which is not changed", async () => {
  const stateDir = join(root, "killed");
  const child = await gateway(stateDir, NOWHERE, 9);
  child.kill("SIGKILL");
  await within(once(child, "exit"), "the process ends");
  const before = existsSync(join(stateDir, "agentwatch", "owner.json"));
  for (let times = 0; times < 2; times += 1) {
    const { owner, status: told } = document(stateDir);
    assert.equal(owner, null, "its process is gone, whatever the file says");
    assert.equal(told.waiting, 9);
  }
  assert.equal(existsSync(join(stateDir, "agentwatch", "owner.json")), before);
  const receiver = await Receiver.open();
  const next = await gateway(stateDir, receiver.url, 0);
  try {
    await until(() => receiver.totals["p/m"]?.requests === 9);
  } finally {
    next.kill("SIGKILL");
    receiver.close();
  }
});

test("a status file that is no JSON counts as absent", () => {
  const stateDir = join(root, "well");
  writeFileSync(join(stateDir, "agentwatch", "status.json"), '{"written_ms": 1');
  const { written_ms, code } = document(stateDir);
  assert.deepEqual([written_ms, code], [null, 1]);
  assert.ok(readFileSync(join(stateDir, "agentwatch", "status.json"), "utf8").startsWith("{"));
});

test("the address of the metrics, while their owner runs", () => {
  const now = Date.now();
  const owner = { pid: 1, host: "h", role: "gateway" };
  const url = "http://127.0.0.1:9464/metrics";
  const lines = (/** @type {any} */ of, /** @type {object} */ metrics) =>
    inWords({ owner: of, written_ms: now, status: { url: "http://a", metrics } }, now).join("\n");
  assert.match(lines(owner, { url }), /^metrics +http:\/\/127\.0\.0\.1:9464\/metrics$/m);
  assert.doesNotMatch(lines(null, { url }), /9464/);
  assert.match(
    lines(owner, { problem: "metricsPort 9464: taken; set another" }),
    /^trouble +metricsPort 9464: taken/m,
  );
});

test("the lines of pending calls, sources and a collector", () => {
  const now = Date.now();
  const metrics = { sent: 12, rejected: 1, refused: 2, given_up_bytes: 0, last_error: null };
  const traces = {
    sent: 3,
    rejected: 0,
    refused: 0,
    given_up_bytes: 4096,
    last_error: "does not take /v1/traces",
  };
  const status = {
    url: "http://watch:8470",
    receiver: "ids",
    counted_by: "diagnostics and messages",
    waiting: 4,
    oldest_unsent_ms: now - 30_000,
    otlp: { url: "http://collector:4318", metrics, traces },
  };
  const text = inWords({ owner: null, written_ms: now, status }, now).join("\n");
  assert.match(text, /sends to +http:\/\/watch:8470 \(ids\)\ncounts by +diagnostics and messages\n/);
  assert.match(text, /4 waiting \(the oldest ended 30 s ago\), last never/);
  assert.match(text, /collector +http:\/\/collector:4318\n +metrics: 12 sent, 3 refused, last error: none/);
  assert.match(
    text,
    /traces: 3 sent, 0 refused, 4096 bytes given up, last error: does not take \/v1\/traces/,
  );
  const off = inWords({ owner: null, written_ms: now, status: { url: false, otlp: status.otlp } }, now).join(
    "\n",
  );
  assert.match(off, /sends to +no AgentWatch/);
  assert.doesNotMatch(off, /url is/);
  const nowhere = inWords({ owner: null, written_ms: now, status: { url: false } }, now).join("\n");
  assert.match(nowhere, /trouble +url is false, and there is no otlp/);
  for (const way of [{ metrics: { url: "http://127.0.0.1:9464/metrics" } }, { webhook: { waiting: 0 } }]) {
    const told = inWords({ owner: null, written_ms: now, status: { url: false, ...way } }, now).join("\n");
    assert.doesNotMatch(told, /url is/);
  }
});

test("files of a newer version are named", () => {
  const status = { url: "http://h", newer_files: ["journal/ledger-0000000009.awj"] };
  const told = inWords({ owner: null, written_ms: null, status }, Date.now()).join("\n");
  assert.match(told, /trouble +journal\/ledger-0000000009\.awj is of a newer version of the plugin/);
});

test("the line of the history", () => {
  const history = { since: Date.parse("2026-11-01T08:00Z"), sessions: 12, rows: 3_400 };
  const told = inWords({ owner: null, written_ms: null, status: { history } }, Date.now());
  assert.match(
    told.join("\n"),
    /history +since 2026-11-01 08:00 is being filled in: 12 sessions, 3400 calls read/,
  );
});

test("an unchanged status is written once a minute, another one at once", () => {
  const folder = mkdtempSync(join(root, "unchanged-"));
  let now = 1_795_000_000_000;
  const writer = new StatusWriter(folder, () => now);
  const file = join(folder, "status.json");
  /** The time in the file after a write. @param {Record<string, unknown>} status @param {number} ms */
  const written = (status, ms) => {
    now += ms;
    writer.write(status);
    return JSON.parse(readFileSync(file, "utf8")).written_ms - 1_795_000_000_000;
  };
  assert.equal(written({ requests: 1 }, 0), 0);
  assert.equal(written({ requests: 1 }, 59_000), 0);
  assert.equal(written({ requests: 2 }, 500), 59_500);
  assert.equal(written({ requests: 2 }, 60_000), 119_500);
});
