// The values of an event that cross into the module.
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { namesOf, Pack, UNREADABLE } from "../../dist/base.js";
import { pickersOf } from "../../scripts/lib/pickers.mjs";

const folder = mkdtempSync(join(tmpdir(), "agentwatch-pickers-"));
Object.assign(globalThis, { unreadable: UNREADABLE, namesOf });
let made = 0;

/** The values of a pack, as `crate/src/bindings/packed.rs` reads them. @param {Pack} pack */
function unpacked({ numbers, texts }) {
  let [at, textAt] = [3, 0];
  /** @returns {any} */
  const value = () => {
    const kind = numbers[at++];
    if (kind === 3) return numbers[at++];
    if (kind === 4) {
      const text = texts.slice(textAt, textAt + numbers[at]);
      textAt += numbers[at++] + 1;
      return text;
    }
    if (kind === 5) return list();
    return [null, false, true][kind];
  };
  const list = () => Array.from({ length: numbers[at++] }, value);
  const facts = list();
  assert.equal(at, numbers.length);
  assert.equal(textAt, texts.length);
  return facts;
}

/** The picker that the build makes for a table. @param {any} table */
async function makePicker(table, hasPreviews = false) {
  made += 1;
  const file = join(folder, `${made}.mjs`);
  const text = pickersOf(JSON.stringify([table]));
  writeFileSync(
    file,
    text.replace(/import .* from ".\/pack.js";/, "const UNREADABLE = globalThis.unreadable;"),
  );
  const { SOURCES } = await import(pathToFileURL(file).href);
  const pack = new Pack();
  pack.hasPreviews = hasPreviews;
  return (/** @type {unknown[]} */ [event, ctx]) =>
    SOURCES.s[0].pick(event, ctx, pack, 1, 2) ? unpacked(pack) : undefined;
}

/** @param {Record<string, string>} paths @param {object} [more] */
function table(paths, more = {}) {
  const fields = Object.entries(paths).map(([name, path]) => ({ name, path }));
  return { source: "s", only: null, fields, list: null, ...more };
}

/** The one field's value. @param {string} path @param {unknown[]} args */
async function one(path, ...args) {
  return (await makePicker(table({ field: path })))(args)?.[0];
}

test("a path starts at the handler's first argument, event, or its second, ctx", async () => {
  const picked = (await makePicker(table({ a: "event.a.b", b: "ctx.c" })))([{ a: { b: 1 } }, { c: "two" }]);
  assert.deepEqual(picked, [1, "two"]);
});

test("scalars cross as they are", async () => {
  for (const value of ["text", "", 0, -1, 1e308, true, false])
    assert.equal(await one("event.x", { x: value }), value);
  assert.ok(Number.isNaN(await one("event.x", { x: Number.NaN })));
});

test("a missing, undefined or null value is null", async () => {
  for (const event of [{}, { x: undefined }, { x: null }, null, undefined, 5, "text"])
    assert.equal(await one("event.x.y", event), null);
});

test("a value that is no scalar is an empty list: present, and unusable", async () => {
  for (const value of [{}, [], [1], () => {}, 10n, Symbol("s"), new Date(0)])
    assert.deepEqual(await one("event.x", { x: value }), []);
});

test("a getter that throws is an empty list, and the other fields cross", async () => {
  const event = {
    get bad() {
      throw new Error("no");
    },
    good: 7,
  };
  assert.deepEqual((await makePicker(table({ bad: "event.bad.deep", good: "event.good" })))([event]), [
    [],
    7,
  ]);
});

test("the first alternative with a value is used", async () => {
  assert.equal(await one("event.a|event.b|ctx.c", { b: "second" }, { c: "third" }), "second");
  assert.equal(await one("event.a|ctx.c", { a: 0 }, { c: 1 }), 0);
  assert.equal(await one("event.a|event.b", {}), null);
});

test("each field is read once", async () => {
  let reads = 0;
  const event = {
    get x() {
      reads += 1;
      return "x";
    },
  };
  assert.equal(await one("event.x", event), "x");
  assert.equal(reads, 1);
});

test("a long text is cut at 1,024 UTF-16 units", async () => {
  assert.equal(await one("event.x", { x: "x".repeat(1024) }), "x".repeat(1024));
  assert.equal(await one("event.x", { x: "x".repeat(1_000_000) }), "x".repeat(1024));
});

test("an event whose only-field has another value is not of the source", async () => {
  const pick = await makePicker(table({ field: "event.x" }, { only: ["event.role", "assistant"] }));
  assert.deepEqual(pick([{ role: "assistant", x: 1 }]), [1]);
  for (const role of ["user", undefined, null, 1, {}]) assert.equal(pick([{ role, x: 1 }]), undefined);
  const hostile = {
    get role() {
      throw new Error("no");
    },
  };
  assert.equal(pick([hostile]), undefined);
});

