// `agentwatch-openclaw sync` on session stores, as a user runs it: every call counts once, beside the plugin and after it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, cpSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { FaultyReceiver } from "./faulty-receiver.mjs";
import { Database, lines, Store } from "./stored.mjs";
import { Gateway, Receiver, SESSION } from "./world.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];

/** @typedef {import("node:test").TestContext} TestContext */

/** A store, a receiver, and a way to run the command on them. @param {TestContext} t */
async function world(t) {
  const store = new Store();
  const receiver = await Receiver.open();
  t.after(() => {
    receiver.close();
    store.close();
  });
  const run = (/** @type {string[]} */ ...args) => sync(t, store.stateDir, receiver.url, args);
  /** Number of requests by prompt tokens, which identify a row. */
  const requests = () => receiver.totals["mock/m1"]?.requests ?? 0;
  const prompt = () => receiver.totals["mock/m1"]?.prompt ?? 0;
  return { store, receiver, run, requests, prompt };
}

/**
 * @param {TestContext} t @param {string} stateDir @param {string} url @param {string[]} args
 * @param {{ node?: string, cli?: string, uid?: number, gid?: number }} [options]
 */
function sync(t, stateDir, url, args, { node = process.execPath, cli = CLI, ...options } = {}) {
  const env = { PATH: process.env.PATH ?? "", HOME: stateDir, AGENTWATCH_URL: url };
  const child = spawn(node, [cli, "sync", "--state-dir", stateDir, ...args], {
    ...options,
    env,
    timeout: 300_000,
    killSignal: "SIGKILL",
  });
  t.after(() => child.kill("SIGKILL"));
  const said = { out: "", error: "" };
  child.stdout?.setEncoding("utf8").on("data", (text) => {
    said.out += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text) => {
    said.error += text;
  });
  const ended = once(child, "close").then(([status]) => ({ status, ...said }));
  const says = (/** @type {RegExp} */ pattern) =>
    until(
      () => pattern.test(said.error),
      () => said.error,
    );
  return { child, said, says, ended };
}

/** @param {() => boolean | Promise<boolean>} condition @param {() => unknown} [what] */
async function until(condition, what = () => condition.toString()) {
  for (let tries = 0; !(await condition()); tries += 1) {
    assert.ok(tries < 1_200, `waited for: ${what()}`);
    await sleep(25);
  }
}

/** A stored answer; its number is its prompt tokens. @param {number} number @param {number} agoMs */
function call(number, agoMs) {
  const at = Date.now() - agoMs;
  const usage = { input: number, output: 1, cacheRead: 0, cacheWrite: 0, cost: { total: 0.25 } };
  const answer = { role: "assistant", provider: "mock", model: "m1", stopReason: "stop", usage };
  const message = { ...answer, timestamp: at - 500 };
  return { type: "message", id: `e${number}`, timestamp: new Date(at).toISOString(), message };
}

const head = (/** @type {string} */ id, /** @type {number} */ agoMs) => ({
  type: "session",
  version: 3,
  id,
  timestamp: new Date(Date.now() - agoMs).toISOString(),
});

const sum = (/** @type {number} */ from, /** @type {number} */ to) => ((from + to) * (to - from + 1)) / 2;

/** Calls `from` to `to`, each a minute after the one before; the last was `agoMs` ago. */
const calls = (/** @type {number} */ from, /** @type {number} */ to, agoMs = 10 * DAY) =>
  Array.from({ length: to - from + 1 }, (_, index) =>
    call(from + index, agoMs + (to - from - index) * MINUTE),
  );

