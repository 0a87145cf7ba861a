// The worker as a thread: the losses when the thread or the process ends.
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { FaultyReceiver, random, until, wrong } from "./faulty-receiver.mjs";
import { makeWorkersBy, RealWorker } from "./in-thread.mjs";
import { answer, Gateway, Receiver, SESSION, started } from "./world.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const KILLS = Number(process.env.KILLS ?? 20);

/** All threads. @type {import("node:worker_threads").Worker[]} */
const made = [];
/** 1 where the engine of a thread is to trap. */
const asked = new Int32Array(new SharedArrayBuffer(4));
const trapping = fileURLToPath(new URL("./killed-worker.mjs", import.meta.url));
makeWorkersBy(
  class extends RealWorker {
    /** @param {URL} url @param {{ workerData: object }} options */
    constructor(url, { workerData, ...options }) {
      super(url, { ...options, workerData: { ...workerData, asked }, execArgv: ["--import", trapping] });
      made.push(this);
    }
  },
);
after(() => Promise.all(made.map((worker) => worker.terminate())));

/** @param {number} tokens */
function one(tokens) {
  return answer(tokens, { timestamp: Date.now(), responseId: `r${tokens}` });
}

/** The ways in which a thread is killed in turn, and the log line of each. */
const WAYS = {
  terminate: "the worker was started again after a fault",
  trap: "the engine was restarted after a fault",
};

test(`a thread that is ended or traps ${KILLS} times under load loses nothing and counts nothing twice`, async (t) => {
  const { gateway, receiver, close } = await started();
  const draw = random(7);
  const seen = (/** @type {string} */ line) => gateway.log.filter((text) => text.includes(line)).length;
  const begun = performance.now();
  let told = 0;
  try {
    for (let kill = 0; kill < KILLS; kill += 1) {
      const [way, line] = Object.entries(WAYS)[kill % 2] ?? ["", ""];
      const before = seen(line);
      const at = draw(30);
      for (let event = 0; event < 40; event += 1) {
        told += 1;
        gateway.emit("before_message_write", one(told), SESSION);
        if (event === at && way === "terminate") void made.at(-1)?.terminate();
        if (event === at && way === "trap") Atomics.store(asked, 0, 1);
        await sleep(draw(12));
      }
      await until(() => seen(line) > before);
    }
    await until(() => (receiver.totals["p/m"]?.requests ?? 0) >= told);
    await gateway.stop();
    // Records that were sent and not acknowledged are sent again, under their ids.
    await gateway.start();
    await gateway.finish();
    const { requests = 0, prompt } = receiver.totals["p/m"] ?? {};
    const seconds = Math.round((performance.now() - begun) / 1000);
    t.diagnostic(
      `${told} answers, ${Math.max(0, told - requests)} lost, ${Math.max(0, requests - told)} twice, ${seconds} s`,
    );
    assert.equal(requests, told);
    assert.equal(prompt, (told * (told + 1)) / 2);
    assert.deepEqual(Object.values(WAYS).map(seen), [Math.ceil(KILLS / 2), Math.floor(KILLS / 2)]);
  } finally {
    close();
  }
});

/** How the process ends, its exit code or signal, and the number of its last answers that may be missing. */
const ENDS = {
  "process.exit() in the turn of the last answer": { how: "exit", end: 0, mayMiss: 0 },
  "an uncaught exception": { how: "throw", end: 1, mayMiss: 0 },
  "an unhandled rejection": { how: "reject", end: 1, mayMiss: 0 },
  "a loop with nothing to do": { how: "idle", end: 0, mayMiss: 0 },
  "SIGTERM, at which the gateway stops": { how: "term-stops", end: 0, mayMiss: 0 },
  "SIGKILL once the last answer is in the journal": { how: "kill", end: "SIGKILL", mayMiss: 0 },
  // The last ten, which came within the last 250 ms.
  "SIGTERM without a handler": { how: "term-now", end: "SIGTERM", mayMiss: 10 },
  "SIGKILL in the turn of the last answer": { how: "kill-now", end: "SIGKILL", mayMiss: 10 },
};