test("a list's entries cross as rows, up to a bound", async () => {
  const list = { path: "event.items|event.more.items", max: 3, fields: [{ name: "n", path: "n" }] };
  const pick = await makePicker(table({ key: "event.key", items: "" }, { list }));
  const items = [1, 2, 3, 4, 5].map((n) => ({ n }));
  assert.deepEqual(pick([{ key: "k", items }]), ["k", [[1], [2], [3]]]);
  assert.deepEqual(pick([{ key: "k", more: { items: items.slice(0, 1) } }]), ["k", [[1]]]);
  for (const odd of [undefined, null, "text", 5, {}])
    assert.deepEqual(pick([{ key: "k", items: odd }]), ["k", []]);
  assert.deepEqual(pick([{ key: "k", items: [null, 5, { n: {} }] }]), ["k", [[null], [null], [[]]]]);
});

test("noise is a flag, and the text does not cross", async () => {
  for (const text of [
    "HEARTBEAT_OK",
    " no_reply\n",
    "Read HEARTBEAT.md if it exists",
    "",
    "  ",
    undefined,
    5,
  ])
    assert.equal(await one("noise:event.text", { text }), true, String(text));
  for (const text of ["hello", "HEARTBEAT_OK, and more", "say NO_REPLY"])
    assert.equal(await one("noise:event.text", { text }), false, text);
});

test("a preview crosses only where the setting is on, and is short", async () => {
  const fields = table({ field: "preview:event.text" });
  const args = [{ text: `a\nb${"x".repeat(500)}` }];
  assert.deepEqual((await makePicker(fields))(args), [null]);
  assert.deepEqual((await makePicker(fields, true))(args), [`a b${"x".repeat(197)}`]);
});

test("only declared properties are read", async () => {
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
  assert.equal(await one("event.x", event), 1);
  assert.deepEqual(looked, ["x"]);
});

/** The crossed values of a usage object. @param {string[]} names @param {unknown} usage */
async function usage(names, usage) {
  const fields = [{ name: "usage", path: "usage:event.usage", names }];
  const pick = await makePicker({ source: "s", only: null, fields, list: null });
  return pick([{ usage }])?.[0];
}

test("the named values of a usage object cross, each behind its name's number", async () => {
  const names = ["input", "cost.total", "details.cached", "parts[]", "details"];
  assert.deepEqual(
    await usage(names, { x: 9, input: 7, cost: { total: 0.5, input: 1 }, output: 3 }),
    [0, 7, 1, 0.5],
  );
  assert.deepEqual(await usage(names, { details: { cached: "12" }, input: null }), [2, "12"]);
  assert.deepEqual(await usage(names, { details: 4 }), [4, 4]);
  assert.deepEqual(await usage(names, { input: {}, cost: [1] }), [0, []]);
  for (const none of [undefined, null, 5, "text", true]) assert.equal(await usage(names, none), null);
});

test("the usages in a usage's list cross between two marks, without lists of their own", async () => {
  const parts = [{ input: 1, parts: [{ input: 9 }] }, "text", null, { details: { cached: 2 } }];
  const expected = [0, 7, 1, true, 0, 1, 1, false, 1, true, 2, 2, 1, false];
  assert.deepEqual(await usage(["input", "parts[]", "details.cached"], { input: 7, parts }), expected);
  const many = Array.from({ length: 1_000 }, () => ({ input: 1 }));
  assert.equal((await usage(["parts[]", "input"], { parts: many })).length, 32 * 6);
  assert.deepEqual(await usage(["parts[]"], { parts: { length: 5 } }), []);
});

test("a throwing getter of a usage object costs that value only", async () => {
  const bad = {
    input: 7,
    get output() {
      throw new Error("no");
    },
    cache: 3,
  };
  assert.deepEqual(await usage(["input", "output", "cache"], bad), [0, 7, 1, [], 2, 3]);
  const hostile = new Proxy(
    {},
    {
      ownKeys() {
        throw new Error("no");
      },
    },
  );
  assert.deepEqual(await usage(["input"], hostile), []);
  const endless = Object.fromEntries(Array.from({ length: 100_000 }, (_, index) => [`x${index}`, index]));
  assert.deepEqual(await usage(["input"], { ...endless, input: 1 }), []);
  assert.deepEqual(await usage(["constructor", "__proto__"], { input: 1 }), []);
  const parts = [{ input: 1 }, null, { input: 2 }];
  Object.defineProperty(parts, 1, { get: () => assert.fail("no") });
  const read = [0, 7, 1, true, 0, 1, 1, false, 1, true, 1, false, 1, true, 0, 2, 1, false];
  assert.deepEqual(await usage(["input", "parts[]"], { input: 7, parts }), read);
});
