// What crosses from an event into the module, and what does not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { makePicker } from "../../dist/plugin.js";

/** @param {Record<string, string>} paths @param {object} [more] */
function table(paths, more = {}) {
  const fields = Object.entries(paths).map(([name, path]) => ({ name, path }));
  return { source: "s", only: null, fields, list: null, ...more };
}

/** The one field's value. @param {string} path @param {unknown[]} args */
function one(path, ...args) {
  return makePicker(table({ field: path }))(args)?.[0];
}

test("a path starts at the handler's first argument, event, or its second, ctx", () => {
  const picked = makePicker(table({ a: "event.a.b", b: "ctx.c" }))([{ a: { b: 1 } }, { c: "two" }]);
  assert.deepEqual(picked, [1, "two"]);
});

test("scalars cross as they are", () => {
  for (const value of ["text", "", 0, -1, 1e308, true, false])
    assert.equal(one("event.x", { x: value }), value);
  assert.ok(Number.isNaN(one("event.x", { x: Number.NaN })));
});

test("what is missing, undefined or null is null", () => {
  for (const event of [{}, { x: undefined }, { x: null }, null, undefined, 5, "text"])
    assert.equal(one("event.x.y", event), null);
});

test("what is no scalar is an empty list: seen, and unusable", () => {
  for (const value of [{}, [], [1], () => {}, 10n, Symbol("s"), new Date(0)])
    assert.deepEqual(one("event.x", { x: value }), []);
});

test("a getter that throws is an empty list, and the other fields cross", () => {
  const event = {
    get bad() {
      throw new Error("no");
    },
    good: 7,
  };
  assert.deepEqual(makePicker(table({ bad: "event.bad.deep", good: "event.good" }))([event]), [[], 7]);
});

test("the first alternative that is there is taken", () => {
  assert.equal(one("event.a|event.b|ctx.c", { b: "second" }, { c: "third" }), "second");
  assert.equal(one("event.a|ctx.c", { a: 0 }, { c: 1 }), 0);
  assert.equal(one("event.a|event.b", {}), null);
});

test("each field is read once", () => {
  let reads = 0;
  const event = {
    get x() {
      reads += 1;
      return "x";
    },
  };
  assert.equal(one("event.x", event), "x");
  assert.equal(reads, 1);
});

test("a long text is cut at 1,024 UTF-16 units", () => {
  assert.equal(one("event.x", { x: "x".repeat(1024) }), "x".repeat(1024));
  assert.equal(one("event.x", { x: "x".repeat(1_000_000) }), "x".repeat(1024));
});

test("an event whose only-field holds something else is none of ours", () => {
  const pick = makePicker(table({ field: "event.x" }, { only: ["event.role", "assistant"] }));
  assert.deepEqual(pick([{ role: "assistant", x: 1 }]), [1]);
  for (const role of ["user", undefined, null, 1, {}]) assert.equal(pick([{ role, x: 1 }]), undefined);
  const hostile = {
    get role() {
      throw new Error("no");
    },
  };
  assert.equal(pick([hostile]), undefined);
});

test("a list's entries cross as rows, at most so many", () => {
  const list = { path: "event.items|event.more.items", max: 3, fields: [{ name: "n", path: "n" }] };
  const pick = makePicker(table({ key: "event.key", items: "" }, { list }));
  const items = [1, 2, 3, 4, 5].map((n) => ({ n }));
  assert.deepEqual(pick([{ key: "k", items }]), ["k", [[1], [2], [3]]]);
  assert.deepEqual(pick([{ key: "k", more: { items: items.slice(0, 1) } }]), ["k", [[1]]]);
  for (const odd of [undefined, null, "text", 5, {}])
    assert.deepEqual(pick([{ key: "k", items: odd }]), ["k", []]);
  assert.deepEqual(pick([{ key: "k", items: [null, 5, { n: {} }] }]), ["k", [[null], [null], [[]]]]);
});

test("noise is a flag, and the text stays behind", () => {
  for (const text of [
    "HEARTBEAT_OK",
    " no_reply\n",
    "Read HEARTBEAT.md if it exists",
    "",
    "  ",
    undefined,
    5,
  ])
    assert.equal(one("noise:event.text", { text }), true, String(text));
  for (const text of ["hello", "HEARTBEAT_OK, and more", "say NO_REPLY"])
    assert.equal(one("noise:event.text", { text }), false, text);
});

test("a preview crosses only where it was asked for, and is short", () => {
  const fields = table({ field: "preview:event.text" });
  const args = [{ text: `a\nb${"x".repeat(500)}` }];
  assert.deepEqual(makePicker(fields)(args), [null]);
  assert.deepEqual(makePicker(fields, true)(args), [`a b${"x".repeat(197)}`]);
});

test("nothing that is not declared is looked at", () => {
  const looked = /** @type {string[]} */ ([]);
  const event = new Proxy(
    { x: 1, secret: "content" },
    {
      get(target, key) {
        looked.push(String(key));
        return Reflect.get(target, key);
      },
    },
  );
  assert.equal(one("event.x", event), 1);
  assert.deepEqual(looked, ["x"]);
});
