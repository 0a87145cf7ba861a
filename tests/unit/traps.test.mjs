// An instance of the module that traps is dead for ever. Whatever it was doing, the totals stay right.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { instantiate } from "../../dist/base.js";
import { until } from "./faulty-receiver.mjs";
import {
  answer,
  assertTotals,
  Gateway,
  providerTotals,
  Receiver,
  recorded,
  SESSION,
  setClock,
} from "./world.mjs";

/** `unreachable`, as a panic compiles to. */
const TRAP = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 116, 0, 0, 10, 5, 1, 3, 0, 0, 11,
]);

/** Exports of dead instances that were called nevertheless. @type {string[]} */
const calledDead = [];

const RealInstance = WebAssembly.Instance;

/** Every instance that was made. @type {{ exports: any, real: any, isDead: boolean }[]} */
const instances = [];
/**
 * Which exports trap: asked before and after each call. The pointer is the core's address in its module.
 *
 * @type {(name: string, when: "before" | "after", instance: object, pointer: unknown) => boolean}
 */
let traps = () => false;

function trap() {
  const { exports } = new RealInstance(new WebAssembly.Module(TRAP));
  /** @type {any} */ (exports).t();
}

/** The real instance, with exports that trap when told to. */
WebAssembly.Instance = /** @type {any} */ (
  class {
    /** @param {WebAssembly.Module} module @param {WebAssembly.Imports} imports */
    constructor(module, imports) {
      const real = new RealInstance(module, imports);
      const made = {
        exports: /** @type {Record<string, unknown>} */ ({}),
        real: real.exports,
        isDead: false,
      };
      for (const [name, value] of Object.entries(real.exports))
        made.exports[name] = typeof value === "function" ? guarded(made, name, value) : value;
      instances.push(made);
      Object.assign(this, { exports: made.exports });
    }
  }
);

/** @param {{ isDead: boolean }} instance @param {string} name @param {Function} real */
function guarded(instance, name, real) {
  return (/** @type {unknown[]} */ ...args) => {
    if (instance.isDead) {
      // The glue frees a result's text behind the call, within the same `try` of ours.
      if (name !== "__wbindgen_free") calledDead.push(name);
      trap();
    }
    if (name.startsWith("core_") && traps(name, "before", instance, args[0])) {
      instance.isDead = true;
      trap();
    }
    const result = real(...args);
    if (name.startsWith("core_") && traps(name, "after", instance, args[0])) {
      instance.isDead = true;
      trap();
    }
    return result;
  };
}

afterEach(() => {
  assert.deepEqual(calledDead.splice(0), [], "a dead instance is never called again");
  traps = () => false;
  instances.length = 0;
});

/** @param {(world: { gateway: Gateway, receiver: Receiver }) => Promise<void>} play @param {import("./world.mjs").Sdk} [sdk] */
async function inWorld(play, sdk = "calls") {
  const receiver = await Receiver.open();
  const gateway = new Gateway(sdk);
  try {
    gateway.register(await gateway.evaluate(), { url: receiver.url });
    await gateway.start();
    await play({ gateway, receiver });
  } finally {
    traps = () => false;
    gateway.close();
    receiver.close();
  }
}

/** Traps the n-th time that something is done. @param {string} wanted @param {"before" | "after"} moment @param {number} nth */
function trapAt(wanted, moment, nth) {
  let times = 0;
  traps = (name, when) => {
    if (name !== `core_${wanted}` || when !== moment) return false;
    times += 1;
    return times === nth;
  };
}