describe("alone", { concurrency: 4 }, () => {
  test("the first run counts all calls of the store, each further run only new ones", async (t) => {
    const { store, run, requests, prompt } = await world(t);
    store.write("one.jsonl", lines(head("one", 20 * DAY), ...calls(1, 50)));
    const database = await Database.make(store, 23, "other");
    database.append("two", ...calls(51, 100, 2 * HOUR));
    const first = await run("--json").ended;
    assert.equal(first.status, 0, first.error);
    assert.match(first.error, /all calls of the session store/);
    const { calls: counted, sent, waiting, complete, since_ms } = JSON.parse(first.out);
    assert.deepEqual([counted, sent, waiting, complete, since_ms], [100, 100, 0, true, 0]);
    assert.deepEqual([requests(), prompt()], [100, sum(1, 100)]);
    store.append("one.jsonl", lines(call(101, 0)));
    database.append("two", call(102, 0));
    database.close();
    const second = await run().ended;
    assert.equal(second.status, 0, second.error);
    assert.match(second.error, /since the last sync[^;]*\n/);
    assert.deepEqual([requests(), prompt()], [102, sum(1, 102)]);
    const third = await run("--since", "30d").ended;
    assert.match(third.error, /counted already/);
    assert.equal(requests(), 102);
  });

  test("a span, and then a longer one, are counted without an overlap", async (t) => {
    const { store, run, requests, prompt } = await world(t);
    store.write(
      "one.jsonl",
      lines(head("one", 40 * DAY), ...calls(1, 10, 20 * DAY), ...calls(11, 20, 5 * DAY)),
    );
    store.write("two.jsonl", lines(head("two", 40 * DAY), ...calls(21, 30, 2 * HOUR)));
    assert.equal((await run("--since", "12h").ended).status, 0);
    assert.deepEqual([requests(), prompt()], [10, sum(21, 30)]);
    const told = await run().ended;
    assert.match(told.error, /those before .* are counted only with --since/);
    assert.equal(requests(), 10);
    assert.equal((await run("--since", "7d").ended).status, 0);
    assert.deepEqual([requests(), prompt()], [20, sum(11, 30)]);
    const date = new Date(Date.now() - 30 * DAY).toISOString().slice(0, 10);
    assert.equal((await run("--since", date).ended).status, 0);
    assert.deepEqual([requests(), prompt()], [30, sum(1, 30)]);
  });

  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGKILL"])) {
    test(`reading waits for the receiver; the next run continues after ${signal}`, async (t) => {
      const { store, receiver, run, requests, prompt } = await world(t);
      const total = 12_000;
      for (let session = 0; session < 12; session += 1) {
        const rows = calls(session * 1_000 + 1, session * 1_000 + 1_000);
        store.write(`s${session}.jsonl`, lines(head(`s${session}`, 90 * DAY), ...rows));
      }
      let release = () => {};
      receiver.hold = new Promise((resolve) => {
        release = () => resolve(undefined);
      });
      const first = run("--json");
      await until(() => requests() > 0);
      await sleep(1_000);
      first.child.kill(signal);
      // The end waits for the batch that is being read.
      release();
      const { status, out, error } = await first.ended;
      if (signal !== "SIGKILL") {
        assert.equal(status, 2, error);
        const told = JSON.parse(out);
        assert.equal(told.complete, false);
        assert.ok(told.calls >= 1_000 && told.calls < 5_000, `${told.calls} calls were read`);
        assert.match(error, /the next sync continues/);
      }
      receiver.hold = undefined;
      const second = await run().ended;
      assert.equal(second.status, 0, second.error);
      assert.match(second.error, /continuing an earlier sync/);
      assert.deepEqual([requests(), prompt()], [total, sum(1, total)]);
    });
  }

  test("--watch counts new calls, and ends at a signal", async (t) => {
    const { store, run, requests, prompt } = await world(t);
    store.write("one.jsonl", lines(head("one", DAY), call(1, HOUR)));
    const database = await Database.make(store, 23, "other");
    const { child, says, ended } = run("--watch");
    await says(/watching/);
    await until(() => requests() === 1);
    for (let number = 2; number <= 7; number += 2) {
      store.append("one.jsonl", lines(call(number, 0)));
      database.append("two", call(number + 1, 0));
      await until(() => requests() === number + 1);
    }
    database.close();
    child.kill("SIGTERM");
    const { status, error } = await ended;
    assert.equal(status, 0, error);
    assert.deepEqual([requests(), prompt()], [7, sum(1, 7)]);
  });

  test("copied rows are counted once", async (t) => {
    const { store, run, requests } = await world(t);
    const rows = calls(1, 20);
    // `sessions.compact` of 2026.3 leaves the whole session beside its last lines, which have no header.
    store.write("cut.jsonl.bak.2026-11-01T00-00-00.000Z", lines(head("cut", 30 * DAY), ...rows));
    store.write("cut.jsonl", lines(...rows.slice(15), call(21, DAY)));
    store.write("fork.jsonl", lines(head("fork", DAY), ...rows.slice(0, 5), call(22, HOUR)));
    const { status, error } = await run().ended;
    assert.equal(status, 0, error);
    assert.equal(requests(), 22);
  });

  test("all calls of a session count, also when a fork of it is read first", async (t) => {
    const { store, run, requests } = await world(t);
    const rows = [1, 2, 3].map((number) => call(number, 3 * DAY));
    store.write("z-original.jsonl", lines(head("z-original", 4 * DAY), ...rows));
    store.write("a-fork.jsonl", lines(head("a-fork", DAY), ...rows.slice(0, 2), call(4, HOUR)));
    assert.equal((await run().ended).status, 0);
    assert.equal(requests(), 4);
  });

  test("a stock AgentWatch gets history as costs only, unless the option says otherwise", async (t) => {
    for (const [history, usage] of /** @type {const} */ ([
      ["costs", 2],
      ["usage", 12],
    ])) {
      const store = new Store();
      t.after(() => store.close());
      const stock = await FaultyReceiver.open("stock");
      t.after(() => stock.close());
      store.write("one.jsonl", lines(head("one", 20 * DAY), ...calls(1, 10), ...calls(11, 12, 5 * MINUTE)));
      const { status, error } = await sync(t, store.stateDir, stock.url, ["--history", history]).ended;
      assert.equal(status, 0, error);
      assert.equal(stock.costs.size, 12);
      assert.equal(
        [...stock.counted.values()].reduce((total, count) => total + count, 0),
        usage,
      );
    }
  });

  test("cut files, invalid lines and a database of another version are skipped, and the rest is counted", async (t) => {
    const { store, run, requests } = await world(t);
    store.write(
      "cut.jsonl",
      `${lines(head("cut", 20 * DAY), call(1, DAY))}{"type":"message","message":{"role":"assis`,
    );
    const { timestamp: _, message, ...undated } = call(9, DAY);
    const nowhere = { ...undated, message: { ...message, timestamp: undefined } };
    store.write("undated.jsonl", lines(head("undated", 20 * DAY), nowhere));
    store.write(
      "odd.jsonl",
      `${lines(head("odd", 20 * DAY))}{"role":"assistant" no JSON\n\u0000\u0001\n${lines(call(2, DAY))}`,
    );
    (await Database.make(store, 99, "newer")).close();
    const first = await run("--json").ended;
    assert.equal(first.status, 1, first.error);
    assert.equal(requests(), 2);
    const { skipped, problems, complete } = JSON.parse(first.out);
    assert.deepEqual([skipped.malformed, skipped.without_time], [2, 1]);
    assert.equal(complete, false);
    assert.equal(problems.length, 1);
    assert.match(
      problems[0],
      /openclaw-agent\.sqlite has schema version 99; 19 to 23 are known, so it is not read/,
    );
    assert.match(first.error, /has schema version 99/);
    // The cut line is completed.
    store.append("cut.jsonl", `tant"}}\n${lines(call(3, 0))}`);
    await run().ended;
    assert.equal(requests(), 3);
  });

  test("unreadable files are reported, and read once they are readable", async (t) => {
    if (process.getuid?.() !== 0) return t.skip("only root can run it as another user");
    if ((statSync(tmpdir()).mode & 0o001) === 0) return t.skip(`others cannot reach ${tmpdir()}`);
    const { store, receiver, requests } = await world(t);
    // Another user, who may run the command and may not read one of the sessions.
    const elsewhere = mkdtempSync(join(tmpdir(), "agentwatch-elsewhere-"));
    t.after(() => rmSync(elsewhere, { recursive: true, force: true }));
    const [node, dist] = [join(elsewhere, "node"), join(elsewhere, "dist")];
    cpSync(process.execPath, node);
    chmodSync(node, 0o755);
    cpSync(dirname(CLI), dist, { recursive: true });
    writeFileSync(join(elsewhere, "package.json"), '{"type":"module"}');
    chmodSync(elsewhere, 0o755);
    store.write("open.jsonl", lines(head("open", 20 * DAY), call(1, DAY)));
    store.write("closed.jsonl", lines(head("closed", 20 * DAY), call(2, DAY)));
    chmodSync(store.stateDir, 0o777);
    chmodSync(store.path("closed.jsonl"), 0o000);
    const options = { node, cli: join(dist, "cli.js"), uid: 65_534, gid: 65_534 };
    const run = () => sync(t, store.stateDir, receiver.url, ["--json"], options).ended;
    const { status, error, out } = await run();
    assert.equal(status, 1, error);
    assert.match(JSON.parse(out).problems[0], /closed\.jsonl cannot be read: EACCES/);
    assert.equal(requests(), 1);
    chmodSync(store.path("closed.jsonl"), 0o644);
    assert.equal((await run()).status, 0);
    assert.equal(requests(), 2);
  });

  test("an error of an option names the option, its value and the mend", async (t) => {
    const { store, run, receiver } = await world(t);
    store.write("one.jsonl", lines(head("one", DAY)));
    for (const [args, pattern] of /** @type {[string[], RegExp][]} */ ([
      [["--since", "yesterday"], /--since yesterday: not a span of time; write 12h, 30d/],
      [["--since", "2026-13-01"], /--since 2026-13-01: not a span/],
      [["--since", "2999-01-01"], /--since 2999-01-01: that is in the future/],
      [["--history", "all"], /--history all: not one of costs, usage/],
      [["--wach"], /--wach.*--help/],
    ])) {
      const { status, error } = await run(...args).ended;
      assert.equal(status, 2, error);
      assert.match(error, pattern);
    }
    const { status, error } = await sync(t, "/nowhere", receiver.url, []).ended;
    assert.equal(status, 2);
    assert.match(error, /--state-dir \/nowhere: no session store there .*name the gateway's state directory/);
    assert.equal(existsSync(join(store.stateDir, "agentwatch")), false);
    const help = await run("--help").ended;
    assert.equal(help.status, 0);
    assert.match(help.out, /--watch .*within 10 s/);
  });
});