for (const [what, { how, end, mayMiss }] of Object.entries(ENDS))
  test(`${what} loses at most ${mayMiss} answers, and none is counted twice`, async () => {
    const receiver = await Receiver.open();
    const gateway = new Gateway("none");
    try {
      const file = fileURLToPath(new URL("./ending-gateway.mjs", import.meta.url));
      const options = { timeout: 120_000, killSignal: /** @type {const} */ ("SIGHUP") };
      const child = fork(file, [gateway.stateDir, receiver.url, how], options);
      const [code, signal] = await once(child, "exit");
      assert.equal(signal ?? code, end, "it ended otherwise");
      // The next owner of the state directory reads the spooled events.
      gateway.register(await gateway.evaluate(), { url: receiver.url });
      await gateway.start();
      await until(() => (receiver.totals["p/m"]?.requests ?? 0) >= 50 - mayMiss);
      await gateway.finish();
      const { requests = 0, prompt } = receiver.totals["p/m"] ?? {};
      assert.ok(requests >= 50 - mayMiss && requests <= 50, `${requests} of 50`);
      // The first ones, each once.
      assert.equal(prompt, (requests * (requests + 1)) / 2);
    } finally {
      gateway.close();
      receiver.close();
    }
  });

/** Where the worker is blocked for longer than an exiting process waits, and by when it is. */
const BLOCKS = {
  "before it reads the last events": { how: "busy-before", at: "readdirSync /spool", ms: 1_030 },
  "by a write of the last events": { how: "busy", at: "writeSync /journal/records-", ms: 1_500 },
};

for (const [where, { how, at, ms }] of Object.entries(BLOCKS))
  test(`process.exit() while the worker is blocked ${where} loses nothing and tells nothing twice`, async () => {
    const faulty = await FaultyReceiver.open("ids");
    const gateway = new Gateway("none");
    try {
      const [file, blocker] = ["ending-gateway", "blocked-worker"].map((name) =>
        fileURLToPath(new URL(`./${name}.mjs`, import.meta.url)),
      );
      const files = {
        BLOCK_WHEN: join(gateway.stateDir, "when"),
        BLOCKED: join(gateway.stateDir, "blocked"),
      };
      const child = fork(file ?? "", [gateway.stateDir, faulty.url, how], {
        env: { ...process.env, ...files, BLOCK_AT: at, BLOCK_MS: `${ms}` },
        execArgv: ["--import", blocker ?? ""],
        timeout: 120_000,
      });
      assert.deepEqual(await once(child, "exit"), [0, null]);
      assert.ok(existsSync(files.BLOCKED), "the worker was not blocked");
      gateway.register(await gateway.evaluate(), { url: faulty.url });
      await gateway.start();
      const spool = join(gateway.stateDir, "agentwatch", "spool");
      await until(() => !existsSync(spool) || readdirSync(spool).length === 0);
      await gateway.finish();
      assert.deepEqual(wrong(faulty, 50), []);
      // A message has no key by which a second report of it would be known.
      for (const list of ["logs", "metrics"])
        assert.equal(new Set(faulty.taken[list]?.map(({ id }) => id)).size, 50, list);
    } finally {
      gateway.close();
      faulty.close();
    }
  });

/** A copy of the package whose worker is another script. @param {string} script */
async function withWorker(script) {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-worker-"));
  cpSync(join(PROJECT, "dist"), join(folder, "dist"), { recursive: true });
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  writeFileSync(join(folder, "dist", "worker.js"), script);
  const { Recorder } = await import(pathToFileURL(join(folder, "dist", "plugin.js")).href);
  /** @type {string[]} */
  const log = [];
  const told = (/** @type {string} */ text) => log.push(text);
  const configuration = { settings: {}, expectDiagnostics: false, hasPlugin: true };
  const recorder = new Recorder({ log: { info: told, warn: told }, configuration: () => configuration });
  return { recorder, log, remove: () => rmSync(folder, { recursive: true }) };
}

/** Changes to the package's files while a gateway runs this version. */
const OTHERS = {
  "with another build": (/** @type {string} */ dist) => {
    const file = join(dist, "worker.js");
    writeFileSync(file, readFileSync(file, "utf8").replace(/\.build!==\w+/, '.build!=="other"'));
  },
  "without a worker": (/** @type {string} */ dist) => rmSync(join(dist, "worker.js")),
};

