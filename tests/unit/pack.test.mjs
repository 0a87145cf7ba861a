// The layout of packed events, which `crate/src/bindings/packed.rs` reads.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Pack } from "../../dist/base.js";

/** @param {number} count @param {(pack: Pack) => void} fill */
function packed(count, fill, pack = new Pack()) {
  pack.begin(7, 1e12, 5, count);
  fill(pack);
  return [[...pack.numbers], pack.texts];
}

test("an event has its source, its times and its facts, and texts apart", () => {
  const facts = ["ab", null, 0.5, true, false, {}];
  const found = packed(facts.length, (pack) => facts.forEach((fact) => pack.fact(fact)));
  assert.deepEqual(found, [[7, 1e12, 5, 6, 4, 2, 0, 3, 0.5, 2, 1, 5, 0], "ab\0"]);
});

test("a list has rows, each a list of facts", () => {
  const rows = [{ a: "x" }, { a: 1 }, { a: 2 }];
  const found = packed(1, (pack) =>
    pack.list([() => rows], 2, 1, (row) => pack.fact(/** @type {any} */ (row).a)),
  );
  assert.deepEqual(found, [[7, 1e12, 5, 1, 5, 2, 5, 1, 4, 1, 5, 1, 3, 1], "x\0"]);
});

test("a list that throws adds nothing, and the next alternative is used", () => {
  const bad = new Proxy(["x", "y"], {
    get: (target, key) => {
      if (key === "1") throw new Error("no");
      return Reflect.get(target, key);
    },
  });
  const found = packed(1, (pack) => pack.list([() => bad, () => [3]], 9, 1, (row) => pack.fact(row)));
  assert.deepEqual(found, [[7, 1e12, 5, 1, 5, 1, 5, 1, 3, 3], ""]);
});

test("the next event overwrites the pack, but not a copy", () => {
  const pack = new Pack();
  packed(1, () => pack.fact("text"), pack);
  const copy = pack.copy();
  assert.deepEqual(
    packed(0, () => {}, pack),
    [[7, 1e12, 5, 0], ""],
  );
  assert.deepEqual([[...copy.numbers], copy.texts], [[7, 1e12, 5, 1, 4, 4], "text\0"]);
});

test("the pack grows with its facts", () => {
  const [numbers, texts] = packed(2_000, (pack) => {
    for (let fact = 0; fact < 2_000; fact += 1) pack.fact(`t${fact}`);
  });
  assert.equal(numbers.length, 4 + 2 * 2_000);
  assert.equal(
    texts.length,
    Array.from({ length: 2_000 }, (_, fact) => `t${fact}`.length + 1).reduce((a, b) => a + b),
  );
});
