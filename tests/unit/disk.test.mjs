// Disks that are full, read-only, cleared or damaged: the gateway continues, logs it, and loses only damaged records.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs, {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { HostFiles, instantiate } from "../../dist/base.js";
import { Clock, FaultyReceiver, inFolder, Run, random, sleep, until, wrong } from "./faulty-receiver.mjs";

/** Pause after a failed write, in ms. */
const PAUSE_MS = 6_000;

/** @param {(folder: string, faulty: FaultyReceiver) => Promise<void>} play */
const withReceiver = (play) => () =>
  inFolder(async (folder) => {
    const faulty = await FaultyReceiver.open("ids");
    try {
      await play(folder, faulty);
    } finally {
      faulty.close();
    }
  });

/** @param {Run} run @param {number} from @param {number} to */
function calls(run, from, to) {
  for (let tokens = from; tokens <= to; tokens += 1) run.call(tokens);
}

/** @param {Run} run @param {string} text */
const said = (run, text) => until(() => run.log.some((line) => line.includes(text)));

/** Makes a folder immutable, which binds root too. @param {string} folder @param {boolean} isOn */
function readOnly(folder, isOn) {
  if (process.getuid?.() !== 0) return chmodSync(folder, isOn ? 0o500 : 0o700);
  execFileSync("mount", ["-o", `remount,${isOn ? "ro" : "rw"}`, folder]);
}