for (const [what, change] of Object.entries(OTHERS))
  test(`a package ${what} in the place of a running one loses nothing and counts nothing twice`, async () => {
    const { gateway, receiver, close } = await started();
    const dist = join(gateway.folderOf("one"), "dist");
    try {
      gateway.emit("before_message_write", one(1), SESSION);
      await gateway.finish();
      change(dist);
      gateway.emit("before_message_write", one(2), SESSION);
      await gateway.start();
      for (const tokens of [3, 4]) gateway.emit("before_message_write", one(tokens), SESSION);
      const spool = join(gateway.stateDir, "agentwatch", "spool");
      const written = () =>
        readdirSync(spool).reduce((sum, name) => sum + statSync(join(spool, name)).size, 0);
      await until(() => existsSync(spool) && written() > 0);
      const before = written();
      gateway.emit("before_message_write", one(5), SESSION);
      await until(() => written() > before);
      await gateway.stop();
      assert.equal(receiver.totals["p/m"]?.requests, 1);
      assert.equal(gateway.log.filter((line) => line.includes("of another version")).length, 1);
      assert.ok(!gateway.log.some((line) => line.includes("fault")), gateway.log.join("\n"));
      // The next process.
      cpSync(join(PROJECT, "dist"), dist, { recursive: true });
      await gateway.start();
      await until(() => (receiver.totals["p/m"]?.requests ?? 0) >= 5);
      await gateway.stop();
      assert.deepEqual([receiver.totals["p/m"]?.requests, receiver.totals["p/m"]?.prompt], [5, 15]);
    } finally {
      close();
    }
  });

/** A worker that acknowledges each event, and crashes at events of the model `poison`. */
const CRASHING_WORKER = `
import { parentPort, workerData } from "node:worker_threads";
import { RingReader } from "./base.js";
const reader = new RingReader(workerData.ring, workerData.skip);
const say = (text) => parentPort.postMessage({ type: "log", level: "info", text });
parentPort.on("message", ({ id, type }) => type !== "configure" && parentPort.postMessage({ type: "answer", id, value: {} }));
for (;;) {
  for (const event of reader.take()) {
    reader.observing(event);
    if (event.texts.includes("poison")) throw new Error("a fault");
    say("read " + event.texts.split("\\0").find((text) => text.startsWith("model-")));
    reader.observing(undefined);
  }
  reader.acknowledge();
  await reader.recordArrived();
}`;

test("an event at which two workers crash is skipped, and the events behind it are read", async () => {
  const { recorder, log, remove } = await withWorker(CRASHING_WORKER);
  try {
    const model = (/** @type {string} */ name) =>
      recorder.accept("before_message_write", answer(1, { model: name }), SESSION);
    model("model-a");
    await until(() => log.includes("read model-a"));
    model("poison");
    model("poison");
    model("model-b");
    await until(() => log.includes("read model-b"));
    const faults = log.filter((line) => line.includes("started again after a fault"));
    assert.equal(faults.length, 4, "two for each of two such events");
    model("model-c");
    await until(() => log.includes("read model-c"));
  } finally {
    remove();
  }
});

test("a worker that always crashes is switched off with a log line, and the gateway continues", async () => {
  const { recorder, log, remove } = await withWorker('throw new Error("never");');
  try {
    recorder.accept("before_message_write", answer(1), SESSION);
    await until(() => log.some((line) => line.includes("switched off after repeated faults")));
    recorder.accept("before_message_write", answer(2), SESSION);
    assert.deepEqual(await recorder.open(), {});
    assert.equal(await recorder.stop(100), 0);
  } finally {
    remove();
  }
});

test("twenty services in succession leave no thread and no open file", async () => {
  const { gateway, receiver, close } = await started();
  const open = () => readdirSync("/proc/self/fd").length;
  const threads = () => readdirSync("/proc/self/task").length;
  try {
    await gateway.stop();
    const [files, tasks] = [open(), threads()];
    for (let times = 1; times <= 20; times += 1) {
      gateway.emit("before_message_write", one(times), SESSION);
      await gateway.start();
      gateway.emit("before_message_write", one(100 + times), SESSION);
      await gateway.finish();
    }
    assert.equal(receiver.totals["p/m"]?.requests, 40);
    await until(() => open() <= files + 2 && threads() <= tasks);
  } finally {
    close();
  }
});
