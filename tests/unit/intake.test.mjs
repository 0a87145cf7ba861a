// LiteLLM repeats a log that was answered 503: its calls count once, whether the first try was counted or not.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { FaultyReceiver, inFolder, Run, until } from "./faulty-receiver.mjs";
import { get } from "./upstream.mjs";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));
const { Intake, LitellmEndpoint } = await import(`${DIST}serve.js`);
const { instantiate } = await import(`${DIST}base.js`);
const FIXTURES = fileURLToPath(new URL("../fixtures/litellm/", import.meta.url));
/** Six calls of a real LiteLLM, and the first of them in another log. */
const SIX = readFileSync(`${FIXTURES}json_array.body`, "utf8");
const ONE = JSON.stringify(JSON.parse(SIX)[0]);

/** @param {Run} run */
async function serve(run) {
  const intake = new Intake(run.pipeline);
  const endpoint = new LitellmEndpoint({
    host: "127.0.0.1",
    port: 0,
    token: undefined,
    provider: "litellm",
    accept: (/** @type {any[]} */ calls) => intake.accept(calls),
    instantiate,
    log: { info: () => {}, warn: () => {} },
    mono: run.clock.mono,
  });
  const { port } = await endpoint.listen();
  return {
    /** @param {string} body */
    post: async (body) => (await get(`http://127.0.0.1:${port}/`, { method: "POST", body })).status,
    close: () => endpoint.close(0),
  };
}

/** Counted calls. @param {FaultyReceiver} faulty */
const counted = (faulty) => [...faulty.counted.values()].reduce((sum, count) => sum + count, 0);

for (const role of ["owner", "spool"]) {
  test(
    `a disk that cannot be written, and LiteLLM that retries; ${role} of the journal`,
    { timeout: 60_000 },
    () =>
      inFolder(async (folder) => {
        const faulty = await FaultyReceiver.open("ids");
        const owner = role === "spool" ? new Run(folder, faulty.url) : undefined;
        await owner?.pipeline.open();
        const run = new Run(folder, faulty.url);
        await run.pipeline.open();
        const { post, close } = await serve(run);
        // As on a full disk, the taken calls are sent from memory.
        const journalled = run.pipeline.journalled.bind(run.pipeline);
        let isFull = true;
        run.pipeline.journalled = async () => {
          await journalled();
          if (isFull) throw new Error("the journal cannot be written");
        };
        try {
          assert.equal(await post(SIX), 503);
          for (let tries = 0; tries < 3; tries += 1) {
            // Longer than the time between two deliveries of one event.
            run.clock.pass(3_000);
            assert.equal(await post(SIX), 503);
          }
          // One of them in a log of another format.
          assert.equal(await post(ONE), 503);
          isFull = false;
          let status = 503;
          await until(async () => {
            run.clock.pass(3_000);
            status = await post(SIX);
            return status === 200;
          });
          assert.equal(status, 200);
          assert.equal(await post(SIX), 200);
          await run.settle();
          if (owner) await until(() => counted(faulty) > 0);
          await owner?.settle();
          // The fixtures have six calls; the single log has one of them.
          const fresh = await FaultyReceiver.open("ids");
          await inFolder(async (other) => {
            const alone = new Run(other, fresh.url);
            const once = await serve(alone);
            assert.equal(await once.post(SIX), 200);
            await alone.settle();
            await once.close();
            await alone.end();
          });
          assert.equal(counted(faulty), counted(fresh));
          assert.deepEqual([...faulty.counted].sort(), [...fresh.counted].sort());
          fresh.close();
        } finally {
          await close();
          await run.end();
          await owner?.end();
          faulty.close();
        }
      }),
  );
}

/** A pipeline that records the calls that it takes. */
function taker() {
  const status = { off: false, dropped_spool_full: 0 };
  return {
    /** @type {any[]} */
    taken: [],
    state: status,
    status: () => ({ ...status }),
    /** @type {() => Promise<void>} */
    journalled: async () => {},
    /** @param {string} _ @param {any[]} args */
    take(_, [call]) {
      this.taken.push(call.request_id);
      return undefined;
    },
  };
}

test("a call of a quiet endpoint is sent soon", { timeout: 60_000 }, () =>
  inFolder(async (folder) => {
    const faulty = await FaultyReceiver.open("ids");
    const run = new Run(folder, faulty.url);
    await run.pipeline.open();
    const { post, close } = await serve(run);
    try {
      assert.equal(await post(ONE), 200);
      // Nothing else comes that would send it along.
      await until(() => counted(faulty) > 0, 20_000);
      assert.equal(counted(faulty), 1);
    } finally {
      await close();
      await run.end();
      faulty.close();
    }
  }),
);

test("calls that were dropped are taken again at the next try", async () => {
  const pipeline = taker();
  const intake = new Intake(pipeline);
  pipeline.journalled = async () => {
    pipeline.state.dropped_spool_full += 1;
  };
  await assert.rejects(intake.accept([{ request_id: "a" }]), /has not read/);
  pipeline.journalled = async () => {};
  await intake.accept([{ request_id: "a" }]);
  await intake.accept([{ request_id: "a" }]);
  assert.deepEqual(pipeline.taken, ["a", "a"]);
  pipeline.state.off = true;
  await assert.rejects(intake.accept([{ request_id: "b" }]), /switched off/);
  assert.deepEqual(pipeline.taken, ["a", "a"]);
});

test("calls with any difference are different calls, and so are equal calls of one log", async () => {
  const pipeline = taker();
  const intake = new Intake(pipeline);
  const call = { request_id: "a", started: 1, input: 5 };
  await intake.accept([call, { ...call }, { ...call, started: 2 }]);
  await intake.accept([{ ...call, started: 2 }, { ...call }]);
  assert.equal(pipeline.taken.length, 3);
  await intake.accept([call, call, call]);
  assert.equal(pipeline.taken.length, 4);
});

test("the number of remembered calls is bounded", async () => {
  const pipeline = taker();
  const intake = new Intake(pipeline);
  await intake.accept(Array.from({ length: 65_537 }, (_, index) => ({ request_id: String(index) })));
  await intake.accept([{ request_id: "1" }, { request_id: "65536" }]);
  assert.equal(pipeline.taken.length, 65_537);
  await intake.accept([{ request_id: "0" }]);
  assert.equal(pipeline.taken.length, 65_538);
});
