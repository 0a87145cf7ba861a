// A stopping gateway is not delayed by any receiver.
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { until } from "./faulty-receiver.mjs";
import { answer, SESSION, started } from "./world.mjs";

/** Time that a stopping gateway gives all plugins together, in ms. */
const BUDGET_MS = 2_000;
/** Number of stops: a busy machine may delay one. */
const TRIES = 3;

/**
 * The first of several stops that is within the budget, and in which a call that may be sent was sent.
 *
 * @param {Record<string, unknown>} config
 * @param {number} [sent] Number of calls that are to be sent.
 */
async function stopped(config, sent = 0) {
  for (let tries = 1; ; tries += 1) {
    const stop = await stoppedOnce(config);
    const calls = stop.totals["p/m"]?.requests ?? 0;
    if ((stop.took < BUDGET_MS && calls >= sent) || tries === TRIES) return stop;
    console.log(`stopping took ${Math.round(stop.took)} ms, and sent ${calls} calls: once more`);
  }
}

/** @param {Record<string, unknown>} config */
async function stoppedOnce(config) {
  const { gateway, receiver, close } = await started(config);
  try {
    gateway.emit("before_message_write", answer(5), SESSION);
    await nextTurn();
    const begun = performance.now();
    await gateway.stop();
    return { took: performance.now() - begun, log: gateway.log, totals: receiver.totals };
  } finally {
    close();
  }
}

test("a receiver gets pending calls", async () => {
  const { took, totals } = await stopped({}, 1);
  assert.equal(totals["p/m"]?.requests, 1);
  assert.ok(took < BUDGET_MS, `${took} ms`);
});

test("a receiver that refuses connections", async () => {
  const { took, log } = await stopped({ url: "http://127.0.0.1:9" });
  assert.ok(took < BUDGET_MS, `${took} ms`);
  assert.ok(
    log.some((line) => line.includes("1 call was not delivered")),
    log.join("\n"),
  );
  assert.ok(
    log.some((line) => line.includes("cannot be reached")),
    log.join("\n"),
  );
});

test("a receiver that accepts the connection and sends nothing", async () => {
  /** @type {import("node:net").Socket[]} */
  const sockets = [];
  const server = createServer((socket) => sockets.push(socket));
  const port = await new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve(/** @type {any} */ (server.address()).port)),
  );
  try {
    const { took, log } = await stopped({ url: `http://127.0.0.1:${port}` });
    assert.ok(took < BUDGET_MS, `${took} ms`);
    assert.ok(
      log.some((line) => line.includes("1 call was not delivered")),
      log.join("\n"),
    );
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
});

test("calls with diagnostic events only, while the gateway stops and before it starts again", async () => {
  const { gateway, receiver, close } = await started({}, "calls");
  try {
    let goOn = () => {};
    receiver.hold = new Promise((resolve) => {
      goOn = () => resolve(undefined);
    });
    gateway.emit("before_message_write", answer(5), SESSION);
    await nextTurn();
    const stopping = gateway.stop();
    await until(() => receiver.requests.length > 0, "the receiver to be asked");
    const usage = { input: 7, output: 1, cacheRead: 0, cacheWrite: 0, cost: { total: 0.5 } };
    const call = { provider: "p", model: "unheard", sessionKey: "agent:main:other", durationMs: 20, usage };
    gateway.tell({ type: "model.call.completed", ts: Date.now(), trace: { spanId: "a" }, ...call });
    goOn();
    await stopping;
    gateway.tell({
      type: "model.call.completed",
      ts: Date.now(),
      trace: { spanId: "b" },
      ...call,
      model: "between",
    });
    await gateway.start();
    assert.equal(gateway.listeners, 1);
    await gateway.sendAll();
    assert.equal(receiver.totals["p/unheard"]?.requests, 1);
    assert.equal(receiver.totals["p/between"]?.requests, 1);
    assert.equal(receiver.totals["p/m"]?.requests, 1);
  } finally {
    close();
  }
});

test("events that come while the plugin ends are counted by the next service", async () => {
  /** @type {import("node:net").Socket[]} */
  const sockets = [];
  const silent = createServer((socket) => sockets.push(socket));
  const port = await new Promise((resolve) =>
    silent.listen(0, "127.0.0.1", () => resolve(/** @type {any} */ (silent.address()).port)),
  );
  const { gateway, receiver, close } = await started({ otlp: { url: `http://127.0.0.1:${port}` } });
  try {
    let sent = 0;
    const send = () => gateway.emit("before_message_write", answer(10 + ++sent), SESSION);
    send();
    await until(() => receiver.totals["p/m"]?.requests === 1);
    let hasEnded = false;
    const stopping = gateway.stop().finally(() => {
      hasEnded = true;
    });
    while (!hasEnded) {
      send();
      await sleep(1);
    }
    await stopping;
    await gateway.start();
    await until(() => receiver.totals["p/m"]?.requests === sent);
    await gateway.stop();
  } finally {
    for (const socket of sockets) socket.destroy();
    silent.close();
    close();
  }
});
