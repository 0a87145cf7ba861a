// Settings: an invalid one is logged with its mend, and the token never.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { answer, Gateway, SESSION, started } from "./world.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/** Setting, invalid value, expected log line. @type {[string, unknown, RegExp][]} */
const WRONG = [
  ["url", "watch.example.com", /url does not start with http.*set it to an address such as http/],
  [
    "url",
    "http://user:pass@host",
    /url "http:\/\/host" holds credentials \(use the setting token\).*set it to/,
  ],
  ["url", 8470, /url is not a text; set it to an address such as http/],
  ["flushIntervalMs", 1, /flushIntervalMs cannot be 1; set it between 50 and 60000/],
  ["flushIntervalMs", "soon", /flushIntervalMs cannot be .*; set it between 50 and 60000/],
  ["modelName", "short", /modelName "short" is not one of full, bare/],
  ["identities", true, /identities .* is not one of hashed, plain/],
  [
    "allowance",
    [{ usd: 20, per: "week", then: "stop" }],
    /allowance\[0\]\.per "week" is not one of hour, day, month/,
  ],
  [
    "allowance",
    [{ usd: 20, per: "day", then: "stop", zone: "Mars/Olympus" }],
    /allowance\[0\]\.zone "Mars\/Olympus" is no zone that is known; give an IANA name/,
  ],
  ["allowance", 20, /allowance is no list; set it to/],
  ["token", "two words", /token holds characters that no header takes; copy it again/],
];

for (const [setting, value, line] of WRONG)
  test(`${setting}: ${JSON.stringify(value)}`, async () => {
    const { gateway, close } = await started({ [setting]: value });
    try {
      gateway.emit("before_message_write", answer(1), SESSION);
      await nextTurn();
      assert.ok(
        gateway.log.some((text) => text.startsWith("warn agentwatch: ") && line.test(text)),
        gateway.log.join("\n"),
      );
      await gateway.stop();
    } finally {
      close();
    }
  });

test("a header of the collector may have a name of Object.prototype", async () => {
  const { withSecrets } = await import(new URL("../../dist/plugin.js", import.meta.url).href);
  const headers = JSON.parse('{"__proto__": "a", "constructor": "b"}');
  const { settings, problems } = await withSecrets({ otlp: { headers } }, undefined);
  assert.deepEqual(Object.entries(settings.otlp.headers), Object.entries(headers));
  assert.deepEqual(problems, []);
});

/** Documents with settings of the plugin in their first JSON block, alone or in OpenClaw's configuration. */
const DOCUMENTED = ["allowances", "cost", "incidents", "monitoring", "opentelemetry"];

for (const page of DOCUMENTED)
  test(`the settings of docs/${page}.md are read without a problem`, async () => {
    const text = readFileSync(join(PROJECT, "docs", `${page}.md`), "utf8");
    const json = /^```json\n(.*?)^```/ms.exec(text)?.[1] ?? "";
    const block = JSON.parse(json.startsWith("{") ? json : `{${json}}`);
    const entry = block.plugins?.entries.agentwatch ?? { config: block };
    const { url: _, ...settings } = entry.config;
    if (settings.metricsPort) settings.metricsPort = await freePort();
    const { gateway, close } = await started(settings);
    try {
      const { allowances = [] } = await gateway.status();
      await gateway.stop();
      assert.deepEqual(
        gateway.log.filter((line) => /^(warn|error) /.test(line)),
        [],
      );
      // Each allowance holds, with all of its fields.
      for (const [index, given] of (settings.allowance ?? []).entries()) {
        const { usd, tokens, ...others } = given;
        const held = { ...others, limit: usd ?? tokens, unit: usd ? "usd" : "tokens" };
        assert.deepEqual({ ...allowances[index], ...held }, allowances[index]);
      }
      assert.equal(allowances.length, settings.allowance?.length ?? 0);
    } finally {
      close();
    }
  });

test("with an unusable url nothing is sent", async () => {
  const { gateway, close } = await started({ url: "nowhere" });
  const { fetch } = globalThis;
  let fetched = 0;
  globalThis.fetch = async (...args) => {
    fetched += 1;
    return fetch(...args);
  };
  try {
    gateway.emit("before_message_write", answer(1), SESSION);
    await nextTurn();
    await gateway.stop();
    assert.equal(fetched, 0);
    assert.ok(gateway.log.some((line) => line.includes("sending nowhere, as url is unusable")));
  } finally {
    globalThis.fetch = fetch;
    close();
  }
});

