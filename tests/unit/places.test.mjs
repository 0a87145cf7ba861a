// Session stores at other paths and in other shapes: `session.store` of the configuration, several agents in one store, archives
// of the move into the database, rows with providers' names. The command `sync` counts them.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { zstdCompressSync } from "node:zlib";
import { answer, Database, header, lines, Store } from "./stored.mjs";
import { Gateway, Receiver } from "./world.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));

/** A state directory, a receiver, and the command. @param {import("node:test").TestContext} t */
async function world(t) {
  const store = new Store();
  const receiver = await Receiver.open();
  /** @type {Database[]} */
  const databases = [];
  t.after(() => {
    for (const database of databases) database.close();
    receiver.close();
    store.close();
  });
  const { stateDir } = store;
  const at = (/** @type {string} */ path) => {
    const whole = join(stateDir, path);
    mkdirSync(dirname(whole), { recursive: true });
    return whole;
  };
  return {
    store,
    at,
    receiver,
    /** @param {object} config */
    configure: (config) => writeFileSync(at("openclaw.json"), JSON.stringify(config)),
    /** @param {string} path @param {object[]} rows */
    write: (path, ...rows) => writeFileSync(at(path), lines(header("h"), ...rows)),
    /** A database, with the sessions' keys. @param {string} path @param {Record<string, string>} keys */
    database: (path, keys) => {
      const database = new Database(new DatabaseSync(at(path)), 23);
      for (const [session, key] of Object.entries(keys))
        database.run("INSERT INTO session_windows VALUES (?, ?)", session, key);
      databases.push(database);
      return database;
    },
    /** The calls that one run counts. @param {Record<string, string>} [env] */
    sync: async ({ SINCE, ...env } = {}) => {
      const given = { PATH: process.env.PATH ?? "", HOME: stateDir, AGENTWATCH_URL: receiver.url, ...env };
      const args = ["sync", "--json", "--state-dir", stateDir, ...(SINCE ? ["--since", SINCE] : [])];
      const child = spawn(process.execPath, [CLI, ...args], {
        env: given,
        timeout: 120_000,
        killSignal: "SIGKILL",
      });
      let [out, error] = ["", ""];
      child.stdout.setEncoding("utf8").on("data", (text) => {
        out += text;
      });
      child.stderr.setEncoding("utf8").on("data", (text) => {
        error += text;
      });
      const [status] = await once(child, "close");
      return { status, error, ...(out ? JSON.parse(out) : {}) };
    },
  };
}