for (const wanted of ["give", "observe", "advance", "begin", "answered", "isKept", "flush"])
  for (const moment of /** @type {const} */ (["before", "after"]))
    test(`a trap ${moment} ${wanted} costs nothing`, async () => {
      for (const nth of [1, 2, 3]) {
        await inWorld(async ({ gateway, receiver }) => {
          trapAt(wanted, moment, nth);
          await gateway.replay(recorded("2026.9.6"), {
            // Answers come in the middle of it, as many as it takes.
            before: (index) => index % 50 === 49 && gateway.sendAll(),
          });
          await gateway.sendAll();
          await gateway.stop();
          const what = `${wanted}, ${moment}, time ${nth}`;
          assertTotals(receiver.totals, providerTotals("2026.9.6"), what);
          assert.equal((await gateway.status()).core_restarts, 1, what);
          assert.ok(
            gateway.log.some((line) => line.includes("restarted after a fault")),
            what,
          );
        });
      }
    });

test("no finalizer is left that would call into a dead instance", async () => {
  // Its exception would be nobody's, and end the gateway; when it runs is up to the garbage collector.
  const Real = globalThis.FinalizationRegistry;
  /** @type {string[]} */
  const made = [];
  globalThis.FinalizationRegistry = class extends Real {
    /** @param {(held: any) => void} cleanup */
    constructor(cleanup) {
      super(cleanup);
      made.push(new Error("made here").stack ?? "");
    }
  };
  try {
    await inWorld(async ({ gateway }) => {
      trapAt("observe", "before", 1);
      gateway.emit("before_message_write", answer(1), SESSION);
      await nextTurn();
      await until(async () => (await gateway.status()).core_restarts === 1);
    }, "none");
  } finally {
    globalThis.FinalizationRegistry = Real;
  }
  assert.deepEqual(
    made.filter((stack) => stack.includes("glue.js")),
    [],
  );
});

test("memory that is overwritten costs nothing", () =>
  inWorld(async ({ gateway, receiver }) => {
    await gateway.replay(recorded("2026.9.6"), {
      before: (index) => {
        const counting = instances.at(0);
        if (index === 40) new Uint8Array(counting?.exports.memory.buffer).fill(0xff);
      },
    });
    await gateway.sendAll();
    await gateway.stop();
    assertTotals(receiver.totals, providerTotals("2026.9.6"));
    assert.ok((await gateway.status()).core_restarts >= 1);
  }));

test("a trap while a batch is under way sends it again under its ids", () =>
  inWorld(async ({ gateway, receiver }) => {
    /** @type {() => void} */
    let release = () => {};
    receiver.hold = new Promise((resolve) => {
      release = resolve;
    });
    setClock(1_795_440_000_000);
    gateway.emit("before_message_write", answer(5), SESSION);
    await nextTurn();
    const isUnderWay = () => receiver.requests.some(({ path }) => path.endsWith("/batch"));
    const sending = gateway.sendAll();
    while (!isUnderWay()) await sleep(2);
    trapAt("observe", "after", 1);
    // Long after the first one was handed over, so that it is not gathered, however slow that was.
    setClock(1_795_440_100_000);
    gateway.emit("before_message_write", answer(6, { timestamp: 1_795_440_100_000 }), SESSION);
    await nextTurn();
    await until(async () => (await gateway.status()).core_restarts === 1);
    receiver.hold = undefined;
    release();
    await sending;
    await gateway.sendAll();
    await gateway.stop();
    assertTotals(receiver.totals, { "p/m": { requests: 2, prompt: 11, completion: 2, cost: 0.5 } });
  }, "none"));

test("an event at which every instance dies is dropped and counted, the others are not", () =>
  inWorld(async ({ gateway, receiver }) => {
    // The third event of the batch, in the first two instances that come to it.
    const seen = new Map();
    let deaths = 0;
    traps = (name, when, instance) => {
      if (name !== "core_observe" || when !== "before") return false;
      seen.set(instance, (seen.get(instance) ?? 0) + 1);
      if (seen.get(instance) !== 3 || deaths === 2) return false;
      deaths += 1;
      return true;
    };
    for (let index = 0; index < 5; index += 1)
      gateway.emit("before_message_write", answer(10 + index, { timestamp: Date.now() - index }), SESSION);
    await nextTurn();
    await gateway.sendAll();
    await gateway.stop();
    assert.equal(receiver.totals["p/m"]?.requests, 4);
    assert.equal((await gateway.status()).dropped_trap, 1);
    assert.equal((await gateway.status()).core_restarts, 2);
  }, "none"));

