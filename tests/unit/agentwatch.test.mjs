// The script that runs the plugin against AgentWatch's own server: wrong arguments are refused before anything is built.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const SCRIPT = fileURLToPath(new URL("../../scripts/agentwatch.mjs", import.meta.url));

for (const [args, message] of /** @type {[string[], RegExp][]} */ ([
  [[], /^setup: usage: node scripts\/agentwatch\.mjs <checkout of AgentWatch>/],
  [["a", "b"], /^setup: usage: /],
  [[tmpdir(), "--test", "--screenshot", "page.png"], /^setup: usage: /],
  [[tmpdir(), "--screenshots", "page.png"], /^setup: Unknown option '--screenshots'.*\nusage: /s],
  [[tmpdir()], /is no checkout of AgentWatch: it has no src\/agentwatch\/server\/app\.py\. Clone https:/],
]))
  test(`node scripts/agentwatch.mjs ${args.join(" ").replace(tmpdir(), "<folder>")} is refused`, () => {
    const { status, stderr } = spawnSync(process.execPath, [SCRIPT, ...args], { encoding: "utf8" });
    assert.equal(status, 1, stderr);
    assert.match(stderr, message);
  });
