// The plugin loaded as OpenClaw loads it: from copies of its folder, several times, with several registrations of each.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
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
  started,
} from "./world.mjs";

const VERSION = "2026.9.6";

/**
 * @param {(gateway: Gateway, numbers: number[]) => { hooks: number, service: number }} choose
 * @param {number} evaluations
 */
async function loaded(choose, evaluations = 3) {
  const receiver = await Receiver.open();
  const gateway = new Gateway("calls");
  try {
    const numbers = [];
    for (let evaluation = 0; evaluation < evaluations; evaluation += 1) {
      const plugin = await gateway.evaluate(`copy-${evaluation}`);
      for (const mode of ["full", "discovery", "discovery"])
        numbers.push(gateway.register(plugin, { url: receiver.url }, mode));
    }
    const { hooks, service } = choose(gateway, numbers);
    await gateway.start(service - 1);
    await gateway.replay(recorded(VERSION), { from: hooks });
    assert.equal(gateway.listeners, 1);
    await gateway.finish(service - 1);
    assertTotals(receiver.totals, providerTotals(VERSION));
    assert.equal(gateway.listeners, 1, "what is told between two services is heard");
    assert.equal((await gateway.status()).duplicates, 0);
  } finally {
    gateway.close();
    receiver.close();
  }
}

test("hooks from the last registration, service from the first", () =>
  loaded((_, numbers) => ({ hooks: numbers.length, service: 1 })));

test("hooks from the first registration, service from the last", () =>
  loaded((_, numbers) => ({ hooks: 1, service: numbers.length })));

test("hooks and service from different evaluations", () => loaded(() => ({ hooks: 5, service: 8 })));

test("one evaluation registered five times, as 2026.3.13 does", async () => {
  const receiver = await Receiver.open();
  const gateway = new Gateway("totals");
  try {
    const plugin = await gateway.evaluate();
    for (let times = 0; times < 5; times += 1) gateway.register(plugin, { url: receiver.url });
    await gateway.start(2);
    await gateway.replay(recorded("2026.3.13"), { from: 4 });
    await gateway.finish(2);
    assertTotals(receiver.totals, providerTotals("2026.3.13"));
  } finally {
    gateway.close();
    receiver.close();
  }
});

test("hooks of two registrations that are both called count once", async () => {
  const receiver = await Receiver.open();
  const gateway = new Gateway("calls");
  try {
    for (const copy of ["a", "b"]) gateway.register(await gateway.evaluate(copy), { url: receiver.url });
    await gateway.start(0);
    await gateway.start(1);
    assert.equal(gateway.listeners, 1);
    await gateway.replay(recorded(VERSION));
    await gateway.finish(0);
    assertTotals(receiver.totals, providerTotals(VERSION));
    assert.ok((await gateway.status()).duplicates > 20);
  } finally {
    gateway.close();
    receiver.close();
  }
});

test("events before the service starts are counted", async () => {
  const receiver = await Receiver.open();
  const gateway = new Gateway("none");
  try {
    gateway.register(await gateway.evaluate(), { url: receiver.url });
    await gateway.replay(recorded("2026.3.13"));
    await gateway.start();
    await gateway.finish();
    assertTotals(receiver.totals, providerTotals("2026.3.13"));
  } finally {
    gateway.close();
    receiver.close();
  }
});

test("a service uses its own files, also where another evaluation got the first event", async () => {
  const receiver = await Receiver.open();
  const gateway = new Gateway("calls");
  try {
    gateway.register(await gateway.evaluate("former"), { url: receiver.url });
    gateway.emit("before_message_write", answer(1, { timestamp: Date.now() }), SESSION);
    // 2026.9.6 loads a plugin from a copy, which it removes when it loads the plugin again.
    gateway.remove("former");
    gateway.register(await gateway.evaluate("next"), { url: receiver.url });
    await gateway.start(1);
    gateway.emit("before_message_write", answer(2, { timestamp: Date.now() }), SESSION, 2);
    await gateway.finish(1);
    assert.deepEqual(receiver.totals["p/m"]?.requests, 2);
  } finally {
    gateway.close();
    receiver.close();
  }
});

