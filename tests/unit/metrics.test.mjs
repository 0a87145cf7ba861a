// The plugin's own /metrics: who serves it, on which port, and how it ends.
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { hostname } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Metrics } from "../../dist/pipeline.js";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { answer, Gateway, Receiver, SESSION } from "./world.mjs";

/** A port on which another program listens. */
async function occupied() {
  const server = createServer((_, response) => response.end("another program"));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { server, port };
}

/** The text at a port; undefined where nobody answers as the plugin does. @param {number} port */
async function scraped(port) {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`).catch(() => undefined);
  const text = await response?.text();
  return text?.includes("agentwatch_plugin_info") ? text : undefined;
}

/** A sample's value. @param {string | undefined} text @param {string} sample the name with its labels, or a part of them */
const value = (text, sample) => {
  const line = text?.split("\n").find((one) => !one.startsWith("#") && one.includes(sample));
  return line === undefined ? undefined : Number(line.split(" ").at(-1));
};

/** @template T @param {() => Promise<T | undefined> | T | undefined} look @param {string} what @returns {Promise<T>} */
async function until(look, what, ms = 20_000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(50)) {
    const found = await look();
    if (found) return found;
  }
  return assert.fail(`${what}: not within ${ms} ms`);
}

const COMPLETED =
  'agentwatch_requests_total{gateway="berlin",agent="main",provider="p",model="p/m",outcome="completed"}';

test("the owner serves its calls, a reload takes the port over, and the end frees it", async () => {
  const receiver = await Receiver.open();
  const metricsPort = await freePort();
  const gateway = new Gateway("none");
  try {
    const plugin = await gateway.evaluate();
    const config = { url: receiver.url, gateway: "berlin", metricsPort };
    gateway.register(plugin, config);
    await gateway.start();
    gateway.emit("before_message_write", answer(100), SESSION);
    const text = await until(async () => {
      const text = await scraped(metricsPort);
      return value(text, COMPLETED) === 1 ? text : undefined;
    }, "the call");
    assert.equal(value(text, 'kind="input"'), 100);
    assert.deepEqual((await gateway.status()).metrics, { url: `http://127.0.0.1:${metricsPort}/metrics` });
    // As OpenClaw reloads a plugin: another evaluation starts before the former one's files are gone.
    const reloaded = await gateway.evaluate("two");
    gateway.register(reloaded, config);
    await gateway.start(gateway.services.length - 1);
    gateway.emit("before_message_write", answer(200), SESSION);
    await until(async () => value(await scraped(metricsPort), COMPLETED) === 1, "the reloaded plugin's call");
    await gateway.stop(gateway.services.length - 1);
    assert.equal(await scraped(metricsPort), undefined);
    assert.deepEqual(
      gateway.log.filter((line) => line.startsWith("warn")),
      [],
    );
  } finally {
    gateway.close();
    receiver.close();
  }
});

test("a port that is set after the package's files are gone is served", async () => {
  const receiver = await Receiver.open();
  const metricsPort = await freePort();
  const gateway = new Gateway("none");
  try {
    const config = { url: receiver.url };
    const plugin = await gateway.evaluate("removed");
    gateway.register(plugin, config);
    await gateway.start();
    gateway.emit("before_message_write", answer(100), SESSION);
    await until(() => receiver.totals["p/m"]?.requests === 1, "the delivery");
    gateway.remove("removed");
    // As OpenClaw reloads a plugin: the service of another evaluation begins before the former one ends.
    gateway.register(await gateway.evaluate("next"), { ...config, metricsPort });
    await gateway.start(1);
    await until(() => scraped(metricsPort), "the metrics");
    await gateway.stop(1);
    assert.deepEqual(
      gateway.log.filter((line) => line.startsWith("warn")),
      [],
    );
  } finally {
    gateway.close();
    receiver.close();
  }
});

test("a taken port is named, everything else goes on, and the port is used once it is free", async () => {
  const receiver = await Receiver.open();
  const { server, port: metricsPort } = await occupied();
  const gateway = new Gateway("none");
  try {
    gateway.register(await gateway.evaluate(), { url: receiver.url, metricsPort });
    await gateway.start();
    gateway.emit("before_message_write", answer(100), SESSION);
    await until(() => receiver.totals["p/m"]?.requests === 1, "the delivery");
    const named = () => gateway.log.filter((line) => line.startsWith("warn") && line.includes("metricsPort"));
    await until(() => named().length > 0, "the warning");
    assert.match(
      named()[0] ?? "",
      new RegExp(
        `metricsPort ${metricsPort}: another gateway or program listens on 127.0.0.1:${metricsPort}; set another`,
      ),
    );
    assert.match((await gateway.status()).metrics.problem, /another gateway or program/);
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
    await until(() => scraped(metricsPort), "the metrics");
    assert.equal(named().length, 1);
    await gateway.stop();
  } finally {
    server.close();
    gateway.close();
    receiver.close();
  }
});

/** When the port is set: with the settings of the worker's start, or in a worker that runs. */
const SET = { "from the start": true, "in a running worker": false };

for (const [when, isFirst] of Object.entries(SET))
  test(`a port that is set ${when} is served by the journal's next owner, whose package's files are gone`, async () => {
    const receiver = await Receiver.open();
    const metricsPort = await freePort();
    const gateway = new Gateway("none");
    const folder = join(gateway.stateDir, "agentwatch");
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const owner = { pid: process.ppid, host: hostname(), started: 1, token: "another", role: "gateway" };
    writeFileSync(join(folder, "owner.json"), JSON.stringify(owner), { mode: 0o600 });
    try {
      const plugin = await gateway.evaluate("removed");
      const config = { url: receiver.url };
      if (!isFirst) {
        gateway.register(plugin, config);
        await gateway.start();
      }
      gateway.register(plugin, { ...config, metricsPort });
      await gateway.start();
      assert.equal((await gateway.status()).standing, "spool");
      await sleep(2_500);
      assert.equal(await scraped(metricsPort), undefined);
      // As 2026.9.6 does when it loads the plugin again.
      gateway.remove("removed");
      rmSync(join(folder, "owner.json"));
      await until(() => scraped(metricsPort), "the metrics of the new owner");
      await gateway.stop();
      assert.deepEqual(
        gateway.log.filter((line) => line.startsWith("warn")),
        [],
      );
    } finally {
      gateway.close();
      receiver.close();
    }
  });

test("only /metrics is answered, to reading methods, and a changed port moves the server", async () => {
  let port = await freePort();
  let text = /** @type {string | undefined} */ ("agentwatch_plugin_info 1\n");
  const log = { info: () => {}, warn: (/** @type {string} */ said) => assert.fail(said) };
  const metrics = new Metrics({ port: () => port, text: () => text, log, mono: () => performance.now() });
  try {
    metrics.start();
    await until(() => scraped(port), "the metrics");
    const ask = async (/** @type {string} */ path, /** @type {string} */ method) =>
      (await fetch(`http://127.0.0.1:${port}${path}`, { method })).status;
    assert.deepEqual(
      [
        await ask("/metrics?x=1", "GET"),
        await ask("/metrics", "HEAD"),
        await ask("/", "GET"),
        await ask("/metrics", "POST"),
      ],
      [200, 200, 404, 405],
    );
    text = undefined;
    assert.equal(await ask("/metrics", "GET"), 503);
    text = "agentwatch_plugin_info 1\n";
    const before = port;
    port = await freePort();
    metrics.look();
    await until(() => scraped(port), "the metrics at the other port");
    assert.equal(await scraped(before), undefined);
  } finally {
    await metrics.close();
  }
  assert.equal(await scraped(port), undefined);
});
