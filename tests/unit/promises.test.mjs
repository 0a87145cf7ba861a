// Deadlines of a gateway whose thread has other work too.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { withDeadline } from "../../dist/base.js";

/** Answers at once, and says in shared memory that it did. */
const ANSWERS = `
const { parentPort } = require("node:worker_threads");
parentPort.on("message", (answered) => {
  parentPort.postMessage("an answer");
  Atomics.store(answered, 0, 1);
  Atomics.notify(answered, 0);
});`;

const worker = new Worker(ANSWERS, { eval: true });
after(() => worker.terminate());

test("an answer that came while the thread was busy is not late", async () => {
  const answered = new Int32Array(new SharedArrayBuffer(4));
  const answer = once(worker, "message");
  // Timers come next, and then the messages of a worker.
  await nextTurn();
  worker.postMessage(answered);
  const asked = withDeadline(answer, 1);
  assert.notEqual(Atomics.wait(answered, 0, 0, 60_000), "timed-out");
  for (const begun = performance.now(); performance.now() - begun < 20; );
  assert.deepEqual(await asked, ["an answer"]);
});

test("who does not answer is late", async () => {
  await assert.rejects(withDeadline(new Promise(() => {}), 20), /no answer in time/);
});