test("after a reload the recorder before it does nothing at the process's exit", async () => {
  const receiver = await Receiver.open();
  const gateway = new Gateway("calls");
  const exits = () => process.listenerCount("exit") + process.listenerCount("beforeExit");
  try {
    let before = 0;
    for (let evaluation = 0; evaluation < 4; evaluation += 1) {
      gateway.register(await gateway.evaluate(`reloaded-${evaluation}`), { url: receiver.url });
      await gateway.start(evaluation);
      gateway.emit("before_message_write", answer(evaluation + 1), SESSION, evaluation + 1);
      // The first one's includes those of the modules that are loaded once.
      if (evaluation === 1) before = exits();
      if (evaluation > 1) assert.equal(exits(), before);
    }
    await gateway.finish(3);
    assert.equal(receiver.totals["p/m"]?.requests, 4);
  } finally {
    gateway.close();
    receiver.close();
  }
});

test("registering loads no module, writes no file and sets no timer", async () => {
  const gateway = new Gateway("calls");
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
  // Timers of gateways of earlier tests may still run.
  await until(() => timers() === 0);
  try {
    const plugin = await gateway.evaluate();
    for (let times = 0; times < 500; times += 1) gateway.register(plugin, {});
    assert.deepEqual(await gateway.status(), {});
    assert.deepEqual(readdirSync(gateway.stateDir), []);
    assert.ok(existsSync(gateway.stateDir));
    assert.equal(timers(), 0);
  } finally {
    gateway.close();
  }
});

test("diagnostics are subscribed to by type, so the gateway copies no others", async () => {
  const gateway = new Gateway("calls");
  try {
    gateway.register(await gateway.evaluate(), {});
    await gateway.start();
    const told = new Set(recorded(VERSION).flatMap(({ diagnostic }) => diagnostic ?? []));
    const { include = [] } = gateway.filter ?? {};
    for (const type of ["model.call.completed", "model.call.error", "model.usage", "run.completed"]) {
      assert.ok(told.has(type));
      assert.ok(include.includes(type), type);
    }
    assert.ok(!include.includes("context.assembled"));
    await gateway.stop();
  } finally {
    gateway.close();
  }
});

test("before_message_write runs before every other plugin", async () => {
  const gateway = new Gateway("calls");
  try {
    gateway.register(await gateway.evaluate(), {});
    const priorities = (gateway.handlers.get("before_message_write") ?? []).map(({ priority }) => priority);
    assert.deepEqual(priorities, [Number.MAX_SAFE_INTEGER]);
  } finally {
    gateway.close();
  }
});

/** @typedef {{ sdk: import("./world.mjs").Sdk, enabled: boolean | undefined, asked: string[] }} Internal */
const ASKED = ["command", "session"];
/** Internal hooks are off by default up to 2026.3, and on from then on. @type {Internal[]} */
const INTERNAL = [
  { sdk: "totals", enabled: undefined, asked: [] },
  { sdk: "totals", enabled: true, asked: ASKED },
  { sdk: "totals", enabled: false, asked: [] },
  { sdk: "calls", enabled: undefined, asked: ASKED },
  { sdk: "calls", enabled: false, asked: [] },
];

for (const { sdk, enabled, asked } of INTERNAL)
  test(`internal hooks ${enabled ?? "not mentioned"}, ${sdk === "calls" ? "2026.9.6" : "2026.3.13"}`, async () => {
    const gateway = new Gateway(sdk);
    try {
      gateway.config = enabled === undefined ? {} : { hooks: { internal: { enabled } } };
      gateway.register(await gateway.evaluate(), {});
      assert.deepEqual(gateway.internal, asked);
    } finally {
      gateway.close();
    }
  });

test("a worker whose package was removed reads the session store", async () => {
  const { gateway, receiver, close } = await started();
  try {
    const begun = Date.now();
    await gateway.stop();
    setClock(begun + 200_000);
    await gateway.start();
    gateway.remove("one");
    const timestamp = begun + 100_000;
    const { message } = answer(7, { timestamp });
    const row = { type: "message", id: "e1", timestamp: new Date(timestamp).toISOString(), message };
    const sessions = join(gateway.stateDir, "agents", "main", "sessions");
    mkdirSync(sessions, { recursive: true });
    writeFileSync(join(sessions, "s1.jsonl"), `${JSON.stringify(row)}\n`);
    await until(() => receiver.totals["p/m"]?.prompt === 7);
    assert.ok(!gateway.log.some((line) => line.includes("could not be read")), gateway.log.join("\n"));
    await gateway.stop();
  } finally {
    close();
  }
});
