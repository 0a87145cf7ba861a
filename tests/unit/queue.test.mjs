// The queue of events before the core: order is kept, nothing is lost, and spans are bounded.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue, spansOf, TICK_MS } from "../../dist/base.js";

const SETTLED = 512;

/** The events taken from a queue. @param {number[]} times */
function taken(times) {
  const queue = new Queue(
    () => 0,
    () => {},
  );
  for (const [index, mono] of times.entries())
    queue.add({ numbers: Float64Array.of(index, mono, mono, 0), texts: "" });
  return spansOf(queue.take());
}

test("the events of one tick are one span, and the events of the next tick are the next span", () => {
  const spans = taken([0, 1, TICK_MS - 1, TICK_MS, TICK_MS + 9]);
  assert.deepEqual(
    spans.map(([events, until]) => [events.length, until?.mono]),
    [
      [3, TICK_MS],
      [2, undefined],
    ],
  );
});

test("a burst is split into spans, in order", () => {
  const spans = taken(Array.from({ length: 2 * SETTLED + 5 }, (_, index) => index / 100));
  const lengths = spans.map(([events]) => events.length);
  assert.deepEqual(lengths, [SETTLED, SETTLED, 5]);
  const order = spans.flatMap(([events]) => events.map(({ numbers }) => numbers[0]));
  assert.deepEqual(order, [...order.keys()]);
  for (const [index, [, until]] of spans.entries()) assert.equal(until, spans[index + 1]?.[0][0]);
});