/** Where a panic was, as rustc names it; nothing else, since its message may quote what people wrote. */
const PLACE = /^[\w.-]+(\/[\w.-]+)*\.rs:\d+:\d+$/;

test("a panic is logged with its place alone, and costs nothing", () =>
  inWorld(async ({ gateway, receiver }) => {
    const Real = globalThis.Uint8Array;
    const panicked = () => gateway.log.filter((line) => line.includes("panicked"));
    // Asks the instance for something else in the middle of a call, when it hands out what is to be sent.
    traps = (name, when, instance, pointer) => {
      globalThis.Uint8Array = Real;
      if (name !== "core_begin" || when !== "before" || panicked().length > 0) return false;
      const { core_advance: advance } = /** @type {any} */ (instance).real;
      globalThis.Uint8Array = /** @type {any} */ (
        class extends Real {
          /** @param {...any} args */
          constructor(...args) {
            super(.../** @type {[any]} */ (args));
            globalThis.Uint8Array = Real;
            advance(pointer, Date.now(), 0);
          }
        }
      );
      return false;
    };
    try {
      await gateway.replay(recorded("2026.9.6"), {
        before: (index) => index % 50 === 49 && gateway.sendAll(),
      });
    } finally {
      globalThis.Uint8Array = Real;
    }
    await gateway.sendAll();
    await gateway.stop();
    assertTotals(receiver.totals, providerTotals("2026.9.6"));
    assert.equal((await gateway.status()).core_restarts, 1);
    const [line = "", ...rest] = panicked();
    assert.deepEqual(rest, [], gateway.log.join("\n"));
    const [, place = ""] = /^warn agentwatch: agentwatch\.wasm panicked at (.*)$/.exec(line) ?? [];
    assert.match(place, PLACE, line);
    assert.match(place, /^crate\/src\/bindings\/core\.rs:/);
  }));

test("a panic of an instance that reads foreign formats tells its place, too", () => {
  /** @type {string[]} */
  const log = [];
  const made = instances.length;
  const io = instantiate((/** @type {string} */ text) => log.push(text));
  const reader = new io.StoreReader(/** @type {any} */ ({}), "/", undefined, []);
  const { memory } = /** @type {any} */ (instances[made]?.exports);
  // One of its words says that somebody else writes to the reader; which one is the compiler's choice.
  const words = new Int32Array(memory.buffer, reader.__wbg_ptr & ~3, 2_000);
  const panics = words.some((before, at) => {
    words[at] = -(2 ** 31);
    try {
      reader.bytes();
    } catch {
      // The first word is wasm-bindgen's own, which throws an error of JavaScript.
    }
    words[at] = before;
    return log.length > 0;
  });
  assert.ok(panics);
  const [, place = ""] = /^agentwatch\.wasm panicked at (.*)$/.exec(log.join("\n")) ?? [];
  assert.match(place, PLACE, log.join("\n"));
});

test("repeated traps switch it off, loudly and without a throw", () =>
  inWorld(async ({ gateway }) => {
    traps = (name, when) => name === "core_observe" && when === "before";
    for (let index = 0; index < 50; index += 1) {
      // Events that come close together are handed over together.
      setClock(1_795_440_000_000 + index * 10_000);
      gateway.emit("before_message_write", answer(index), SESSION);
      await nextTurn();
    }
    await until(async () => (await gateway.status()).off);
    const loud = gateway.log.filter((line) => line.startsWith("warn") && line.includes("switched off"));
    assert.equal(loud.length, 1);
    const made = instances.length;
    gateway.emit("before_message_write", answer(1), SESSION);
    await nextTurn();
    assert.equal(instances.length, made, "no more instances are made");
    await gateway.stop();
  }, "none"));
