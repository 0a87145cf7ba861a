// The ring between the gateway's thread and the worker: events come out as they went in, in order, until they are acknowledged.
import assert from "node:assert/strict";
import { test } from "node:test";
import { makeRing, Ring, RingReader } from "../../dist/base.js";
import { random } from "./faulty-receiver.mjs";

const ROOM = 4096;

/** @param {number} number @param {string} [texts] @param {number} [facts] */
function event(number, texts = "", facts = 0) {
  return { numbers: Float64Array.from({ length: 4 + facts }, (_, at) => (at === 0 ? number : at)), texts };
}

/** @param {import("../../js-shim/src/base/inbox.js").QueuedEvent[]} events */
function told(events) {
  return events.map(({ numbers, texts }) => [numbers[0], numbers.length, texts]);
}

test("an event comes out as it went in, lone surrogates included", () => {
  const ring = new Ring(makeRing(ROOM));
  const reader = new RingReader(ring.memory);
  const texts = ["", "a\0", "ä€𝄞\0", "\ud834 alone\0"];
  for (const [number, text] of texts.entries()) ring.push(event(number, text, number));
  assert.deepEqual(
    told(reader.take()),
    texts.map((text, number) => [number, 4 + number, text]),
  );
  assert.ok(reader.isEmpty);
  assert.ok(!ring.isEmpty, "until it is acknowledged");
  reader.acknowledge();
  assert.ok(ring.isEmpty);
});

test("random sequences: no event is lost, changed or repeated while there is room, and dropped events are counted", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const draw = random(seed);
    const ring = new Ring(makeRing(ROOM));
    let reader = new RingReader(ring.memory);
    const [/** @type {any[]} */ written, /** @type {any[]} */ read] = [[], []];
    /** Events that were read and not acknowledged: the next reader reads them again. @type {any[]} */
    let doubtful = [];
    for (let step = 0; step < 400; step += 1) {
      const what = draw(10);
      if (what < 6) {
        const { dropped } = ring;
        const one = event(step, "x".repeat(draw(draw(20) === 0 ? 3_000 : 40)), draw(60));
        ring.push(one);
        if (ring.dropped === dropped) written.push(...told([/** @type {any} */ (one)]));
      } else if (what < 8) doubtful.push(...told(reader.take()));
      else if (what === 8) {
        reader.acknowledge();
        read.push(...doubtful);
        doubtful = [];
      } else if (draw(4) === 0) {
        reader = new RingReader(ring.memory);
        doubtful = [];
      }
    }
    read.push(...doubtful, ...told(reader.take()));
    assert.deepEqual(read, written, `seed ${seed}`);
    assert.equal(reader.dropped, ring.dropped);
  }
});

test("positions wrap", () => {
  const memory = makeRing(ROOM);
  const control = new Int32Array(memory.control);
  // Head and acknowledged position, shortly before 2^32.
  control.fill(-4, 0, 2);
  const ring = new Ring(memory);
  const reader = new RingReader(memory);
  for (let number = 0; number < 1_000; number += 1) {
    ring.push(event(number, "text\0"));
    assert.deepEqual(told(reader.take()), [[number, 4, "text\0"]]);
    reader.acknowledge();
  }
  assert.equal(ring.dropped, 0);
});

test("a full ring drops events until a record is acknowledged", () => {
  const ring = new Ring(makeRing(ROOM));
  const reader = new RingReader(ring.memory);
  while (ring.dropped === 0) ring.push(event(1, "x".repeat(100)));
  const { length } = reader.take();
  ring.push(event(2));
  ring.push(event(3, "x".repeat(100)));
  assert.ok(ring.dropped >= 2);
  reader.acknowledge();
  ring.push(event(4));
  assert.deepEqual(told(reader.take()).at(-1), [4, 4, ""]);
  assert.ok(length > 10);
});

test("a record at which two readers crashed is skipped, and its neighbours are not", () => {
  const ring = new Ring(makeRing(ROOM));
  const reader = new RingReader(ring.memory);
  for (let number = 0; number < 5; number += 1) ring.push(event(number));
  reader.observing(reader.take()[2]);
  const { observed } = ring;
  const next = new RingReader(ring.memory, [observed]);
  assert.deepEqual(
    told(next.take()).map(([number]) => number),
    [0, 1, 3, 4],
  );
  assert.equal(next.skipped, 1);
  reader.observing(undefined);
  assert.equal(ring.observed, undefined);
});

test("after a trap the core gets unacknowledged records again, without one at which it trapped twice", () => {
  const ring = new Ring(makeRing(ROOM));
  const reader = new RingReader(ring.memory);
  const numbers = () => told(reader.take()).map(([number]) => number);
  for (let number = 0; number < 5; number += 1) ring.push(event(number));
  reader.take();
  reader.acknowledge();
  for (let number = 5; number < 8; number += 1) ring.push(event(number));
  const die = () => {
    reader.observing(reader.take()[1]);
    reader.rewind();
  };
  die();
  assert.equal(ring.observed, undefined);
  assert.deepEqual(numbers(), [5, 6, 7]);
  reader.rewind();
  die();
  assert.deepEqual(numbers(), [5, 6, 7], "it died of something else in between");
  reader.rewind();
  die();
  die();
  assert.deepEqual([numbers(), reader.skipped], [[5, 7], 1]);
});

test("a sleeping reader wakes for the next event, and at once where one came before it slept", async () => {
  const ring = new Ring(makeRing(ROOM));
  const reader = new RingReader(ring.memory);
  const woken = reader.recordArrived();
  ring.push(event(1));
  await woken;
  await reader.recordArrived();
  assert.equal(reader.take().length, 1);
});

test("the writer's end waits for what the reader writes, and not for a reader that cannot write", () => {
  const written = new Ring(makeRing(ROOM));
  const reader = new RingReader(written.memory);
  written.push(event(1));
  reader.take();
  reader.writing();
  assert.ok(written.isWriting);
  // The next reader decides what of it is on disk.
  written.reset();
  assert.ok(written.isWriting);
  reader.acknowledge();
  assert.ok(!written.isWriting);

  const failing = new Ring(makeRing(ROOM));
  const unable = new RingReader(failing.memory);
  unable.writing();
  unable.failEnd();
  assert.equal(failing.finish(0, 60_000), false, "at once: nobody would release the lock");
});