describe("session.store", { concurrency: 4 }, () => {
  for (const [
    what,
    path,
    folder,
    env,
  ] of /** @type {[string, string, string, Record<string, string>?][]} */ ([
    ["in the home folder", "~/elsewhere/sessions.json", "elsewhere"],
    ["with a variable", "${DATA}/sessions.json", "data", { DATA: "" }],
    ["of another name", "~/elsewhere/mine.json", "elsewhere"],
    ["in a folder of sessions", "~/elsewhere/sessions/sessions.json", "elsewhere/sessions"],
  ]))
    test(`${what}: its transcripts count beside the state directory's`, async (t) => {
      const { store, write, configure, sync, receiver } = await world(t);
      configure({ session: { store: path } });
      write("agents/main/sessions/a.jsonl", answer(1));
      write(`${folder}/b.jsonl`, answer(2), answer(3));
      const named = env && { DATA: join(store.stateDir, folder) };
      const { status, calls, error } = await sync(named);
      assert.deepEqual([status, calls], [0, 3], error);
      write(`${folder}/c.jsonl.reset.2026-11-21T00-00-00.000Z`, answer(4), answer(5));
      write(`${folder}/b.jsonl`, answer(2), answer(3), { ...answer(6), timestamp: new Date().toISOString() });
      assert.deepEqual((await sync(named)).calls, 1, "the reset one is older than the first run");
      assert.equal(receiver.totals["mock/m1"]?.requests, 4);
    });

  test("with a variable that only the gateway has: from its .env, or from the configuration", async (t) => {
    const { at, write, configure, sync, store } = await world(t);
    const path = join(store.stateDir, "elsewhere");
    write("agents/main/sessions/a.jsonl", answer(1));
    write("elsewhere/b.jsonl", answer(2));
    configure({ session: { store: "${DATA}/sessions.json" } });
    const unset = await sync();
    assert.deepEqual([unset.status, unset.calls, unset.problems.length], [1, 1, 1], unset.error);
    assert.match(unset.problems[0], /session\.store \$\{DATA\}\/sessions\.json names a variable/);
    for (const env of [{ vars: { DATA: path } }, { DATA: path }]) {
      configure({ env, session: { store: "${DATA}/sessions.json" } });
      assert.deepEqual((await sync()).problems, []);
    }
    writeFileSync(at(".env"), `DATA="${path}"\n`);
    configure({ env: { vars: { DATA: "/nowhere" } }, session: { store: "${DATA}/sessions.json" } });
    write("elsewhere/c.jsonl", { ...answer(3), timestamp: new Date().toISOString() });
    const { status, problems, calls } = await sync();
    assert.deepEqual([status, problems, calls], [0, [], 1]);
  });

  test("in a file that the configuration includes: logged, since it may be unknown", async (t) => {
    const { write, configure, sync } = await world(t);
    write("agents/main/sessions/a.jsonl", answer(1));
    configure({ session: { $include: "./session.json5" } });
    const { status, error, calls, problems } = await sync();
    assert.deepEqual([status, calls, problems], [0, 1, []]);
    assert.match(error, /\$include/);
  });

  test("with an agent's id in it: one store for each agent", async (t) => {
    const { at, write, configure, database, sync, receiver } = await world(t);
    configure({ session: { store: at("stores/{agentId}/sessions.json") } });
    write("stores/main/a.jsonl", answer(1));
    write("stores/side/a.jsonl", answer(2), answer(3));
    // As on a newer gateway, which has no transcript files.
    database("stores/ops/openclaw-agent.sqlite", { s: "agent:ops:main" }).append("s", answer(4));
    const { calls, error } = await sync();
    assert.equal(calls, 4, error);
    assert.deepEqual(receiver.agents, { main: 1, side: 2, ops: 1 });
  });

  test("with an agent's id in the file's name, and in the folder of another gateway's agents", async (t) => {
    const { at, write, configure, database, sync, receiver } = await world(t);
    configure({ session: { store: at("other/agents/{agentId}/sessions/sessions.json") } });
    write("other/agents/main/sessions/a.jsonl", answer(1));
    database("other/agents/side/agent/openclaw-agent.sqlite", { s: "agent:side:main" }).append(
      "s",
      answer(2),
    );
    assert.equal((await sync()).calls, 2);
    assert.deepEqual(receiver.agents, { main: 1, side: 1 });
    configure({ session: { store: at("flat/{agentId}.json") } });
    const row = (/** @type {number} */ number) => ({
      ...answer(number),
      timestamp: new Date().toISOString(),
    });
    database("flat/main.sqlite", { s: "agent:main:main" }).append("s", row(3));
    database("flat/side.sqlite", { s: "agent:side:main" }).append("s", row(4));
    database("flat/ops.ops.2.sqlite", { s: "agent:ops:main" }).append("s", row(5), row(6));
    assert.equal((await sync()).calls, 4);
    assert.deepEqual(receiver.agents, { main: 2, side: 2, ops: 2 });
  });

  test("that is the default path, or a link to it, counts once", async (t) => {
    const { store, at, write, configure, database, sync } = await world(t);
    write("agents/main/sessions/a.jsonl", answer(1), answer(2));
    database("agents/side/agent/openclaw-agent.sqlite", { s: "agent:side:main" }).append("s", answer(3));
    configure({ session: { store: "~/agents/{agentId}/sessions/sessions.json" } });
    assert.equal((await sync()).calls, 3);
    symlinkSync(join(store.stateDir, "agents"), at("linked"));
    configure({ session: { store: "~/linked/{agentId}/sessions/sessions.json" } });
    assert.equal((await sync()).calls, 0);
  });

  test("alone: the state directory has no store, and no store exists", async (t) => {
    const { write, configure, sync, at } = await world(t);
    configure({ session: { store: "~/elsewhere/sessions.json" } });
    const { status, error } = await sync();
    assert.equal(status, 2);
    assert.match(
      error,
      /no session store there .*nor anything at session\.store \S+elsewhere\/sessions\.json/,
    );
    write("elsewhere/a.jsonl", answer(1));
    writeFileSync(at("elsewhere/sessions.json"), "{}");
    assert.deepEqual((await sync()).calls, 1);
  });
});

