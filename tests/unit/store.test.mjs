// The session store, read in increments: each call once, also when files are cut, moved or rewritten.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, beforeEach, describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { zstdCompressSync } from "node:zlib";
import { readStore } from "../../dist/store.js";
import { answer, BEGIN, Database, header, lines, question, Store } from "./stored.mjs";

/** @type {Store} */
let store;
beforeEach(() => {
  store?.close();
  store = new Store();
});
after(() => store.close());

/** @param {number} from @param {number} to */
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

describe("files", () => {
  test("a state directory without a store has no calls", async () => {
    assert.deepEqual(await store.numbers(), []);
    assert.deepEqual(store.problems, []);
  });

  test("a call has its facts, its session and its agent", async () => {
    store.write("s.jsonl", lines(header("s"), question(1), answer(2, { responseId: "r" })), "ant");
    const [call, ...others] = await store.read();
    assert.deepEqual(others, []);
    assert.deepEqual(call, {
      provider: "mock",
      model: "m1",
      input: 2,
      output: 1,
      cacheRead: 2,
      cacheWrite: 3,
      "cost.total": 0.25,
      stop_reason: "stop",
      response_id: "r",
      timestamp: BEGIN + 1500,
      written: BEGIN + 2000,
      entry: "e2",
      run_id: null,
      session_id: "s",
      agent: "ant",
      session_key: null,
      inherited: false,
    });
    assert.deepEqual([...store.bookmarks.keys()], ["ant/s"]);
  });

  test("only appended rows are read the next time", async () => {
    store.write("a.jsonl", lines(header("a"), answer(1)));
    store.write("b.jsonl", lines(header("b"), answer(2)));
    assert.deepEqual(await store.numbers(), [1, 2]);
    assert.deepEqual(await store.numbers(), []);
    assert.equal(store.batches, 0, "and nothing is said about it");
    store.append("a.jsonl", lines(question(3), answer(4)));
    store.write("c.jsonl", lines(header("c"), answer(5)));
    assert.deepEqual(await store.numbers(), [4, 5]);
  });

  test("a file may be cut at every byte, and completed later", async () => {
    const text = lines(header("s"), question(1), answer(2), question(3), answer(4, { model: "ü🦀" }));
    for (let cut = 0; cut <= Buffer.byteLength(text); cut += 1) {
      store.bookmarks.clear();
      store.write("s.jsonl", Buffer.from(text).subarray(0, cut));
      const first = await store.numbers();
      store.write("s.jsonl", text);
      assert.deepEqual([...first, ...(await store.numbers())], [2, 4], `cut at ${cut}`);
    }
  });

  test("reset and deleted sessions are read from their position on", async () => {
    for (const fate of ["reset", "deleted"]) {
      const [live, put] = [`${fate}.jsonl`, `${fate}.jsonl.${fate}.2026-11-24T15-31-10.367Z`];
      store.write(live, lines(header(fate), answer(1)));
      assert.deepEqual(await store.numbers(), [1]);
      store.append(live, lines(answer(2)));
      store.rename(live, put);
      assert.deepEqual(await store.numbers(), [2], fate);
      assert.deepEqual(await store.numbers(), []);
    }
  });

  test("a session that was reset before it was read is read, and so is the next session of the same name", async () => {
    store.write("s.jsonl.reset.2026-11-24T15-31-10.367Z", lines(header("s"), answer(1)));
    store.write("s.jsonl.reset.2026-11-25T15-31-10.367Z", lines(header("s", 1), answer(2)));
    store.write("s.jsonl", lines(header("s", 2), answer(3)));
    assert.deepEqual(await store.numbers(), [1, 2, 3]);
    assert.deepEqual(await store.numbers(), []);
    store.append("s.jsonl", lines(answer(4)));
    assert.deepEqual(await store.numbers(), [4]);
    store.rename("s.jsonl", "s.jsonl.reset.2026-11-26T15-31-10.367Z");
    store.write("s.jsonl", lines(header("s", 4), answer(5)));
    assert.deepEqual(await store.numbers(), [5]);
  });

  test("a last line without an end counts once the file is not written any more", async () => {
    const torn = lines(header("s"), answer(1)).slice(0, -1);
    store.write("s.jsonl", torn);
    assert.deepEqual(await store.numbers(), []);
    store.rename("s.jsonl", "s.jsonl.deleted.2026-11-24T15-31-10.367Z");
    assert.deepEqual(await store.numbers(), [1]);
    assert.deepEqual(await store.numbers(), []);
  });

  test("a cut session is read to the end in its copy, then from the start", async () => {
    const whole = lines(header("s"), answer(1), answer(2));
    store.write("s.jsonl", whole);
    assert.deepEqual(await store.numbers(), [1, 2]);
    store.write("s.jsonl.bak.2026-11-24T15-31-10.367Z", whole + lines(answer(3), answer(4)));
    store.write("s.jsonl", lines(answer(4)));
    // Both have call 4, which the caller recognizes by its entry id.
    assert.deepEqual(await store.numbers(), [3, 4, 4]);
    assert.deepEqual(await store.numbers(), []);
    store.append("s.jsonl", lines(answer(5)));
    assert.deepEqual(await store.numbers(), [5]);
  });

  test("a rewritten session is read again from its start", async () => {
    store.write("s.jsonl", lines(header("s"), answer(1), answer(2)));
    assert.deepEqual(await store.numbers(), [1, 2]);
    for (const [rewritten, numbers] of [
      [lines(header("s"), answer(1)), [1]],
      [lines(header("s"), answer(3), answer(1), answer(4)), [3, 1, 4]],
      [lines(answer(9)), [9]],
    ]) {
      store.write("s.jsonl", String(rewritten));
      assert.deepEqual(await store.numbers(), numbers);
      assert.deepEqual(await store.numbers(), []);
    }
  });

  test("calls that are too recent are read later, and no call behind them is skipped", async () => {
    store.write("s.jsonl", lines(header("s"), answer(1), answer(5), answer(2)));
    store.write("t.jsonl", lines(header("t"), answer(3)));
    assert.deepEqual(await store.numbers({ until: BEGIN + 5000 }), [1, 3]);
    assert.deepEqual(await store.numbers({ until: BEGIN + 5000 }), []);
    assert.deepEqual(await store.numbers({ until: BEGIN + 5001 }), [5, 2]);
  });

  test("calls that are too old are never read", async () => {
    store.write("s.jsonl", lines(header("s"), answer(1), answer(5)));
    assert.deepEqual(await store.numbers({ since: BEGIN + 5000 }), [5]);
    assert.deepEqual(await store.numbers(), []);
    // A file that was not written since is not opened.
    store.write("old.jsonl", lines(header("old"), answer(7)));
    assert.deepEqual(await store.numbers({ since: Date.now() + 60_000 }), []);
    store.append("old.jsonl", lines(answer(8)));
    assert.deepEqual(await store.numbers(), [8]);
  });

  test("inherited rows of a fork are marked, also where reading continues among them", async () => {
    store.write("fork.jsonl", lines(header("fork", 10), answer(1), answer(2), question(11), answer(12)));
    const [first] = await store.read({ until: BEGIN + 2000 });
    assert.deepEqual([first.input, first.inherited], [1, true]);
    const rest = await store.read();
    assert.deepEqual(
      rest.map(({ input, inherited }) => [input, inherited]),
      [
        [2, true],
        [12, false],
      ],
    );
  });

  test("invalid lines are counted and skipped", async () => {
    store.write("s.jsonl", `${lines(answer(1))}{"half":\nrubbish\n${lines(answer(2))}`);
    assert.deepEqual(await store.numbers(), [1, 2]);
    assert.deepEqual(store.skipped, { malformed: 2 });
  });

  test("files of other kinds are not read", async () => {
    for (const name of [
      "sessions.json",
      "s.jsonl.lock",
      "s.jsonl-stage",
      "s.checkpoint.1f0e.jsonl",
      "s.trajectory.jsonl",
      "notes.txt",
    ])
      store.write(name, lines(answer(1)));
    assert.deepEqual(await store.numbers(), []);
    assert.deepEqual(store.problems, []);
  });

  test("a bookmark of a removed session becomes empty", async () => {
    store.write("s.jsonl", lines(answer(1)));
    store.write("t.jsonl", lines(answer(2)));
    await store.read();
    store.remove("s.jsonl");
    await store.read();
    assert.deepEqual([...store.bookmarks.keys()], ["main/t"]);
  });

  test("an invalid bookmark counts as empty", async () => {
    store.write("s.jsonl", lines(answer(1)));
    for (const bookmark of ["", "x", ".", "zz.zz", "-1.x", "NaN.hash", "1e9.h.h.h.h", "🦀"]) {
      store.bookmarks.set("main/s", bookmark);
      assert.deepEqual(await store.numbers(), [1], bookmark);
    }
  });

  test("a large file is read in batches, each with its bookmark, and the event loop runs in between", async () => {
    const count = 3_000;
    const text = range(1, count).map((n) => lines(question(n, 500), answer(n)));
    store.write("big.jsonl", lines(header("big")) + text.join(""));
    let longest = 0;
    let last = process.cpuUsage();
    let isReading = true;
    const watch = (async () => {
      for (; isReading; await nextTurn()) {
        // CPU time of this process: the wall clock also runs while other processes have the core.
        const { user, system } = process.cpuUsage(last);
        longest = Math.max(longest, (user + system) / 1000);
        last = process.cpuUsage();
      }
    })();
    try {
      assert.deepEqual(await store.numbers(), range(1, count));
    } finally {
      isReading = false;
      await watch;
    }
    assert.ok(store.batches > 10);
    assert.ok(longest < 250, `one step took ${longest} ms`);
  });

  test("reading may end after any batch, and continues behind it", async () => {
    const count = 1_000;
    store.write("big.jsonl", lines(...range(1, count).flatMap((n) => [question(n, 500), answer(n)])));
    const found = [];
    for (let isDone = false; !isDone; ) {
      isDone = true;
      for await (const { file, bookmark, rows } of readStore(store.stateDir, store.bookmarks, {
        io: store.io,
      })) {
        found.push(...rows.map((row) => row[2][1]));
        store.bookmarks.set(file, bookmark);
        isDone = false;
        break;
      }
    }
    assert.deepEqual(found, range(1, count));
  });
});

