// The compose file is parsed and compared with the settings; there is no Docker here.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { instantiate } from "../../dist/base.js";
import { environmentSettings } from "../../dist/plugin.js";

const PATH = fileURLToPath(new URL("../../examples/docker/compose.agentwatch.yaml", import.meta.url));
const { services, volumes } = parse(readFileSync(PATH, "utf8"));
const { agentwatch, "openclaw-gateway": gateway } = services;

test("adds AgentWatch to the gateway's own services", () => {
  // `openclaw-gateway` is what OpenClaw's docker-compose.yml calls it; the rest of that service stays its own.
  assert.deepEqual(Object.keys(services).sort(), ["agentwatch", "openclaw-gateway"]);
  assert.deepEqual(Object.keys(gateway), ["environment"]);
});

test("has only known settings, with valid values", () => {
  Object.assign(process.env, gateway.environment);
  const settings = environmentSettings();
  for (const name of Object.keys(gateway.environment)) delete process.env[name];
  assert.equal(
    Object.keys(settings).length,
    Object.keys(gateway.environment).length,
    "every variable is read",
  );

  const { Engine } = instantiate();
  // The user sets the token.
  const core = new Engine({ ...settings, token: "secret" }, 0, 0);
  assert.equal(JSON.parse(core.status()).url, gateway.environment.AGENTWATCH_URL);
});

test("sends to the other service, at its port", () => {
  const { hostname, port } = new URL(gateway.environment.AGENTWATCH_URL);
  assert.ok(services[hostname], `${hostname} is a service`);
  const published = agentwatch.ports.map((/** @type {string} */ text) => text.split(":").at(-1));
  assert.deepEqual(published, [port]);
});

test("uses one secret for both services, and contains none", () => {
  assert.equal(agentwatch.environment.AGENTWATCH_AUTH_TOKEN, gateway.environment.AGENTWATCH_TOKEN);
  assert.match(gateway.environment.AGENTWATCH_TOKEN, /^\$\{AGENTWATCH_TOKEN:\?.+\}$/, "refused without one");
});

test("publishes the dashboard on this host only, and keeps its data in a volume", () => {
  for (const text of agentwatch.ports) assert.match(text, /^127\.0\.0\.1:/);
  for (const text of agentwatch.volumes) assert.ok(text.split(":")[0] in volumes, text);
});