/** Runs a function with a small disk. @param {string} folder @param {string} size @param {(disk: string) => Promise<void>} use */
async function onSmallDisk(folder, size, use) {
  const disk = join(folder, "disk");
  mkdirSync(disk, { mode: 0o700 });
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size},mode=0700`, "tmpfs", disk]);
  try {
    await use(disk);
  } finally {
    execFileSync("umount", ["-l", disk]);
  }
}

/** Why no disk can be mounted here; undefined where it can. */
function noMount() {
  if (process.getuid?.() !== 0) return "only root mounts";
  const folder = fs.mkdtempSync("/tmp/agentwatch-mount-");
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], { stdio: "ignore" });
    execFileSync("umount", [folder]);
    return false;
  } catch {
    return "mounting is not permitted";
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
const skip = noMount();

test(
  "a full disk: calls are sent from memory, and journalled again when there is room",
  { skip },
  withReceiver((folder, faulty) =>
    onSmallDisk(folder, "200k", async (disk) => {
      const run = new Run(join(disk, "aw"), faulty.url);
      await run.pipeline.open();
      calls(run, 1, 10);
      await until(() => faulty.counted.size === 10);
      writeFileSync(join(disk, "filler"), "");
      assert.throws(() => writeFileSync(join(disk, "filler"), Buffer.alloc(400 * 1024)), /ENOSPC/);
      calls(run, 11, 30);
      await said(run, "the journal cannot be written");
      await until(() => faulty.counted.size === 30);
      faulty.fault = "refuse";
      calls(run, 31, 40);
      await sleep(300);
      rmSync(join(disk, "filler"));
      await untilWell(run);
      // The calls in memory are on disk now, and survive a kill.
      cpSync(join(disk, "aw"), join(folder, "copy"), { recursive: true });
      rmSync(join(folder, "copy", "owner.json"), { force: true });
      faulty.fault = "well";
      const next = new Run(join(folder, "copy"), faulty.url);
      await next.pipeline.open();
      await next.settle();
      assert.deepEqual(wrong(faulty, 40), []);
      await next.end();
      await run.settle();
      await run.end();
      assert.deepEqual(wrong(faulty, 40), []);
      assert.equal(run.status.core_restarts, 0);
    }),
  ),
);

/** Waits until the journal is written again, over the pauses between retries. @param {Run} run */
async function untilWell(run) {
  for (let tries = 0; run.status.journal_error; tries += 1) {
    assert.ok(tries < 600, run.log.join("\n"));
    run.clock.pass(PAUSE_MS);
    await sleep(50);
  }
}

test(
  "a disk that is full from the start",
  { skip },
  withReceiver((folder, faulty) =>
    onSmallDisk(folder, "64k", async (disk) => {
      assert.throws(() => writeFileSync(join(disk, "filler"), Buffer.alloc(100 * 1024)), /ENOSPC/);
      const run = new Run(join(disk, "aw"), faulty.url);
      await run.pipeline.open();
      calls(run, 1, 10);
      await said(run, "the journal cannot be written");
      await until(() => faulty.counted.size === 10);
      rmSync(join(disk, "filler"));
      await untilWell(run);
      calls(run, 11, 20);
      await run.settle();
      await run.end();
      assert.deepEqual(wrong(faulty, 20), []);
    }),
  ),
);

test(
  "a state directory that cannot be written",
  { skip: process.getuid?.() === 0 ? skip : false },
  withReceiver((folder, faulty) => {
    const play = async (/** @type {string} */ disk) => {
      readOnly(disk, true);
      const run = new Run(join(disk, "aw"), faulty.url);
      await run.pipeline.open();
      calls(run, 1, 10);
      await said(run, "the journal cannot be written");
      await until(() => faulty.counted.size === 10);
      readOnly(disk, false);
      await untilWell(run);
      assert.equal(run.status.standing, "owner");
      assert.ok(fs.existsSync(join(disk, "aw", "owner.json")));
      calls(run, 11, 20);
      await run.settle();
      await run.end();
      assert.deepEqual(wrong(faulty, 20), []);
    };
    return process.getuid?.() === 0 ? onSmallDisk(folder, "1m", play) : play(folder);
  }),
);

test(
  "a folder that is removed while the gateway runs",
  withReceiver(async (folder, faulty) => {
    const own = join(folder, "aw");
    const run = new Run(own, faulty.url);
    await run.pipeline.open();
    calls(run, 1, 5);
    await until(() => faulty.counted.size === 5);
    faulty.fault = "refuse";
    calls(run, 6, 10);
    await sleep(1_500);
    rmSync(own, { recursive: true });
    calls(run, 11, 15);
    await said(run, "the journal cannot be written");
    await untilWell(run);
    await until(() => fs.existsSync(join(own, "owner.json")));
    cpSync(own, join(folder, "copy"), { recursive: true });
    rmSync(join(folder, "copy", "owner.json"));
    faulty.fault = "well";
    const next = new Run(join(folder, "copy"), faulty.url);
    await next.pipeline.open();
    await next.settle();
    await next.end();
    await run.settle();
    await run.end();
    assert.deepEqual(wrong(faulty, 15), []);
  }),
);

/** The journal of a killed process, with ten pending calls. @param {string} folder @param {FaultyReceiver} faulty */
async function journal(folder, faulty) {
  faulty.fault = "refuse";
  const run = new Run(join(folder, "made"), faulty.url);
  await run.pipeline.open();
  calls(run, 1, 6);
  await run.pipeline.stop(300);
  await run.pipeline.journalled();
  calls(run, 7, 10);
  await nextTurn();
  await run.pipeline.journalled();
  cpSync(join(folder, "made", "journal"), join(folder, "kept"), { recursive: true });
  await run.end(1);
  faulty.fault = "well";
  const [ledger = "", segment = ""] = ["ledger-", "model-calls-"].map((prefix) =>
    readdirSync(join(folder, "kept")).find((name) => name.startsWith(prefix)),
  );
  return { ledger, segment };
}

/** Sends the readable calls of a damaged copy of a journal. @param {string} folder @param {string} name @param {Buffer} bytes */
async function damaged(folder, name, bytes) {
  const faulty = await FaultyReceiver.open("ids");
  const copy = join(folder, "copy");
  rmSync(copy, { recursive: true, force: true });
  cpSync(join(folder, "kept"), join(copy, "journal"), { recursive: true });
  writeFileSync(join(copy, "journal", name), bytes);
  const run = new Run(copy, faulty.url);
  try {
    await run.pipeline.open();
    run.call(11);
    await run.settle();
    assert.equal(run.status.core_restarts, 0);
    assert.equal(faulty.counted.get(11), 1, "what is new is sent");
    for (const [tokens, times] of faulty.counted) assert.equal(times, 1, `${tokens} twice`);
    return { counted: new Set(faulty.counted.keys()), status: run.status, log: run.log };
  } finally {
    await run.end(1);
    faulty.close();
  }
}

test(
  "a journal cut anywhere, and flipped bits",
  withReceiver(async (folder, faulty) => {
    const { ledger, segment } = await journal(folder, faulty);
    const below = random(5);
    const step = Number(process.env.CUT_STEP ?? 61);
    let cuts = 0;
    for (const name of [ledger, segment]) {
      const whole = readFileSync(join(folder, "kept", name));
      for (let at = below(step); at <= whole.length; at += step) {
        cuts += 1;
        const { counted } = await damaged(folder, name, whole.subarray(0, at));
        // Each file has its own part of the calls.
        if (name === ledger)
          for (let call = 1; call <= 6; call += 1) assert.ok(counted.has(call), `cut at ${at}`);
        if (name === segment)
          for (let call = 7; call <= 10; call += 1) assert.ok(counted.has(call), `cut at ${at}`);
        if (at === whole.length) assert.equal(counted.size, 11);
      }
      for (let flips = 0; flips < 12; flips += 1) {
        const bytes = Buffer.from(whole);
        const at = below(bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8));
        const { counted, status, log } = await damaged(folder, name, bytes);
        assert.ok(
          counted.size >= 10,
          `a flipped bit at ${at} of ${name} costs more than one: ${counted.size}`,
        );
        assert.ok(status.journal_corrupt >= 1);
        assert.ok(log.some((line) => line.includes("torn or corrupt")));
      }
    }
    console.log(`${cuts} cuts, 24 flips`);
  }),
);

test(
  "a file of a newer version and files of other programs are not changed",
  withReceiver(async (folder, faulty) => {
    const { segment } = await journal(folder, faulty);
    const run = new Run(join(folder, "aw"), faulty.url);
    const own = join(folder, "aw", "journal");
    cpSync(join(folder, "kept"), own, { recursive: true });
    const header = Buffer.from(readFileSync(join(own, segment)).subarray(0, 8));
    const future = Buffer.concat([futureHeader(header), Buffer.from("what a future version has to say")]);
    writeFileSync(join(own, "model-calls-0000000099.awj"), future);
    for (const name of ["notes.txt", "model-calls-x.awj", "ledger-.awj", ".hidden"])
      writeFileSync(join(own, name), "hello");
    mkdirSync(join(own, "folder.awj"));
    await run.pipeline.open();
    run.call(11);
    await run.settle();
    await run.end();
    assert.deepEqual(wrong(faulty, 11), []);
    assert.ok(
      run.log.some((line) => line.includes("0000000099")),
      run.log.join("\n"),
    );
    assert.deepEqual(readFileSync(join(own, "model-calls-0000000099.awj")), future);
    for (const name of ["notes.txt", "model-calls-x.awj", "ledger-.awj", ".hidden"])
      assert.equal(readFileSync(join(own, name), "utf8"), "hello");
  }),
);

/** The header of format 2 with its checksum: the low two bytes of SipHash-1-3 of the first six. @param {Buffer} header */
function futureHeader(header) {
  const bytes = Buffer.from(header);
  bytes.writeUInt16LE(2, 4);
  bytes.writeUInt16LE(Number(sipHash13(bytes.subarray(0, 6)) & 0xffffn), 6);
  return bytes;
}

/** SipHash-1-3 of less than eight bytes, with the key 0. @param {Buffer} bytes */
function sipHash13(bytes) {
  const mask = (1n << 64n) - 1n;
  const rotated = (/** @type {bigint} */ x, /** @type {bigint} */ by) =>
    ((x << by) | (x >> (64n - by))) & mask;
  let [a, b, c, d] = [0x736f6d6570736575n, 0x646f72616e646f6dn, 0x6c7967656e657261n, 0x7465646279746573n];
  const round = () => {
    a = (a + b) & mask;
    b = rotated(b, 13n) ^ a;
    a = rotated(a, 32n);
    c = (c + d) & mask;
    d = rotated(d, 16n) ^ c;
    a = (a + d) & mask;
    d = rotated(d, 21n) ^ a;
    c = (c + b) & mask;
    b = rotated(b, 17n) ^ c;
    c = rotated(c, 32n);
  };
  let last = BigInt(bytes.length) << 56n;
  for (const [index, byte] of bytes.entries()) last |= BigInt(byte) << BigInt(8 * index);
  d ^= last;
  round();
  a ^= last;
  c ^= 0xffn;
  for (let rounds = 0; rounds < 3; rounds += 1) round();
  return a ^ b ^ c ^ d;
}

test(
  "only the owner may read files, and no handler uses the disk",
  withReceiver(async (folder, faulty) => {
    faulty.fault = "refuse";
    const own = join(folder, "aw");
    const run = new Run(own, faulty.url);
    await run.pipeline.open();
    const names = /** @type {const} */ ([
      ...["openSync", "writeSync", "writeFileSync", "readFileSync", "readdirSync", "statSync", "renameSync"],
      ...[
        "rmSync",
        "mkdirSync",
        "fsyncSync",
        "closeSync",
        "open",
        "write",
        "appendFile",
        "writeFile",
        "rename",
      ],
    ]);
    const real = /** @type {any} */ (fs);
    let touched = 0;
    let isCounting = false;
    for (const where of [real, real.promises])
      for (const name of names) {
        const before = where[name];
        if (typeof before !== "function") continue;
        where[name] = (/** @type {unknown[]} */ ...args) => {
          touched += Number(isCounting);
          return before.apply(where, args);
        };
      }
    syncBuiltinESMExports();
    for (let tokens = 1; tokens <= 500; tokens += 1) {
      isCounting = true;
      run.call(tokens);
      isCounting = false;
      if (tokens % 50 === 0) await sleep(20);
    }
    assert.equal(touched, 0);
    await run.pipeline.journalled();
    faulty.fault = "well";
    await run.settle();
    await run.end();
    for (const path of [
      own,
      ...readdirSync(own, { recursive: true }).map((name) => join(own, String(name))),
    ]) {
      const found = statSync(path);
      assert.equal(found.mode & 0o777, found.isDirectory() ? 0o700 : 0o600, path);
    }
    assert.deepEqual(wrong(faulty, 500), []);
  }),
);

test(
  "the wall clock jumps by hours, back and forth",
  withReceiver(async (folder, faulty) => {
    const clock = new Clock();
    const run = new Run(folder, faulty.url, { clock });
    await run.pipeline.open();
    const below = random(11);
    for (let tokens = 1; tokens <= 200; tokens += 1) {
      faulty.fault = tokens % 60 < 20 ? "refuse" : "well";
      run.call(tokens);
      if (below(4) === 0) clock.jump((below(2) ? 1 : -1) * 3_600_000 * (1 + below(9)));
      if (tokens % 5 === 0) await sleep(5);
    }
    faulty.fault = "well";
    const { requests } = faulty;
    clock.jump(-36_000_000);
    run.call(201);
    // Pauses follow the monotonic clock.
    clock.pass(400_000);
    run.call(202);
    await until(() => faulty.counted.size === 202);
    assert.ok(faulty.requests - requests < 100, "it does not run in circles");
    await run.end();
    assert.deepEqual(wrong(faulty, 202), []);
  }),
);

test("an event that waited in the queue is written without a further wait", () =>
  inFolder(async (folder) => {
    // The test moves this clock.
    const clock = new Clock(0);
    let given = 0;
    const traced = () => {
      const { Engine, ...rest } = instantiate();
      class Traced extends Engine {
        /** @param {any[]} events */
        give(...events) {
          given += 1;
          return super.give(.../** @type {[any, any]} */ (events));
        }
      }
      return { Engine: Traced, ...rest };
    };
    const run = new Run(folder, "http://127.0.0.1:9", { clock, host: { instantiate: traced } });
    await run.pipeline.open();
    mkdirSync(join(folder, "journal"), { mode: 0o700 });
    const ledger = () =>
      readdirSync(join(folder, "journal"))
        .filter((name) => name.startsWith("ledger-"))
        .reduce((sum, name) => sum + statSync(join(folder, "journal", name)).size, 0);
    for (const call of [1, 2, 3]) {
      const before = ledger();
      run.call(call);
      // The first event was passed at once, and is written with the next one.
      if (call > 1) clock.pass(250);
      await until(() => given === call && (call === 1 || ledger() > before));
    }
    await run.end();
  }));

test("bytes are appended at the end of a file, all or none, and a folder in its place is renamed", () =>
  inFolder((folder) => {
    const files = new HostFiles(folder);
    const bytes = Buffer.from("abc");
    files.append("journal/one", bytes, undefined, true);
    files.append("journal/one", bytes, 3, false);
    // Another process removed the file.
    assert.throws(() => files.append("journal/one", bytes, 9, false), /journal\/one was removed or changed/);
    assert.equal(Buffer.from(files.read("journal/one", 2, 3) ?? []).toString(), "cab");
    assert.equal(files.read("journal/two", 0, 9), undefined);
    files.rename("journal/two", "journal/three", false);
    mkdirSync(join(folder, "journal", "three"));
    files.append("journal/three", bytes, undefined, false);
    writeFileSync(join(folder, "journal", "four.new"), bytes);
    const listed = files
      .list("journal")
      .map(({ name, bytes: size, fault }) => [name, size > 0, fault === undefined]);
    assert.deepEqual(
      listed.filter(([name]) => !String(name).includes(".damaged-")),
      [
        ["one", true, true],
        ["three", true, true],
      ],
    );
    files.remove("journal/one");
    files.remove("journal/one");
    assert.deepEqual(files.list("elsewhere"), []);
    return Promise.resolve();
  }));
