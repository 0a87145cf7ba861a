// The hook's directory without the plugin, in a gateway that restarts inside its process.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import hook from "../../dist/hook.js";
import { until } from "./faulty-receiver.mjs";
import { Receiver } from "./world.mjs";

const stateDir = mkdtempSync(join(tmpdir(), "agentwatch-hook-"));
const receiver = await Receiver.open();
process.env.OPENCLAW_STATE_DIR = stateDir;
process.env.AGENTWATCH_URL = receiver.url;
after(() => {
  receiver.close();
  rmSync(stateDir, { recursive: true, force: true });
});

/** @param {string} type @param {string} action */
const told = (type, action) =>
  hook({ type, action, sessionKey: `${type}:${action}`, timestamp: new Date(), context: {} });

test("counting goes on after a restart inside the process", async () => {
  const owner = join(stateDir, "agentwatch", "owner.json");
  const batches = () => receiver.requests.filter(({ path }) => path.endsWith("/batch")).length;
  told("gateway", "startup");
  await until(() => existsSync(owner) && batches() > 0);
  await told("gateway", "shutdown");
  assert.ok(!existsSync(owner), "the journal is released");
  const before = batches();
  told("gateway", "startup");
  await until(() => existsSync(owner) && batches() > before);
  assert.ok(existsSync(owner) && batches() > before);
  await told("gateway", "shutdown");
});