describe("databases", () => {
  for (const version of [19, 23]) {
    test(`rows of schema ${version} are read while they are written`, async () => {
      const database = await Database.make(store, version);
      database.append("s", header("s"), question(1), answer(2));
      const [call] = await store.read();
      assert.deepEqual([call.input, call.session_key, call.session_id], [2, "agent:main:s", "s"]);
      assert.deepEqual(await store.numbers(), []);
      assert.equal(store.batches, 0);
      database.append("s", answer(3, { content: "x".repeat(3_000) }), question(4, 5_000), answer(5));
      database.append("t", answer(6, { content: "🦀".repeat(400_000) }));
      assert.deepEqual(await store.numbers(), [3, 5, 6]);
      assert.deepEqual(await store.numbers(), []);
      database.close();
      assert.deepEqual(await store.numbers(), []);
    });
  }

  test("many sessions are found, each once", async () => {
    const database = await Database.make(store);
    for (const n of range(1, 100)) database.append(`s${n}`, header(`s${n}`), answer(n));
    assert.deepEqual(
      (await store.numbers()).sort((a, b) => a - b),
      range(1, 100),
    );
    assert.deepEqual(await store.numbers(), []);
    for (const n of [1, 50, 100]) database.append(`s${n}`, answer(n + 100));
    assert.deepEqual(
      (await store.numbers()).sort((a, b) => a - b),
      [101, 150, 200],
    );
    database.close();
  });

  test("calls that are too recent are read later", async () => {
    const database = await Database.make(store);
    database.append("s", header("s"), answer(1), answer(5), answer(2));
    assert.deepEqual(await store.numbers({ until: BEGIN + 5000 }), [1]);
    assert.deepEqual(await store.numbers(), [5, 2]);
    database.close();
  });

  test("a rewritten session is read again from its start", async () => {
    const database = await Database.make(store);
    database.append("s", header("s"), answer(1), answer(2));
    assert.deepEqual(await store.numbers(), [1, 2]);
    database.delete("s");
    database.append("s", header("s"), answer(1), answer(3));
    assert.deepEqual(await store.numbers(), [1, 3]);
    database.delete("s");
    database.append("s", header("s"), answer(1));
    assert.deepEqual(await store.numbers(), [1]);
    assert.deepEqual(await store.numbers(), []);
    database.close();
  });

  test("a deleted session is read on in its packed file", async () => {
    const database = await Database.make(store);
    const rows = [header("s"), answer(1), question(2, 2_000), answer(3), answer(4)];
    database.append("s", ...rows.slice(0, 3));
    assert.deepEqual(await store.numbers(), [1]);
    database.append("s", ...rows.slice(3));
    database.delete("s");
    database.run("INSERT INTO session_transcript_archives VALUES ('s', 'g')");
    // The file is created a moment after the rows are deleted: the bookmark has to exist until then.
    assert.deepEqual(await store.numbers(), []);
    assert.ok(store.bookmarks.has("main/s"));
    const name = "s.jsonl.deleted.2026-11-24T15-32-21.928Z.a50bb712292b4a6fa11dfe283b5f6c18.zst";
    store.write(name, zstdCompressSync(lines(...rows)));
    assert.deepEqual(await store.numbers({ until: BEGIN + 4000 }), [3]);
    assert.deepEqual(await store.numbers(), [4]);
    assert.deepEqual(await store.numbers(), []);
    assert.equal(store.batches, 0);
    database.close();
  });

  test("a session that moved from a file into the database is read on there", async () => {
    const rows = [header("s"), answer(1), answer(2)];
    store.write("s.jsonl", lines(...rows));
    assert.deepEqual(await store.numbers(), [1, 2]);
    const database = await Database.make(store);
    database.append("s", ...rows, answer(3));
    assert.deepEqual(await store.numbers(), [3]);
    store.remove("s.jsonl");
    assert.deepEqual(await store.numbers(), []);
    database.append("s", answer(4));
    assert.deepEqual(await store.numbers(), [4]);
    database.close();
  });

  test("a database of an unknown version is reported, and the rest is read", async () => {
    for (const version of [1, 18, 24, 1_000]) {
      const database = await Database.make(store, version, `agent-${version}`);
      database.append("s", answer(1));
      database.close();
    }
    store.write("s.jsonl", lines(answer(2)), "agent-24");
    store.write("s.jsonl", lines(answer(3)), "main");
    store.bookmarks.set("agent-24/s", "kept.kept");
    assert.deepEqual(await store.numbers(), [3]);
    assert.equal(store.problems.length, 4);
    for (const problem of store.problems)
      assert.match(
        problem,
        /openclaw-agent\.sqlite has schema version \d+; 19 to 23 are known, so it is not read/,
      );
    assert.equal(store.bookmarks.get("agent-24/s"), "kept.kept");
  });

  // Closing any descriptor of a file releases every lock that the process holds on it: another process could then remove the
  // write-ahead log under the gateway.
  test("reading leaves the locks of the process's other connections", async () => {
    const { DatabaseSync } = await import("node:sqlite");
    const database = await Database.make(store);
    database.append("s", answer(1));
    const path = `${store.stateDir}/agents/main/agent/openclaw-agent.sqlite`;
    const gateway = new DatabaseSync(path);
    gateway.exec("PRAGMA journal_mode = WAL");
    gateway.prepare("SELECT count(*) FROM transcript_events").get();
    const { ino } = statSync(path);
    const locks = () =>
      readFileSync("/proc/locks", "utf8")
        .split("\n")
        .filter((line) => line.includes(` ${process.pid} `) && line.includes(`:${ino} `));
    const before = locks().length;
    assert.ok(before > 0, "the gateway's connection holds a lock");
    assert.deepEqual(await store.numbers(), [1]);
    assert.ok(locks().length >= before, locks().join());
    gateway.close();
    database.close();
  });

  test("a database without tables yet is read when it has them", async () => {
    const { DatabaseSync } = await import("node:sqlite");
    const folder = `${store.stateDir}/agents/main/agent`;
    mkdirSync(folder, { recursive: true });
    const begun = new DatabaseSync(`${folder}/openclaw-agent.sqlite`);
    for (const step of ["PRAGMA journal_mode = WAL", "CREATE TABLE transcript_events (session_id TEXT)"]) {
      begun.exec(step);
      assert.deepEqual(await store.numbers(), []);
      assert.deepEqual(store.problems, []);
    }
    begun.exec("DROP TABLE transcript_events");
    begun.close();
    const database = await Database.make(store);
    database.append("s", answer(1));
    assert.deepEqual(await store.numbers(), [1]);
    database.close();
  });

  test("a database without the columns, and a file that is no database, are reported", async () => {
    const database = await Database.make(store);
    database.run("ALTER TABLE transcript_events RENAME COLUMN event_json TO event_text");
    database.close();
    await store.read();
    assert.match(store.problems.join(), /has no transcript_events\.event_json, so it is not read/);
    writeFileSync(`${store.stateDir}/agents/main/agent/openclaw-agent.sqlite`, "no database at all");
    await store.read();
    assert.match(store.problems.join(), /openclaw-agent\.sqlite cannot be read: file is not a database/);
  });
});

