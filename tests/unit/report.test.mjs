// The command `report`: what a state directory and a receiver have, for people, spreadsheets and programs.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { printed } from "../../scripts/lib/commands.mjs";
import { agentwatch, json, ledger, TOKEN } from "./invoice-servers.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "agentwatch-report-"));
const stateDir = join(root, "state");
const NAMES = ["main", "\u202emain\u001b[31m", "=HYPERLINK(1)", "漢字".repeat(100), "<img src=x onerror=1>"];
after(() => rmSync(root, { recursive: true, force: true }));

/** @param {string[]} args @param {string} [input] @param {Record<string, string>} [env] */
async function cli(args, input = "", env = {}) {
  const child = spawn(process.execPath, [CLI, ...args], {
    // A colour may be wanted.
    env: { PATH: process.env.PATH, HOME: root, TZ: "Pacific/Kiritimati", FORCE_COLOR: "1", ...env },
    timeout: 60_000,
  });
  const out = { stdout: "", stderr: "" };
  for (const name of /** @type {const} */ (["stdout", "stderr"]))
    child[name].setEncoding("utf8").on("data", (text) => {
      out[name] += text;
    });
  child.stdin.end(input);
  const [code] = await once(child, "close");
  return { code, ...out };
}

/** Runs `report` on the state directory. @param {string[]} args */
const report = (...args) => cli(["report", "--state-dir", stateDir, ...args]);

/** The lines of calls, one for each agent. */
function calls() {
  const of = (/** @type {string} */ agentName, /** @type {number} */ index) => ({
    type: "model",
    action: "used",
    context: { model: "openai/gpt-4o-mini", agentName, promptTokens: 1000 + index, completionTokens: 100 },
  });
  return `${NAMES.map((name, index) => JSON.stringify(of(name, index))).join("\n")}\n`;
}

