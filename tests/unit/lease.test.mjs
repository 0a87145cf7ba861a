// One process owns a state directory, others write spool files for it. Kills of either lose nothing and count nothing twice.
import assert from "node:assert/strict";
import { fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { FaultyReceiver, inFolder, Run, sleep, until, wrong } from "./faulty-receiver.mjs";
import { answer, Gateway, Receiver, SESSION } from "./world.mjs";

const MEMBER = fileURLToPath(new URL("pipeline-child.mjs", import.meta.url));
/** @type {Set<Member>} */
const members = new Set();
after(() => {
  for (const member of members) member.kill();
});

/** A process on a state directory. */
class Member {
  /** @type {any} */
  status = {};
  /** @param {string} folder @param {string} url */
  constructor(folder, url, settings = {}, role = "gateway") {
    this.child = fork(MEMBER, [folder, url, JSON.stringify(settings), role], { stdio: "inherit" });
    this.child.on("message", (status) => {
      this.status = status;
    });
    members.add(this);
  }
  /** @param {string} folder @param {string} url */
  static async open(folder, url, settings = {}, role = "gateway") {
    const member = new Member(folder, url, settings, role);
    await once(member.child, "message");
    return member;
  }
  /** @param {object} order */
  async ask(order = {}) {
    const answered = once(this.child, "message");
    this.child.send(order);
    await answered;
    return this.status;
  }
  async ended() {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
    members.delete(this);
  }
  kill() {
    this.child.kill("SIGKILL");
    return this.ended();
  }
  async stop() {
    this.child.send({ stop: true });
    await this.ended();
  }
  /** @param {string} standing */
  async is(standing) {
    for (let tries = 0; (await this.ask()).standing !== standing; tries += 1) {
      assert.ok(tries < 400, `never ${standing}: ${JSON.stringify(this.status)}`);
      await sleep(50);
    }
  }
}

/** @param {(folder: string, faulty: FaultyReceiver) => Promise<void>} play */
const withReceiver = (play) => () =>
  inFolder(async (folder) => {
    const faulty = await FaultyReceiver.open("ids");
    try {
      await play(folder, faulty);
    } finally {
      for (const member of [...members]) await member.kill();
      faulty.close();
    }
  });

const range = (/** @type {number} */ from, /** @type {number} */ to) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

test(
  "one of two processes owns the folder, and counts the other one's calls once",
  withReceiver(async (folder, faulty) => {
    const owner = await Member.open(folder, faulty.url);
    const other = await Member.open(folder, faulty.url);
    assert.deepEqual([owner.status.standing, other.status.standing], ["owner", "spool"]);
    await owner.ask({ calls: range(1, 10) });
    await other.ask({ calls: range(11, 30) });
    await until(() => faulty.counted.size === 30);
    assert.equal((await owner.ask()).spooled, 20);
    assert.equal((await other.ask()).delivered, 0);
    await other.stop();
    const spool = join(folder, "spool");
    await until(() => readdirSync(spool).length === 0);
    assert.equal(statSync(spool).mode & 0o777, 0o700);
    await owner.stop();
    assert.deepEqual(wrong(faulty, 30), []);
  }),
);

test(
  "the other process takes over from a killed owner",
  withReceiver(async (folder, faulty) => {
    const owner = await Member.open(folder, faulty.url);
    const other = await Member.open(folder, faulty.url);
    faulty.fault = "hang";
    await other.ask({ calls: range(1, 10), kept: true });
    await owner.ask({ calls: range(11, 40), kept: true });
    await owner.kill();
    await other.ask({ calls: range(41, 50) });
    faulty.release();
    faulty.fault = "well";
    await other.is("owner");
    await other.ask({ calls: range(51, 60) });
    await until(() => faulty.counted.size === 60);
    await other.stop();
    assert.deepEqual(wrong(faulty, 60), []);
  }),
);

test(
  "a proxy that started first hands the journal over to the gateway, whenever that starts",
  withReceiver(async (folder, faulty) => {
    const proxy = await Member.open(folder, faulty.url, {}, "proxy");
    assert.equal(proxy.status.standing, "owner");
    await proxy.ask({ calls: range(1, 20) });
    for (const round of [1, 2]) {
      const before = round * 100;
      const gateway = await Member.open(folder, faulty.url);
      // The answer to a request that runs belongs to the owner that made it.
      faulty.fault = "hang";
      await proxy.ask({ calls: range(before + 1, before + 20) });
      await gateway.ask({ calls: range(before + 21, before + 40) });
      await sleep(1_500);
      faulty.release();
      faulty.fault = "well";
      await gateway.is("owner");
      await proxy.is("spool");
      await gateway.ask({ calls: range(before + 41, before + 60) });
      await proxy.ask({ calls: range(before + 61, before + 80) });
      await until(() => faulty.counted.size === 20 + round * 80);
      await gateway.stop();
      await proxy.is("owner");
    }
    const told = proxy.status.log.filter((/** @type {string} */ line) => line.includes("the gateway takes"));
    assert.equal(told.length, 2);
    await proxy.stop();
    assert.ok([...faulty.counted.values()].every((times) => times === 1));
  }),
);

test(
  "an owner that was blocked for too long loses the journal",
  withReceiver(async (folder, faulty) => {
    const owner = await Member.open(folder, faulty.url);
    const other = await Member.open(folder, faulty.url);
    await owner.ask({ calls: range(1, 20) });
    owner.child.kill("SIGSTOP");
    await other.ask({ calls: range(21, 30) });
    await other.is("owner");
    owner.child.kill("SIGCONT");
    await owner.is("spool");
    await owner.ask({ calls: range(31, 40) });
    await until(() => faulty.counted.size === 40);
    assert.ok(owner.status.log.some((/** @type {string} */ line) => line.includes("took the journal over")));
    await owner.stop();
    await other.stop();
    assert.deepEqual(wrong(faulty, 40), []);
  }),
);

test(
  "a process that exits at once writes its calls to disk",
  withReceiver(async (folder, faulty) => {
    for (const role of ["owner", "spool"]) {
      const owner = role === "spool" ? await Member.open(folder, faulty.url) : undefined;
      const one = await Member.open(folder, faulty.url);
      assert.equal(one.status.standing, role);
      const before = faulty.counted.size;
      one.child.send({ calls: range(before + 1, before + 10), exit: true });
      await one.ended();
      const next = owner ?? (await Member.open(folder, faulty.url));
      await until(() => faulty.counted.size === before + 10);
      await next.stop();
    }
    assert.deepEqual(wrong(faulty, 20), []);
  }),
);

test(
  "a process number that another process has now does not own the folder",
  withReceiver(async (folder, faulty) => {
    const other = { pid: process.pid, host: hostname(), started: 12_345, token: "x", role: "gateway" };
    for (const owner of [JSON.stringify(other), JSON.stringify({ ...other, pid: 2 ** 22 + 1 }), ""]) {
      writeFileSync(join(folder, "owner.json"), owner);
      const run = new Run(folder, faulty.url);
      await run.pipeline.open();
      // Such a lease expires, and the journal is taken over then.
      assert.equal(run.status.standing, owner ? "owner" : "spool");
      await run.end();
    }
  }),
);

test(
  "events that come while a pipeline ends are journalled for the next owner",
  withReceiver(async (folder, faulty) => {
    const run = new Run(folder, faulty.url);
    await run.pipeline.open();
    run.call(1);
    await run.pipeline.stop(1_500);
    // The first event is passed at once, the others at the next tick.
    for (let tokens = 2; tokens <= 4; tokens += 1) run.call(tokens);
    await run.pipeline.close();
    const next = new Run(folder, faulty.url);
    await next.pipeline.open();
    await next.settle();
    await next.end();
    assert.deepEqual(wrong(faulty, 4), []);
  }),
);

test("a reload of the plugin loses nothing", async () => {
  const receiver = await Receiver.open();
  const gateway = new Gateway("none");
  try {
    let tokens = 0;
    for (const name of ["one", "two", "three"]) {
      gateway.register(await gateway.evaluate(name), { url: receiver.url });
      const index = gateway.services.length - 1;
      await gateway.start(index);
      for (let calls = 0; calls < 5; calls += 1) {
        tokens += 1;
        gateway.emit(
          "before_message_write",
          answer(tokens, { timestamp: Date.now() - tokens }),
          SESSION,
          index + 1,
        );
      }
      await gateway.stop(index);
    }
    assert.equal(receiver.totals["p/m"]?.requests, 15);
    assert.equal(receiver.totals["p/m"]?.prompt, 120);
  } finally {
    gateway.close();
    receiver.close();
  }
});

/** Writes the spool file of a process with some calls. @param {string} folder @param {number[]} calls */
async function spooled(folder, calls) {
  const owner = await Member.open(folder, "http://127.0.0.1:9");
  const other = await Member.open(folder, "http://127.0.0.1:9");
  owner.child.kill("SIGSTOP");
  await other.ask({ calls, kept: true });
  await owner.kill();
  await other.kill();
  const [name = ""] = readdirSync(join(folder, "spool"));
  return join(folder, "spool", name);
}

test(
  "a torn end loses only the torn frame",
  withReceiver(async (folder, faulty) => {
    const file = await spooled(folder, range(1, 5));
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.subarray(0, bytes.length - 3));
    // Files of other programs.
    mkdirSync(join(folder, "spool", "v1_folder"), { recursive: true });
    writeFileSync(join(folder, "spool", "notes.txt"), "hello");
    writeFileSync(join(folder, "spool", "v1_1_2_%_0_%E0%A4%A"), "hello");
    const owner = await Member.open(folder, faulty.url);
    await until(() => faulty.counted.size === 4);
    await until(() => !readdirSync(join(folder, "spool")).some((name) => file.endsWith(name)));
    assert.equal((await owner.ask()).journal_corrupt, 1);
    await owner.stop();
    assert.deepEqual(wrong(faulty, 5), [[5, 0]]);
    assert.ok(readdirSync(join(folder, "spool")).includes("notes.txt"));
  }),
);

