// Events whose getters throw: nothing is thrown to the gateway, memory stays bounded, and the next good event counts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { answer, assertTotals, SESSION, started } from "./world.mjs";

const EVENTS = 40_000;

/** The memories of all instances. @type {WebAssembly.Memory[]} */
const memories = [];
WebAssembly.Instance = class extends WebAssembly.Instance {
  /** @param {WebAssembly.Module} module @param {WebAssembly.Imports} imports */
  constructor(module, imports) {
    super(module, imports);
    memories.push(/** @type {WebAssembly.Memory} */ (this.exports.memory));
  }
};

/** Memory of all instances of the core, in bytes. */
function coreMemory() {
  return memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
}

/** The properties of a message that the core reads, each of which may throw. */
const PATHS = [
  "message",
  "message.role",
  "message.provider",
  "message.model",
  "message.usage",
  "message.usage.input",
  "message.usage.output",
  "message.usage.cost",
  "message.usage.cost.total",
  "message.stopReason",
  "message.responseId",
  "message.timestamp",
];

/** An event with one throwing getter. @param {string} path */
function throwing(path) {
  const event = answer(1);
  const keys = path.split(".");
  const last = /** @type {string} */ (keys.pop());
  const owner = keys.reduce((value, key) => /** @type {any} */ (value)[key], /** @type {any} */ (event));
  Object.defineProperty(owner, last, {
    get() {
      throw new Error(`no ${path}`);
    },
  });
  return event;
}

function revoked() {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

/** @param {number} index */
function hostile(index) {
  const path = PATHS[index % (PATHS.length + 2)];
  if (path) return throwing(path);
  return index % 2 ? revoked() : { message: revoked() };
}

test(`${EVENTS} events that throw, then a good one`, async () => {
  const { gateway, receiver, close } = await started();
  try {
    let used = 0;
    for (let index = 0; index < EVENTS; index += 1) {
      // Each in another session, so that none match. An event with unreadable usage is still a call.
      gateway.emit("before_message_write", hostile(index), index % 3 ? SESSION : revoked());
      // The worker is in this thread, and reads four times a second.
      if (index % 4_000 === 0) await sleep(300);
      if (index === EVENTS / 2) used = coreMemory();
    }
    await nextTurn();
    assert.ok(used > 0 && coreMemory() - used < 16e6, `memory grew from ${used} to ${coreMemory()}`);
    gateway.emit("before_message_write", answer(7, { model: "good" }), SESSION);
    await sleep(300);
    const status = await gateway.status();
    // Calls with unreadable usage are sent first; calls that a stop left are sent after the next start.
    for (let tries = 0; tries < 20 && !receiver.totals["p/good"]; tries += 1) {
      await gateway.stop();
      await gateway.start();
    }
    const good = Object.fromEntries(Object.entries(receiver.totals).filter(([model]) => model === "p/good"));
    assertTotals(good, { "p/good": { requests: 1, prompt: 7, completion: 1, cost: 0.25 } });
    assert.equal(status.core_restarts, 0);
    assert.equal(status.off, false);
    assert.equal(status.dropped_queue_full, 0);
    assert.ok(status.rejected["before_message_write: no_model"] > 1_000);
  } finally {
    close();
  }
});

test("every hook accepts arguments of any type", async () => {
  const { gateway, receiver, close } = await started();
  try {
    const strange = [
      undefined,
      null,
      0,
      Number.NaN,
      "",
      "\ud800",
      Symbol("s"),
      10n,
      [],
      () => {},
      Object.create(null),
      new Date(Number.NaN),
      revoked(),
      { message: null },
      { message: { role: "assistant", provider: "\ud800", model: "\udfff\ud800", usage: 10n } },
      { message: { role: "assistant", provider: "p", model: { toString: () => "m" } } },
      new Proxy({}, { get: () => revoked() }),
    ];
    for (const hook of gateway.handlers.keys()) {
      if (hook === "gateway_stop") continue;
      for (const event of strange) for (const ctx of strange) gateway.emit(hook, event, ctx);
      await nextTurn();
    }
    gateway.emit("before_message_write", answer(7, { model: "good" }), SESSION);
    await nextTurn();
    await gateway.finish();
    assert.equal(receiver.totals["p/good"]?.requests, 1);
    assert.equal((await gateway.status()).core_restarts, 0);
  } finally {
    close();
  }
});

test("the event is not changed", async () => {
  const { gateway, close } = await started();
  try {
    const event = Object.freeze(answer(7));
    const before = JSON.stringify(event);
    gateway.emit("before_message_write", event, Object.freeze({ ...SESSION }));
    assert.equal(JSON.stringify(event), before);
  } finally {
    close();
  }
});
