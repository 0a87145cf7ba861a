// An instance that trapped cannot be used again. A trap in any call leaves the totals right.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { instantiate, priceTable } from "../../dist/base.js";
import { Pipeline } from "../../dist/pipeline.js";
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

/** The error of `unreachable`, to which a panic compiles. */
const TRAP = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 116, 0, 0, 10, 5, 1, 3, 0, 0, 11,
]);

/** Exports that were called on an instance that had trapped. @type {string[]} */
const calledDead = [];

const RealInstance = WebAssembly.Instance;

/** All instances. @type {{ exports: any, real: any, isDead: boolean }[]} */
const instances = [];
/**
 * Decides before and after each call whether it traps. The pointer is the engine's address in its module.
 *
 * @type {(name: string, when: "before" | "after", instance: object, pointer: unknown) => boolean}
 */
let traps = () => false;

function trap() {
  const { exports } = new RealInstance(new WebAssembly.Module(TRAP));
  /** @type {any} */ (exports).t();
}

/** The real instance, with exports that trap on demand. */
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
      // The glue frees a result's text after the call, within the caller's `try`.
      if (name !== "__wbindgen_free") calledDead.push(name);
      trap();
    }
    if (name.startsWith("engine_") && traps(name, "before", instance, args[0])) {
      instance.isDead = true;
      trap();
    }
    const result = real(...args);
    if (name.startsWith("engine_") && traps(name, "after", instance, args[0])) {
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

/** Traps at the n-th call of an export. @param {string} wanted @param {"before" | "after"} moment @param {number} nth */
function trapAt(wanted, moment, nth) {
  let times = 0;
  traps = (name, when) => {
    if (name !== `engine_${wanted}` || when !== moment) return false;
    times += 1;
    return times === nth;
  };
}

for (const wanted of ["give", "observe", "advance", "begin", "answered", "isKept", "flushAll"])
  for (const moment of /** @type {const} */ (["before", "after"]))
    test(`a trap ${moment} ${wanted} costs nothing`, async () => {
      for (const nth of [1, 2, 3]) {
        await inWorld(async ({ gateway, receiver }) => {
          trapAt(wanted, moment, nth);
          await gateway.replay(recorded("2026.9.6"), {
            // Answers arrive meanwhile.
            before: (index) => index % 50 === 49 && gateway.sendAll(),
          });
          await gateway.finish();
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

test("a trap while an engine reads the journal costs nothing", async () => {
  // The first engine, and the one that follows an engine that trapped.
  for (const { traps: trapping, restarts } of [
    { traps: ["join"], restarts: 1 },
    { traps: ["observe", "join"], restarts: 2 },
  ]) {
    const left = [...trapping];
    traps = (name, when) => when === "before" && name === `engine_${left[0]}` && left.shift() !== undefined;
    await inWorld(async ({ gateway, receiver }) => {
      await gateway.replay(recorded("2026.9.6"));
      await gateway.finish();
      assertTotals(receiver.totals, providerTotals("2026.9.6"), trapping.join(", "));
      assert.equal((await gateway.status()).core_restarts, restarts);
      assert.ok(gateway.log.some((line) => line.includes("restarted after a fault")));
    });
  }
});

test("an engine that takes long to fail is not made for ever", () => {
  let mono = 0;
  /** @type {string[]} */
  const log = [];
  const host = {
    instantiate: () => {
      mono += 20_000;
      throw new Error("out of memory");
    },
    priceTable,
    log: { info: () => {}, warn: (/** @type {string} */ text) => log.push(text) },
    wall: () => Date.now(),
    mono: () => mono,
  };
  new Pipeline(host, {}).start();
  assert.match(log.join(), /^switched off after repeated faults \(Error: out of memory\)/);
});

test("no finalizer calls into an instance that trapped", async () => {
  // Its exception would be uncaught and end the gateway, at a time that the garbage collector chooses.
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
    await gateway.finish();
    assertTotals(receiver.totals, providerTotals("2026.9.6"));
    assert.ok((await gateway.status()).core_restarts >= 1);
  }));

test("a batch that is being sent during a trap is sent again under its ids", () =>
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
    await until(isUnderWay);
    trapAt("observe", "after", 1);
    // Long after the first event was passed, so that both are not of one span.
    setClock(1_795_440_100_000);
    gateway.emit("before_message_write", answer(6, { timestamp: 1_795_440_100_000 }), SESSION);
    await nextTurn();
    await until(async () => (await gateway.status()).core_restarts === 1);
    receiver.hold = undefined;
    release();
    await sending;
    await gateway.finish();
    assertTotals(receiver.totals, { "p/m": { requests: 2, prompt: 11, completion: 2, cost: 0.5 } });
  }, "none"));

test("an event at which every instance traps is dropped and counted, the others are not", () =>
  inWorld(async ({ gateway, receiver }) => {
    // The third event of the batch, in the first two instances that read it.
    const seen = new Map();
    let deaths = 0;
    traps = (name, when, instance) => {
      if (name !== "engine_observe" || when !== "before") return false;
      seen.set(instance, (seen.get(instance) ?? 0) + 1);
      if (seen.get(instance) !== 3 || deaths === 2) return false;
      deaths += 1;
      return true;
    };
    for (let index = 0; index < 5; index += 1)
      gateway.emit("before_message_write", answer(10 + index, { timestamp: Date.now() - index }), SESSION);
    await nextTurn();
    await gateway.finish();
    assert.equal(receiver.totals["p/m"]?.requests, 4);
    assert.equal((await gateway.status()).dropped_trap, 1);
    assert.equal((await gateway.status()).core_restarts, 2);
  }, "none"));

/** The location of a panic, as rustc names it, without its message, which may quote content. */
const PLACE = /^[\w.-]+(\/[\w.-]+)*\.rs:\d+:\d+$/;

test("a panic is logged with its location only, and loses nothing", () =>
  inWorld(async ({ gateway, receiver }) => {
    const Real = globalThis.Uint8Array;
    const panicked = () => gateway.log.filter((line) => line.includes("panicked"));
    // Calls the instance again in the middle of a call.
    traps = (name, when, instance, pointer) => {
      globalThis.Uint8Array = Real;
      if (name !== "engine_begin" || when !== "before" || panicked().length > 0) return false;
      const { engine_advance: advance } = /** @type {any} */ (instance).real;
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
    await gateway.finish();
    assertTotals(receiver.totals, providerTotals("2026.9.6"));
    assert.equal((await gateway.status()).core_restarts, 1);
    const [line = "", ...rest] = panicked();
    assert.deepEqual(rest, [], gateway.log.join("\n"));
    const [, place = ""] = /^warn agentwatch: agentwatch\.wasm panicked at (.*)$/.exec(line) ?? [];
    assert.match(place, PLACE, line);
    assert.match(place, /^crate\/src\/bindings\/engine\.rs:/);
  }));

test("a panic of an instance that reads foreign formats is logged with its location too", () => {
  /** @type {string[]} */
  const log = [];
  const made = instances.length;
  const io = instantiate((/** @type {string} */ text) => log.push(text));
  const reader = new io.StoreReader(/** @type {any} */ ({}), "/", undefined, []);
  const { memory } = /** @type {any} */ (instances[made]?.exports);
  // One of its words marks the reader as borrowed; the compiler chooses which.
  const words = new Int32Array(memory.buffer, reader.__wbg_ptr & ~3, 2_000);
  const panics = words.some((before, at) => {
    words[at] = -(2 ** 31);
    try {
      reader.bytes();
    } catch {
      // The first word is wasm-bindgen's own, which throws a JavaScript error.
    }
    words[at] = before;
    return log.length > 0;
  });
  assert.ok(panics);
  const [, place = ""] = /^agentwatch\.wasm panicked at (.*)$/.exec(log.join("\n")) ?? [];
  assert.match(place, PLACE, log.join("\n"));
});

test("repeated traps switch the pipeline off, with a log line and without an exception", () =>
  inWorld(async ({ gateway }) => {
    traps = (name, when) => name === "engine_observe" && when === "before";
    for (let index = 0; index < 50; index += 1) {
      // Events of one tick are passed together.
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