/** AgentWatch, which takes everything. */
const receiver = createServer((request, response) =>
  request.url?.includes("capabilities") ? json(response, {}, 404) : json(response, { status: "ok" }),
);
/** The time before and after the calls were counted. @type {number[]} */
const counted = [];
before(async () => {
  mkdirSync(stateDir);
  await once(receiver.listen(0, "127.0.0.1"), "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (receiver.address());
  const args = ["ingest", "--state-dir", stateDir, "--url", `http://127.0.0.1:${port}`];
  counted.push(Date.now());
  const { code, stderr } = await cli(args, calls());
  counted.push(Date.now());
  assert.equal(code, 0, stderr);
});
after(() => receiver.close());

test("a receiver's answer without an end is given up", async () => {
  const { get } = await import(new URL("../../dist/ask.js", import.meta.url).href);
  const server = createServer((request, response) => {
    const timer = setInterval(() => response.write("x".repeat(request.url === "/slow" ? 1 : 100_000)), 10);
    response.on("close", () => clearInterval(timer));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const bounds = { pauseMs: 1_000, wholeMs: 500, bytes: 1_000_000 };
  try {
    for (const [path, why] of [
      ["slow", "it did not end within 0.5 s"],
      ["large", "it is larger than 1000000 bytes"],
    ]) {
      let taken = 0;
      const count = (/** @type {number} */ _, /** @type {Uint8Array} */ piece) => {
        taken += piece.length;
      };
      const ended = await get(`http://127.0.0.1:${port}/${path}`, {}, count, bounds);
      assert.deepEqual(ended, { status: 0, why, isEndless: true, retryAfterMs: undefined });
      assert.ok(taken > 0 && taken <= 1_000_000, `${taken}`);
    }
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

describe("report of a state directory", () => {
  test("has every call, after AgentWatch has them and the process ended", async () => {
    const { code, stdout, stderr } = await report("--json", "--by", "agent,model");
    assert.equal(code, 0, stderr);
    const document = JSON.parse(stdout);
    assert.equal(document.sum.calls, NAMES.length);
    assert.equal(document.sum.prompt_tokens, 5010);
    assert.equal(document.rows.length, NAMES.length);
    const usd = document.rows.reduce(
      (/** @type {number} */ sum, /** @type {any} */ row) => sum + row.cost_usd,
      0,
    );
    assert.ok(usd > 0 && Math.abs(usd - document.sum.cost_usd) < 1e-9);
  });

  test("has the same costs in FOCUS, and says which options exclude it", async () => {
    const document = JSON.parse((await report("--json")).stdout);
    const { code, stdout, stderr } = await report("--focus");
    assert.equal(code, 0, stderr);
    const [head = "", ...rows] = stdout.trim().split("\n");
    assert.equal(head.split(",").length, 37);
    const account = rows.map((row) => row.split(",")[head.split(",").indexOf("BillingAccountId")]);
    const { status } = JSON.parse(readFileSync(join(stateDir, "agentwatch", "status.json"), "utf8"));
    assert.ok(status.gateway);
    assert.deepEqual(new Set(account), new Set([status.gateway]));
    assert.equal(rows.length, NAMES.length);
    const usd = rows.reduce((sum, row) => sum + Number(row.split(",")[0]), 0);
    assert.ok(Math.abs(usd - document.sum.cost_usd) < 1e-9, `${usd}`);
    for (const [options, said] of /** @type {[string[], RegExp][]} */ ([
      [["--focus", "--csv"], /--csv and --focus: write one of them/],
      [["--focus", "--zone", "Europe/Berlin"], /--focus and --zone: .*leave --zone out/],
      [["--focus", "--by", "day"], /--focus and --by: .*leave --by out/],
      [["--focus", "--receiver", "http://127.0.0.1:1"], /download its \/models\/focus\.csv/],
    ])) {
      const refused = await report(...options);
      assert.equal(refused.code, 2);
      assert.match(refused.stderr, said);
    }
  });

  test("is made where the machine's zone has no name, and tells beside a table what limits it", async () => {
    for (const TZ of ["", "GMT+5"]) {
      const { code, stdout, stderr } = await cli(["report", "--state-dir", stateDir, "--json"], "", { TZ });
      assert.equal(code, 0, stderr);
      assert.match(JSON.parse(stdout).zone, /^(UTC|[+]05:00|Etc\/GMT[+]5)$/);
    }
    for (const format of ["--csv", "--focus"]) {
      const { stdout, stderr } = await report(format, "--since", "300d");
      assert.match(stderr, /keeps 70 days of sums/);
      assert.doesNotMatch(stdout, /keeps 70 days/);
    }
  });

  test("counts no call twice, and a torn end takes nothing", async () => {
    const journal = join(stateDir, "agentwatch", "journal");
    const last = readdirSync(journal)
      .filter((name) => name.startsWith("ledger-"))
      .sort()
      .at(-1);
    appendFileSync(join(journal, String(last)), Buffer.from([0xf5, 0x1e, 200, 0, 0, 0, 1, 2, 3]));
    const { stdout } = await report("--json", "--since", "12h");
    assert.equal(JSON.parse(stdout).sum.calls, NAMES.length);
  });

  test("takes eighty columns without a colour, and shows no character that a terminal obeys", async () => {
    for (const by of ["agent", "agent,model", "day,agent,model,trigger"]) {
      const { code, stdout } = await report("--by", by);
      assert.equal(code, 0);
      assert.ok(stdout.split("\n").length > NAMES.length);
      for (const line of stdout.split("\n")) assert.ok(columns(line) <= 80, line);
      assert.doesNotMatch(stdout, /[\p{Cc}\p{Cf}](?<!\n)/u);
    }
  });

  test("has the days of the machine's zone, or of the one that is named", async () => {
    const daysOf = (/** @type {string} */ timeZone) => {
      const format = new Intl.DateTimeFormat("en-CA", { timeZone, dateStyle: "short" });
      return counted.map((at) => format.format(at));
    };
    for (const [args, zone] of /** @type {[string[], string][]} */ ([
      [[], "Pacific/Kiritimati"],
      [["--zone", "America/New_York"], "America/New_York"],
      [["--zone", "UTC"], "UTC"],
    ])) {
      const { stdout } = await report("--json", "--since", "2d", "--by", "day", ...args);
      const document = JSON.parse(stdout);
      assert.equal(document.zone, zone);
      assert.equal(document.rows.length, 1);
      assert.ok(daysOf(zone).includes(document.rows[0].day), `${document.rows[0].day}, ${daysOf(zone)}`);
    }
    const { code, stderr } = await report("--zone", "Mars/Olympus");
    assert.deepEqual(
      [code, stderr.includes("--zone Mars/Olympus: not a time zone; write a name such as Europe/Berlin")],
      [2, true],
    );
  });

  test("computes nothing in a spreadsheet", async () => {
    const { stdout } = await report("--csv", "--by", "agent");
    const lines = stdout.trim().split("\n");
    assert.equal(lines.length, NAMES.length + 1);
    for (const line of lines) assert.match(line, /^("'|[\w<漢"])/u, line);
  });

  test("of a time without calls is a report, too", async () => {
    const { code, stdout } = await cli([
      "report",
      "--state-dir",
      stateDir,
      "--since",
      "2026-01-01T00:00Z",
      "--json",
    ]);
    // More than a year later that begin is refused.
    if (code === 0) assert.ok(Array.isArray(JSON.parse(stdout).rows));
    else assert.match(stdout, /366 days/);
  });

  for (const [args, words] of /** @type {[string[], RegExp][]} */ ([
    [["--since", "soon"], /--since soon: not a time; write 12h, 7d/],
    [["--since", "2999-01-01"], /--since 2999-01-01: that is in the future/],
    [["--by", "color"], /--by color: not one of model, agent/],
    [["--by", "session"], /--receiver/],
    [["--json", "--csv"], /--json and --csv: write one of them/],
    [["--no-such"], /--help shows the options/],
    [["month"], /--help shows the options/],
    [["--receiver", "not a url"], /--receiver: write an address/],
  ]))
    test(`refuses ${args.join(" ")}`, async () => {
      const { code, stdout, stderr } = await report(...args);
      assert.equal(code, 2);
      assert.match(stderr, words);
      if (!args.includes("--json")) assert.equal(stdout, "");
    });

  test("says where the plugin never ran, and makes nothing there", async () => {
    const empty = join(root, "empty");
    const { code, stderr } = await cli(["report", "--state-dir", empty]);
    assert.equal(code, 2);
    assert.match(stderr, /has never run on .*empty: name its state directory with --state-dir/);
    assert.ok(!existsSync(empty));
  });
});

test("a receiver has the same figures, by session", async (t) => {
  const calls = ledger("openai");
  const url = await agentwatch(t, "openai", calls);
  const env = { AGENTWATCH_TOKEN: TOKEN };
  const args = ["report", "--receiver", url, "--since", "60d", "--by", "session", "--json"];
  const { code, stdout, stderr } = await cli(args, "", env);
  assert.equal(code, 0, stderr);
  const { sum } = JSON.parse(stdout);
  assert.equal(
    sum.completion_tokens,
    calls.reduce((sum, { output }) => sum + output, 0),
  );
  assert.ok(!`${stdout}${stderr}`.includes(env.AGENTWATCH_TOKEN));
});

test("the commands of its page", async (t) => {
  const commands = await printed("docs/report.md", "What did last night cost?");
  const url = await agentwatch(t, "openai", ledger("openai"));
  assert.ok(commands.length > 3);
  for (const command of commands) {
    const [, words = ""] = /^agentwatch-openclaw (report.*)$/.exec(command) ?? [];
    const args = words.replace(/http:\S+/, url).split(" ");
    const place = words.includes("http") ? [] : ["--state-dir", stateDir];
    const { code, stderr } = await cli([...args, ...place], "", { AGENTWATCH_TOKEN: TOKEN });
    assert.equal(code, 0, `${command}\n${stderr}`);
  }
});

/** The columns that a line takes in a terminal: two for a wide character. @param {string} line */
function columns(line) {
  return [...line].reduce(
    (sum, character) => sum + (/[\u1100-\u115f\u2e80-\u9fff\uff00-\uff60]/.test(character) ? 2 : 1),
    0,
  );
}
