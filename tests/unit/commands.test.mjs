// Settings of the commands: precedence of their sources, the address that gets the token, and the collector.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { commandSettings, gatewaySettings } from "../../dist/commands.js";
import { portOf } from "./upstream.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "agentwatch-commands-"));
after(() => rmSync(root, { recursive: true, force: true }));

const NAMES = ["AGENTWATCH_URL", "AGENTWATCH_TOKEN"];
afterEach(() => {
  for (const name of NAMES) delete process.env[name];
});

/** @param {Record<string, unknown>} config */
const gateway = (config) => ({ plugins: { entries: { agentwatch: { config } } } });
/** @param {object} config @param {Record<string, unknown>} options @param {string} [stateDir] */
const ofCommand = (config, options, stateDir) => commandSettings({ stateDir, config }, options);
/** @param {object} config */
const ofGateway = (config) => gatewaySettings({ stateDir: undefined, config }, true);

test("options win over the environment, which wins over the gateway's configuration", async () => {
  const config = gateway({
    url: "http://configured",
    agentName: "{gateway}",
    prices: { "p/m": "subscription" },
  });
  const { settings } = await ofCommand(config, { url: undefined });
  assert.equal(settings.url, "http://configured");
  assert.deepEqual(settings.prices, { "p/m": "subscription" });
  process.env.AGENTWATCH_URL = "http://environment";
  assert.equal((await ofCommand(config, {})).settings.url, "http://environment");
  const chosen = await ofCommand(config, { url: "http://option", agentName: "me" });
  assert.deepEqual([chosen.settings.url, chosen.settings.agentName], ["http://option", "me"]);
  // In the gateway itself the configuration wins.
  assert.equal((await ofGateway(config)).settings.url, "http://configured");
});

test("the configuration's token is sent to the configuration's address only", async () => {
  const config = gateway({ url: "http://configured", token: "secret" });
  assert.equal((await ofCommand(config, {})).settings.token, "secret");
  assert.equal((await ofCommand(config, { url: "http://configured" })).settings.token, "secret");
  assert.equal((await ofCommand(config, { url: "http://elsewhere" })).settings.token, undefined);
  process.env.AGENTWATCH_TOKEN = "given";
  assert.equal((await ofCommand(config, { url: "http://elsewhere" })).settings.token, "given");
});

test("the gateway's .env and its configuration's env hold where the environment has no such variable", async () => {
  const config = { ...gateway({ token: "${WATCH_TOKEN}", otlp: { url: "${COLLECTOR}" } }), env: {} };
  const stateDir = mkdtempSync(join(root, "dotenv-"));
  const missing = await ofCommand(config, {}, stateDir);
  assert.deepEqual(missing.problems.map((text) => text.split(" ")[0]).sort(), ["otlp", "token"]);
  const { problems: others } = await ofCommand(config, { url: "http://elsewhere" }, stateDir);
  assert.deepEqual(others.length, 1, "another address needs no token of the gateway");
  config.env = { COLLECTOR: "http://collector", vars: { WATCH_TOKEN: "of the configuration" } };
  writeFileSync(join(stateDir, ".env"), "WATCH_TOKEN=of the file\nAGENTWATCH_URL=http://of-the-file\n");
  const { settings, problems } = await ofCommand(config, {}, stateDir);
  assert.deepEqual(problems, []);
  assert.deepEqual(settings.otlp, { url: "http://collector" });
  assert.deepEqual([settings.url, settings.token], ["http://of-the-file", "of the file"]);
  const elsewhere = (await ofCommand(config, { url: "http://elsewhere" }, stateDir)).settings;
  assert.equal(elsewhere.token, undefined, "a token of the gateway goes to the gateway's address only");
  const configured = { ...gateway({ url: "http://configured" }), env: {} };
  assert.equal((await ofCommand(configured, {}, stateDir)).settings.url, "http://configured");
});

test("a reference that cannot be resolved is named, unless it is not needed", async () => {
  const token = { source: "file", provider: "vault", id: "/agentwatch" };
  const config = gateway({ url: "http://configured", token });
  const { settings, problems } = await ofCommand(config, {});
  assert.equal(settings.token, undefined);
  assert.match(
    problems.join(),
    /^token is a reference to a secret, which cannot be resolved here; .*AGENTWATCH_TOKEN/,
  );
  const inside = (await ofGateway(config)).problems;
  assert.match(inside.join(), /; write "\$\{AGENTWATCH_TOKEN\}" there, .*in the gateway's environment$/);
  const odd = await ofGateway(gateway({ token: { secret: 1 } }));
  assert.match(odd.problems.join(), /^token is neither a text nor \{source, provider, id\}; write /);
  process.env.AGENTWATCH_TOKEN = "given";
  assert.deepEqual((await ofCommand(config, {})).problems, []);
});

test("ingest exports to the collector of the gateway's configuration", async () => {
  /** @type {string[]} */
  const told = [];
  const collector = createServer((request, response) => {
    told.push(`${request.url} ${request.headers["x-key"]}`);
    request.resume().on("end", () => response.end("{}"));
  });
  await once(collector.listen(0, "127.0.0.1"), "listening");
  const otlp = { url: `http://127.0.0.1:${portOf(collector)}`, headers: { "x-key": "k" } };
  writeFileSync(join(root, "openclaw.json"), JSON.stringify(gateway({ url: false, otlp })));
  const env = { PATH: process.env.PATH ?? "", HOME: root };
  const child = spawn(process.execPath, [CLI, "ingest", "--state-dir", root], {
    env,
    timeout: 120_000,
    killSignal: "SIGKILL",
  });
  const usage = { model: "p/m", promptTokens: 10, completionTokens: 1 };
  child.stdin.end(`${JSON.stringify({ type: "model", action: "used", context: usage })}\n`);
  const [code] = await once(child, "close");
  collector.close();
  assert.equal(code, 0);
  assert.ok(told.includes("/v1/metrics k"), told.join());
});