test(
  "invalid frames are skipped",
  withReceiver(async (folder, faulty) => {
    const file = await spooled(folder, range(1, 3));
    const bytes = readFileSync(file);
    writeFileSync(file, Buffer.concat([Buffer.alloc(3 * 1024 * 1024, 0xf5), bytes]));
    const owner = await Member.open(folder, faulty.url);
    await until(() => faulty.counted.size === 3);
    await owner.stop();
    assert.deepEqual(wrong(faulty, 3), []);
  }),
);

test(
  "calls above the spool's bound are counted as dropped, and logged",
  withReceiver(async (folder, faulty) => {
    const owner = await Member.open(folder, faulty.url);
    const other = await Member.open(folder, faulty.url);
    owner.child.kill("SIGSTOP");
    await other.ask({ calls: [1], kept: true });
    const [name = ""] = readdirSync(join(folder, "spool"));
    // As if it had written that much before; invalid frames are skipped.
    appendFileSync(join(folder, "spool", name), Buffer.alloc(16 * 1024 * 1024));
    await other.ask({ calls: range(2, 6), kept: true });
    const { dropped_spool_full, log } = await other.ask();
    assert.ok(dropped_spool_full >= 5, `${dropped_spool_full}`);
    assert.ok(log.some((/** @type {string} */ line) => line.includes("has not read")));
    owner.child.kill("SIGCONT");
  }),
);