test("a plugin that owns the state directory counts on request, and nothing twice", async (t) => {
  const { store, receiver, requests, prompt } = await world(t);
  const gateway = new Gateway("none");
  t.after(() => gateway.close());
  gateway.register(await gateway.evaluate(), { url: receiver.url });
  gateway.stateDir = store.stateDir;
  store.write("one.jsonl", lines(head("one", 20 * DAY), ...calls(1, 50)));
  await gateway.start();
  const live = call(51, 0);
  gateway.emit("before_message_write", { message: live.message }, SESSION);
  store.append("one.jsonl", lines(live));
  const { status, error } = await sync(t, store.stateDir, receiver.url, ["--since", "30d"]).ended;
  assert.equal(status, 0, error);
  assert.match(error, /belongs to another process \(gateway, process \d+.*asked to fill in calls since/);
  await until(() => requests() === 51);
  await until(() => !existsSync(join(store.stateDir, "agentwatch", "store-request.json")));
  await gateway.stop();
  // The plugin has ended, and sync owns the directory: calls of events and of the store are not counted again.
  store.append("one.jsonl", lines(call(52, 0)));
  const after = await sync(t, store.stateDir, receiver.url, ["--since", "40d"]).ended;
  assert.equal(after.status, 0, after.error);
  assert.deepEqual([requests(), prompt()], [52, sum(1, 52)]);
});

test("a plugin that starts while sync watches writes spool files, and takes over when sync ends", async (t) => {
  const { store, receiver, run, requests, prompt } = await world(t);
  store.write("one.jsonl", lines(head("one", HOUR), call(1, MINUTE)));
  const { child, says, ended } = run("--watch");
  await says(/watching/);
  const gateway = new Gateway("none");
  t.after(() => gateway.close());
  gateway.register(await gateway.evaluate(), { url: receiver.url });
  gateway.stateDir = store.stateDir;
  await gateway.start();
  for (let number = 2; number <= 6; number += 1) {
    const live = call(number, 0);
    gateway.emit("before_message_write", { message: live.message }, SESSION);
    store.append("one.jsonl", lines(live));
    await sleep(700);
  }
  await until(() => requests() === 6);
  child.kill("SIGTERM");
  assert.equal((await ended).status, 0);
  await until(async () => (await gateway.status()).standing === "owner");
  const last = call(7, 0);
  gateway.emit("before_message_write", { message: last.message }, SESSION);
  store.append("one.jsonl", lines(last));
  await until(() => requests() === 7);
  // A next sync reads all rows again, and counts none.
  await gateway.stop();
  await sleep(3_000);
  assert.equal((await run().ended).status, 0);
  assert.deepEqual([requests(), prompt()], [7, sum(1, 7)]);
});
