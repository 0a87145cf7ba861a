// The plugin's manifest, and the README's table of settings.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { SETTINGS, unknownSettings } from "../../dist/plugin.js";
import { readme } from "../../scripts/settings.mjs";

const TEXT = readFileSync(new URL("../../openclaw.plugin.json", import.meta.url), "utf8");
const { configSchema, uiHints, configContracts } = JSON.parse(TEXT);

/**
 * Names that occur twice in one object: `JSON.parse` silently takes the last one.
 *
 * @param {string} text JSON
 */
function namesTwice(text) {
  /** @type {Set<string>[]} */
  const open = [];
  /** @type {string[]} */
  const twice = [];
  for (const [found, name] of text.matchAll(/"((?:[^"\\]|\\.)*)"(?=\s*:)|"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (found === "{") open.push(new Set());
    else if (found === "}") open.pop();
    else if (name !== undefined) {
      if (open.at(-1)?.has(name)) twice.push(name);
      open.at(-1)?.add(name);
    }
  }
  return twice;
}

test("no name occurs twice in an object", () => {
  assert.deepEqual(namesTwice('{"a": {"b": 1, "c": "b", "b": {"b": 2}}, "d": [{"a": 1}, {"a": 1}]}'), ["b"]);
  assert.deepEqual(namesTwice(TEXT), []);
});

test("each setting has a schema, a label and help, and nothing else has", () => {
  const properties = Object.keys(configSchema.properties);
  assert.deepEqual(Object.keys(uiHints), properties);
  assert.deepEqual(SETTINGS, properties);
  for (const [name, { type, description }] of Object.entries(configSchema.properties)) {
    assert.ok(type && description, name);
    assert.ok(uiHints[name].label && uiHints[name].help, name);
  }
});

test("settings with secrets are hidden, and may be references to secrets", () => {
  const { paths } = configContracts.secretInputs;
  const secret = paths.map((/** @type {{ path: string }} */ { path }) => path.split(".")[0]);
  assert.deepEqual(secret, ["token", "otlp", "webhook"]);
  for (const name of secret) assert.equal(uiHints[name].sensitive, true, name);
});

test("a misspelled setting does not stop a gateway: the plugin names the right one", () => {
  // With additionalProperties: false a gateway refuses its whole configuration, and 2026.3.13 does not say which name.
  assert.equal(configSchema.additionalProperties, undefined);
  for (const [wrong, right] of [
    ["agentname", "agentName"],
    ["URL", "url"],
    ["agent_name", "agentName"],
    ["flushIntervalMS", "flushIntervalMs"],
    ["flushInterval", "flushIntervalMs"],
    ["durabilty", "durability"],
    ["price", "prices"],
    ["journalMaxMB", "journalMaxMb"],
  ])
    assert.deepEqual(unknownSettings({ [wrong ?? ""]: 1 }), [
      `unknown setting "${wrong}": did you mean "${right}"?`,
    ]);
  assert.match(
    unknownSettings({ completely: 1, url: "x" }).join(),
    /^unknown setting "completely": the settings are url, /,
  );
});

test("the README's settings are the manifest's", async () => {
  const { text, wanted } = await readme();
  assert.equal(text, wanted, "run node scripts/settings.mjs");
});
