// The webhook in a gateway with the built plugin: signed notices, retries, redirects, settings, the status's lines.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inWords } from "../../dist/pipeline.js";
import { WebhookServer } from "../e2e/webhook-server.mjs";
import { inFolder, Run, within } from "./faulty-receiver.mjs";
import { portOf } from "./upstream.mjs";
import { answer, Gateway, Receiver, SESSION } from "./world.mjs";

const SECRET = "MARKEDSECRET7Q";
const CONTENT = "MARKEDTOOL7Q";

/** @param {() => boolean} holds @param {string} what */
async function until(holds, what, ms = 20_000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(20)) if (holds()) return;
  assert.fail(`${what}: not within ${ms} ms`);
}

/** @param {Record<string, unknown>} config */
async function begin(config, gateway = new Gateway("none")) {
  const plugin = await gateway.evaluate();
  gateway.register(plugin, config);
  await gateway.start(gateway.services.length - 1);
  return gateway;
}

/** A tool fails again and again, each time after an answer of the model. @param {Gateway} gateway */
async function loop(gateway, calls = 10) {
  for (let call = 0; call < calls; call += 1) {
    gateway.emit("before_message_write", answer(100 + call), SESSION);
    const event = { toolName: "exec", toolCallId: `t${call}`, error: CONTENT, params: { command: CONTENT } };
    gateway.emit("after_tool_call", event, SESSION);
  }
}

/** The texts of all files in the plugin's folder. @param {Gateway} gateway */
function filesOf({ stateDir }) {
  const files = readdirSync(join(stateDir, "agentwatch"), { recursive: true, withFileTypes: true });
  const own = files.filter((file) => file.isFile());
  return own.map((file) => readFileSync(join(file.parentPath, file.name), "latin1")).join("\n");
}

test("an alarm reaches the webhook once it answers, signed, without content or secret", async () => {
  const [webhook, receiver] = [await WebhookServer.open(SECRET), await Receiver.open()];
  webhook.status = 500;
  const gateway = await begin({ url: receiver.url, webhook: { url: webhook.url, secret: SECRET } });
  try {
    await loop(gateway);
    await until(() => webhook.requests.length > 0, "a request");
    webhook.status = 200;
    await until(() => webhook.accepted.length > 0, "an accepted notice");
    await gateway.stop();
    assert.deepEqual(webhook.problems, []);
    assert.deepEqual(
      webhook.accepted.map(({ type, kind, tool }) => [type, kind, tool]),
      [["alarm_began", "tool_loop", "exec"]],
    );
    assert.equal(new Set(webhook.requests.map(({ notice }) => notice.id)).size, 1);
    const told = `${JSON.stringify(webhook.requests)}${gateway.log.join("\n")}${filesOf(gateway)}`;
    for (const mark of [SECRET, CONTENT]) assert.ok(!told.includes(mark), mark);
    assert.ok(gateway.log.some((line) => /^warn agentwatch: tool exec of agent main.* in a row$/.test(line)));
    const { status } = JSON.parse(readFileSync(join(gateway.stateDir, "agentwatch", "status.json"), "utf8"));
    const words = inWords({ owner: null, written_ms: null, status }, Date.now());
    assert.ok(
      words.some((line) => /^alarm {6}1 incident open, 1 alarm so far$/.test(line)),
      words.join("\n"),
    );
    assert.ok(words.some((line) => line.includes("open since") && line.includes("tool exec")));
    const { origin } = new URL(webhook.url);
    assert.ok(words.some((line) => line.startsWith(`webhook    ${origin}: 1 sent, 0 waiting`)));
  } finally {
    gateway.close();
    receiver.close();
    webhook.close();
  }
});

test("a webhook that hangs holds up no end, and gets its notice from the next process", async () => {
  await inFolder(async (folder) => {
    const webhook = await WebhookServer.open(SECRET);
    const hanging = createServer(() => {});
    await once(hanging.listen(0, "127.0.0.1"), "listening");
    const settings = (/** @type {string} */ url) => ({
      url: false,
      webhook: { url, secret: SECRET },
      allowance: [{ tokens: 1, per: "day", then: "warn" }],
    });
    try {
      const asked = once(hanging, "request");
      const run = new Run(folder, "", { settings: settings(`http://127.0.0.1:${portOf(hanging)}/`) });
      await run.pipeline.open();
      run.call(10);
      run.pipeline.drain();
      run.clock.pass(60_000);
      await within(asked, "the webhook is asked");
      const begun = performance.now();
      await run.end(200);
      assert.ok(performance.now() - begun < 3_000, `${performance.now() - begun} ms`);
      const next = new Run(folder, "", { settings: settings(webhook.url) });
      await next.pipeline.open();
      await until(() => webhook.accepted.length > 0, "an accepted notice");
      await next.end(200);
      assert.deepEqual(
        webhook.accepted.map(({ type, percent }) => [type, percent]),
        [["allowance", 100]],
      );
    } finally {
      webhook.close();
      hanging.closeAllConnections();
      hanging.close();
    }
  });
});

test("a redirect is not followed", async () => {
  const [webhook, elsewhere] = [await WebhookServer.open(SECRET), await WebhookServer.open(SECRET)];
  webhook.status = 307;
  webhook.headers = { location: elsewhere.url };
  const gateway = await begin({ url: false, webhook: { url: webhook.url, secret: SECRET } });
  try {
    await loop(gateway);
    await until(() => webhook.requests.length > 1, "two tries");
    await gateway.stop();
    assert.deepEqual(elsewhere.requests, []);
    assert.ok(gateway.log.some((line) => /webhook: .* redirects.*set webhook\.url/.test(line)));
  } finally {
    gateway.close();
    webhook.close();
    elsewhere.close();
  }
});

for (const [webhook, line] of /** @type {[unknown, RegExp][]} */ ([
  ["https://h/", /webhook has no url: set webhook\.url/],
  [
    { url: "http://elsewhere.example/x", secret: "s" },
    /webhook\.url is an http address of another machine: set it to/,
  ],
  [{ url: "https://h.example/x" }, /webhook has no secret.*set webhook\.secret/],
  [
    { url: "https://h.example/x", secret: { source: "env", provider: "default", id: "NOT_THERE" } },
    /webhook\.secret .*AGENTWATCH_WEBHOOK_SECRET/,
  ],
]))
  test(`webhook: ${JSON.stringify(webhook)}`, async () => {
    const gateway = await begin({ url: false, webhook });
    try {
      await until(() => gateway.log.some((text) => line.test(text)), `the line ${line}`);
      await gateway.stop();
    } finally {
      gateway.close();
    }
  });