test("a damaged packed file is reported, and the rest is read", async () => {
  store.write("s.jsonl.deleted.2026-11-24T15-32-21.928Z.a50b.zst", "no zstd");
  store.write("t.jsonl", lines(answer(2)));
  assert.deepEqual(await store.numbers(), [2]);
  assert.match(store.problems.join(), /s\.jsonl\.deleted\..*\.zst cannot be read/);
});

describe("what stands in the way of a file", () => {
  test("a named pipe or a folder is named and holds up nothing, a link is followed", async () => {
    store.write("s.jsonl", lines(answer(1)));
    writeFileSync(join(store.stateDir, "elsewhere"), lines(answer(2)));
    symlinkSync(join(store.stateDir, "elsewhere"), store.path("linked.jsonl"));
    symlinkSync("/nowhere", store.path("dangling.jsonl"));
    mkdirSync(store.path("folder.jsonl"));
    const database = join(store.stateDir, "agents", "ant", "agent", "openclaw-agent.sqlite");
    mkdirSync(dirname(database), { recursive: true });
    for (const path of [store.path("pipe.jsonl"), database]) spawnSync("mkfifo", [path]);
    assert.deepEqual((await store.numbers()).sort(), [1, 2]);
    const problems = store.problems.map((problem) => problem.slice(problem.lastIndexOf("/") + 1)).sort();
    assert.deepEqual(problems, [
      "folder.jsonl is a folder, not a file",
      "openclaw-agent.sqlite is a named pipe, not a file",
      "pipe.jsonl is a named pipe, not a file",
    ]);
    assert.deepEqual(await store.numbers(), []);
  });

  test("a file that cannot be looked at costs its own session alone", async () => {
    symlinkSync("loop.jsonl", store.path("loop.jsonl"));
    store.write("next.jsonl", lines(answer(3)));
    assert.deepEqual(await store.numbers(), [3]);
    assert.match(store.problems.join(), /loop\.jsonl/);
  });

  test("a reading that is broken off leaves no file and no database open", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    store.write("s.jsonl", lines(...range(1, 2_000).flatMap((n) => [question(n, 500), answer(n)])));
    const database = await Database.make(store);
    for (const n of range(1, 500)) database.append("d", question(n, 900), answer(n));
    database.close();
    const before = open();
    for (const most of [1, 2, 3, 4]) {
      let batches = 0;
      for await (const _ of readStore(store.stateDir, new Map(), { io: store.io })) {
        batches += 1;
        if (batches === most) break;
      }
      assert.equal(open(), before, `after ${most}`);
    }
  });
});