test("a plugin reads the store of the gateway's configuration", async (t) => {
  const { store, at, write, sync, receiver } = await world(t);
  const gateway = new Gateway("none");
  t.after(() => gateway.close());
  gateway.config = { session: { store: at("elsewhere/{agentId}/sessions.json") } };
  gateway.stateDir = store.stateDir;
  gateway.register(await gateway.evaluate(), { url: receiver.url });
  write("agents/main/sessions/a.jsonl", answer(1));
  write("elsewhere/side/b.jsonl", answer(2), answer(3));
  await gateway.start();
  // `sync` asks it to count older calls.
  const { status, handed_over } = await sync({ SINCE: "2026-01-01" });
  assert.deepEqual([status, handed_over], [0, true]);
  for (let tries = 0; receiver.totals["mock/m1"]?.requests !== 3; tries += 1) {
    assert.ok(tries < 800, "waited for the calls of the store");
    await sleep(25);
  }
  assert.deepEqual(receiver.agents, { main: 1, side: 2 });
  await gateway.stop();
});

describe("several agents in one store", { concurrency: 4 }, () => {
  test("are distinguished by the sessions' keys in a database", async (t) => {
    const { database, sync, receiver } = await world(t);
    const shared = database("agents/main/agent/openclaw-agent.sqlite", {
      a: "agent:main:main",
      b: "agent:side:main",
      c: "agent:ops:telegram:direct:1",
      d: "global",
    });
    for (const [index, session] of ["a", "b", "c", "d"].entries()) shared.append(session, answer(1 + index));
    assert.equal((await sync()).calls, 4);
    assert.deepEqual(receiver.agents, { main: 2, side: 1, ops: 1 });
  });

  test("are distinguished by the index of transcript files", async (t) => {
    const { at, write, configure, sync, receiver } = await world(t);
    configure({
      session: { store: "~/shared/sessions.json" },
      agents: { defaults: { sessionStore: { agentId: "first" } } },
    });
    const index = { "agent:main:main": { sessionId: "a" }, "agent:side:main": { sessionId: "b" }, odd: null };
    write("shared/a.jsonl", answer(1));
    write("shared/b.jsonl", answer(2));
    write("shared/unlisted.jsonl", answer(3));
    writeFileSync(at("shared/sessions.json"), JSON.stringify(index));
    assert.equal((await sync()).calls, 3);
    assert.deepEqual(receiver.agents, { main: 1, side: 1, first: 1 });
    // A damaged index costs no call, and is reported.
    writeFileSync(at("shared/sessions.json"), "{");
    write("shared/c.jsonl", { ...answer(4), timestamp: new Date().toISOString() });
    const { status, calls, problems } = await sync();
    assert.deepEqual([status, calls, problems.length], [1, 1, 1]);
    assert.match(problems[0], /shared\/sessions\.json cannot be read: .*owner/);
  });

  test("have a database each beside the first", async (t) => {
    const { configure, database, sync, receiver } = await world(t);
    configure({ session: { store: "~/shared/sessions.json" } });
    database("shared/openclaw-agent.sqlite", { s: "agent:main:main" }).append("s", answer(1));
    database("shared/openclaw-agent.side.sqlite", { s: "agent:side:main" }).append("s", answer(2));
    database("shared/openclaw-agent.ops.2.sqlite", { s: "global" }).append("s", answer(3));
    assert.equal((await sync()).calls, 3);
    assert.deepEqual(receiver.agents, { main: 1, side: 1, ops: 1 });
  });

  test("belong to the default agent where their key has none", async (t) => {
    const { configure, database, write, sync, receiver } = await world(t);
    configure({
      session: { store: "~/shared/sessions.json", scope: "global" },
      agents: { list: [{ id: "first" }, { id: "boss", default: true }] },
    });
    database("shared/openclaw-agent.sqlite", { s: "global" }).append("s", answer(1));
    write("agents/first/sessions/a.jsonl", answer(2));
    assert.equal((await sync()).calls, 2);
    assert.deepEqual(receiver.agents, { boss: 1, first: 1 });
  });

  test("have one database at the configured path", async (t) => {
    const { configure, database, sync, receiver } = await world(t);
    configure({ session: { store: "~/shared/all.sqlite" } });
    const all = database("shared/all.sqlite", { a: "agent:main:main", b: "agent:side:main" });
    all.append("a", answer(1));
    all.append("b", answer(2), answer(3));
    assert.equal((await sync()).calls, 3);
    assert.deepEqual(receiver.agents, { main: 1, side: 2 });
  });
});