test("url: false with /metrics sends no calls, and nothing is wrong with it", async () => {
  const { gateway, close } = await started({ url: false, metricsPort: await freePort() });
  try {
    assert.ok(gateway.log.some((text) => text.endsWith("sending no calls, as url is false")));
    assert.ok(!gateway.log.some((text) => text.includes("set one of them")));
    await gateway.stop();
  } finally {
    close();
  }
});

test("url: false without a collector is logged", async () => {
  const { gateway, close } = await started({ url: false });
  try {
    const line =
      "url is false, and there is no otlp, metricsPort or webhook, so nothing is sent anywhere: set one of them";
    assert.ok(
      gateway.log.some((text) => text.endsWith(line)),
      gateway.log.join("\n"),
    );
    assert.equal((await gateway.status()).url, false);
    await gateway.stop();
  } finally {
    close();
  }
});

test("an unknown setting and an unresolvable token are logged, with their mend", async () => {
  const token = { source: "env", provider: "default", id: "X" };
  const { gateway, receiver, close } = await started({ token, agentname: "x" });
  try {
    const log = gateway.log.join("\n");
    assert.match(log, /warn agentwatch: unknown setting "agentname": did you mean "agentName"\?/);
    assert.match(
      log,
      /warn agentwatch: token is a reference to a secret.*; write "\$\{AGENTWATCH_TOKEN\}" there/,
    );
    gateway.emit("before_message_write", answer(1), SESSION);
    await nextTurn();
    await gateway.finish();
    assert.ok(receiver.requests.every(({ authorization }) => authorization === undefined));
    assert.equal(receiver.totals["p/m"]?.requests, 1);
  } finally {
    close();
  }
});

test("a gateway that two senders report is logged, and in the status", async () => {
  const { gateway, receiver, close } = await started({ gateway: "berlin" });
  receiver.capabilities.reported_twice = [
    ["a", "b"],
    ["berlin", "berlin-proxy"],
  ];
  try {
    gateway.emit("before_message_write", answer(1), SESSION);
    await nextTurn();
    await gateway.finish();
    assert.equal((await gateway.status()).also_reported_by, "berlin-proxy");
    const said = gateway.log.filter((line) => /calls of this gateway from "berlin-proxy" too/.test(line));
    assert.equal(said.length, 1);
    assert.match(said.join(), /^warn agentwatch: .*they count twice; choose one way for each gateway$/);
  } finally {
    close();
  }
});

test("a listing of commands registers the commands only", async () => {
  const { gateway, plugin, close } = await started({ agentName: "kept" });
  try {
    assert.deepEqual(gateway.registerMetadata(plugin), ["agentwatch"]);
    await gateway.stop();
  } finally {
    close();
  }
});

const TOKEN = "t0ken-that-nobody-must-see";

/** Everything in a folder, as one text. @param {string} folder @returns {string} */
function everything(folder) {
  return readdirSync(folder)
    .map((name) => join(folder, name))
    .map((path) => (statSync(path).isDirectory() ? everything(path) : readFileSync(path, "latin1")))
    .join("\n");
}

test("the token is in the header and nowhere else", async () => {
  const { gateway, receiver, close } = await started({ token: TOKEN });
  try {
    let status = 401;
    receiver.status = () => status;
    gateway.emit("before_message_write", answer(1), SESSION);
    await nextTurn();
    await gateway.finish();
    assert.ok(gateway.log.some((line) => line.includes("refuses the token (HTTP 401); set token")));
    status = 200;
    await gateway.start();
    await gateway.finish();
    assert.equal(receiver.totals["p/m"]?.requests, 1);
    assert.ok(receiver.requests.every(({ authorization }) => authorization === `Bearer ${TOKEN}`));
    assert.ok(receiver.requests.every(({ path }) => !path.includes(TOKEN)));
    const shown = [
      gateway.log.join("\n"),
      JSON.stringify(await gateway.status()),
      everything(gateway.stateDir),
    ];
    for (const text of shown) assert.ok(!text.includes(TOKEN), text);
  } finally {
    close();
  }
});

test("a token that cannot be sent is not logged either", async () => {
  const { gateway, close } = await started({ token: `${TOKEN} ü` });
  try {
    assert.ok(!gateway.log.join("\n").includes(TOKEN));
  } finally {
    close();
  }
});

test("a token without a url is sent nowhere", async () => {
  const gateway = new Gateway("none");
  try {
    gateway.register(await gateway.evaluate(), { token: TOKEN });
    await gateway.start();
    assert.ok(
      gateway.log.some((line) => line.includes("token is set but url is not") && line.includes("set url")),
    );
    assert.ok(!gateway.log.join("\n").includes(TOKEN));
  } finally {
    gateway.close();
  }
});