test(
  "other files, links and pipes in the spool or the journal are reported, and stop nothing",
  withReceiver(async (folder, faulty) => {
    const spool = join(folder, "spool");
    const journal = join(folder, "journal");
    for (const path of [spool, journal]) mkdirSync(path, { recursive: true, mode: 0o700 });
    const name = (/** @type {string} */ token) => `v1_1_2_${token}_0_elsewhere`;
    const put = (/** @type {string} */ path, /** @type {(kind: string) => string} */ called) => {
      spawnSync("mkfifo", [join(path, called("pipe"))]);
      mkdirSync(join(path, called("folder")));
      symlinkSync("/dev/zero", join(path, called("device")));
      symlinkSync("/nowhere", join(path, called("dangling")));
      writeFileSync(join(path, called("huge")), "");
      truncateSync(join(path, called("huge")), 2 ** 40);
    };
    put(spool, name);
    put(journal, (kind) => `model-calls-${{ pipe: 1, folder: 2, device: 3, dangling: 4 }[kind] ?? 5}.awj`);
    const owner = await Member.open(folder, faulty.url);
    const other = await Member.open(folder, faulty.url);
    assert.deepEqual([owner.status.standing, other.status.standing], ["owner", "spool"]);
    await owner.ask({ calls: range(1, 10) });
    await other.ask({ calls: range(11, 20) });
    await until(() => faulty.counted.size === 20);
    await other.stop();
    const { log } = await owner.ask();
    for (const what of [
      "pipe_0_elsewhere is a named pipe",
      "folder_0_elsewhere is a folder",
      "model-calls-1.awj is a",
    ])
      assert.equal(log.filter((/** @type {string} */ line) => line.includes(what)).length, 1, log.join("\n"));
    await owner.stop();
    assert.deepEqual(wrong(faulty, 20), []);
    assert.ok(readdirSync(spool).includes(name("folder")), "files of other programs are not changed");
  }),
);

for (const kind of ["spool", "journal"]) {
  test(
    `a file, a link or a pipe in the place of the ${kind} folder does not stop the counting`,
    withReceiver(async (folder, faulty) => {
      for (const put of [
        (/** @type {string} */ path) => writeFileSync(path, "x"),
        (/** @type {string} */ path) => symlinkSync("/nowhere", path),
        (/** @type {string} */ path) => void spawnSync("mkfifo", [path]),
      ]) {
        const own = join(folder, `of-${faulty.counted.size}`);
        mkdirSync(own);
        put(join(own, kind));
        const count = faulty.counted.size;
        const owner = await Member.open(own, faulty.url);
        const other = await Member.open(own, faulty.url);
        await owner.ask({ calls: [count + 1], kept: true });
        await other.ask({ calls: [count + 2], kept: true });
        await until(() => faulty.counted.size === count + 2);
        await other.stop();
        await owner.stop();
        assert.ok(statSync(join(own, kind)).isDirectory());
      }
      assert.deepEqual(wrong(faulty, 6), []);
    }),
  );
}