describe("archives of the move into the database", { concurrency: 4 }, () => {
  const ARCHIVE = "agents/main/session-sqlite-import-archive";

  test("count where their rows were not moved", async (t) => {
    const { at, write, sync } = await world(t);
    write(`${ARCHIVE}/agent-main-main.a.jsonl.imported-1780000000000`, answer(1));
    write(`${ARCHIVE}/agent_main_telegram_direct_1.b.jsonl.imported-1780000000000.1`, answer(2));
    write(`${ARCHIVE}/archive-tier.c.jsonl.reset.2026-11-21T00-00-00.000Z.imported-1780000000001`, answer(3));
    writeFileSync(
      at(`${ARCHIVE}/archive-tier.d.jsonl.deleted.2026-11-21T00-00-00.000Z.zst.imported-1780000000001`),
      zstdCompressSync(lines(header("d"), answer(4))),
    );
    // These files are no transcripts.
    write(`${ARCHIVE}/legacy-store.sessions.json.imported-1780000000000`, answer(10));
    write(`${ARCHIVE}/agent-main-main.a.trajectory.jsonl.imported-1780000000000`, answer(11));
    write(`${ARCHIVE}/agent-main-main.a.checkpoint.1.jsonl.imported-1780000000000`, answer(12));
    const { calls, problems } = await sync();
    assert.deepEqual([calls, problems], [4, []]);
    assert.equal((await sync()).calls, 0);
  });

  test("count once where their rows were moved, all or some of them", async (t) => {
    const { write, database, sync } = await world(t);
    write(`${ARCHIVE}/agent_main_main.a.jsonl.imported-1780000000000`, answer(1), answer(2), answer(3));
    write(`${ARCHIVE}/agent_main_side.b.jsonl.imported-1780000000000`, answer(4), answer(5));
    const moved = database("agents/main/agent/openclaw-agent.sqlite", { a: "agent:main:main" });
    // Written again, with members in another order and new ids.
    const again = (/** @type {number} */ number) => ({
      ...answer(number),
      id: `moved${number}`,
      type: "message",
    });
    moved.append("a", header("a"), again(1), again(3), again(6));
    assert.equal((await sync()).calls, 6);
  });

  test("are not read again where they were counted before they were moved", async (t) => {
    const { at, write, database, sync } = await world(t);
    write("agents/main/sessions/a.jsonl", answer(1), answer(2));
    assert.equal((await sync()).calls, 2);
    mkdirSync(at(ARCHIVE), { recursive: true });
    renameSync(
      at("agents/main/sessions/a.jsonl"),
      at(`${ARCHIVE}/agent_main_main.a.jsonl.imported-1780000000000`),
    );
    const moved = database("agents/main/agent/openclaw-agent.sqlite", { a: "agent:main:main" });
    moved.append("a", header("h"), answer(1), answer(2), {
      ...answer(3),
      timestamp: new Date().toISOString(),
    });
    assert.equal((await sync()).calls, 1);
  });

  test("are read beside a configured store too, with the agent of their name", async (t) => {
    const { configure, write, sync, receiver } = await world(t);
    configure({ session: { store: "~/shared/sessions/sessions.json" } });
    write("shared/session-sqlite-import-archive/agent_main_main.a.jsonl.imported-1780000000000", answer(1));
    write("shared/session-sqlite-import-archive/agent_side_main.b.jsonl.imported-1780000000000", answer(2));
    write("shared/sessions/c.jsonl", answer(3));
    assert.equal((await sync()).calls, 3);
    assert.deepEqual(receiver.agents, { main: 2, side: 1 });
  });
});

test("rows with providers' names of usage, and usage beside the message", async (t) => {
  const { store, sync, receiver } = await world(t);
  const bare = (/** @type {number} */ number, /** @type {object} */ usage) => answer(number, { usage });
  const beside = answer(4, { usage: undefined, provider: undefined, model: undefined });
  const usage = { prompt_tokens: 40, completion_tokens: 4, prompt_tokens_details: { cached_tokens: 30 } };
  store.write(
    "a.jsonl",
    lines(
      header("a"),
      bare(1, {
        input_tokens: 3,
        output_tokens: 10,
        cache_read_input_tokens: 1000,
        cache_creation_input_tokens: 50,
      }),
      bare(2, { prompt_tokens: 1200, completion_tokens: 34, prompt_tokens_details: { cached_tokens: 1000 } }),
      bare(3, { input_tokens: 500, cached_input_tokens: 400, output_tokens: 9 }),
      { ...beside, provider: "mock", model: "m1", usage },
    ),
  );
  assert.equal((await sync()).calls, 4);
  const { requests, prompt, completion } = receiver.totals["mock/m1"] ?? {};
  assert.deepEqual([requests, prompt, completion], [4, 1053 + 1200 + 500 + 40, 10 + 34 + 9 + 4]);
});
