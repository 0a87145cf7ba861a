// How facts cross: the layout that `crate/src/packed.rs` takes apart.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Pack } from "../../dist/plugin.js";

/** @param {Pack} pack */
function taken(pack) {
  const [numbers, texts] = pack.take();
  return [[...numbers], texts];
}

test("an event is its source, its times and its facts, texts apart", () => {
  const pack = new Pack();
  pack.add(7, 1e12, 5, ["ab", null, 0.5, true, false, []]);
  assert.deepEqual(taken(pack), [[7, 1e12, 5, 6, 4, 2, 0, 3, 0.5, 2, 1, 5, 0], "ab\0"]);
});

test("lists are in lists, and events behind each other", () => {
  const pack = new Pack();
  pack.add(0, 1, 2, [[["x"], [1]]]);
  pack.add(1, 3, 4, []);
  assert.deepEqual(taken(pack), [[0, 1, 2, 1, 5, 2, 5, 1, 4, 1, 5, 1, 3, 1, 1, 3, 4, 0], "x\0"]);
});

test("what was taken is not there again", () => {
  const pack = new Pack();
  pack.add(0, 1, 2, ["text"]);
  pack.take();
  assert.deepEqual(taken(pack), [[], ""]);
});

test("it grows with what is put in", () => {
  const pack = new Pack();
  for (let event = 0; event < 2_000; event += 1) pack.add(event, 1, 2, ["text", event]);
  const [numbers, texts] = pack.take();
  assert.equal(numbers.length, 2_000 * 8);
  assert.equal(numbers.at(-8), 1_999);
  assert.equal(texts.length, 2_000 * 5);
});
