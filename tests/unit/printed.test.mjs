// Runs the commands of docs/proxy.md, docs/sync.md and docs/ingest.md literally.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { printed } from "../../scripts/lib/commands.mjs";
import { answer, header, lines } from "./stored.mjs";
import { Receiver } from "./world.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const WITHIN_MS = 30_000;

const root = mkdtempSync(join(tmpdir(), "agentwatch-printed-"));
/** @type {Receiver} */
let receiver;
before(async () => {
  receiver = await Receiver.open();
});
after(() => {
  receiver.close();
  rmSync(root, { recursive: true, force: true });
});

/** Programs on the PATH, and a home folder with a state directory whose store has two calls. */
function environment() {
  const [bin, home] = [join(root, "bin"), join(root, "home")];
  const sessions = join(home, ".openclaw", "agents", "main", "sessions");
  for (const folder of [bin, sessions]) mkdirSync(folder, { recursive: true });
  writeFileSync(join(sessions, "s1.jsonl"), lines(header("s1"), answer(1), answer(2)));
  writeFileSync(join(bin, "agentwatch-openclaw"), `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`);
  chmodSync(join(bin, "agentwatch-openclaw"), 0o755);
  const path = [bin, dirname(process.execPath), process.env.PATH].join(delimiter);
  return { PATH: path, HOME: home, AGENTWATCH_URL: receiver.url };
}

/**
 * Runs a command; one that keeps running is stopped once its output matches `stays`.
 *
 * @param {string} command
 * @param {RegExp} [stays]
 */
async function type(command, stays) {
  const line = command.replace("http://localhost:8470", receiver.url);
  // `exec` before the last program, so that a signal reaches it.
  const [, assignments = "", words = ""] = /^((?:\w+=\S+ )*)(.*)$/.exec(line) ?? [];
  const child = spawn("bash", ["-c", `${assignments}exec ${words}`], {
    env: environment(),
    timeout: WITHIN_MS,
  });
  let output = "";
  let isAsked = false;
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => {
      output += text;
      if (isAsked || !stays?.test(output)) return;
      isAsked = true;
      child.kill("SIGTERM");
    });
  const code = await new Promise((resolve) => child.on("close", resolve));
  return { code, output };
}

/** Replaces the port of a command by a free one. @param {string} command */
const anyPort = (command) => `${command} --port 0`;

describe("the documented commands", () => {
  test("a proxy before three upstreams", async () => {
    for (const command of await printed("docs/proxy.md", "The proxy")) {
      const { code, output } = await type(anyPort(command), /proxy on http:\/\/127\.0\.0\.1:\d+: .*local/);
      assert.equal(code, 0, output);
      for (const prefix of ["/openai", "/anthropic", "/local"]) assert.ok(output.includes(prefix), output);
    }
  });

  test("the endpoint for LiteLLM", async () => {
    for (const command of await printed("docs/proxy.md", "LiteLLM")) {
      const { code, output } = await type(anyPort(command), /litellm endpoint on .* counted under litellm/);
      assert.equal(code, 0, output);
    }
  });

  test("sync: once, a month of history, and watching", async () => {
    const commands = await printed("docs/sync.md", "Counting from the session store");
    assert.equal(commands.length, 3);
    for (const command of commands) {
      const { code, output } = await type(
        command,
        command.includes("--watch") ? /watching the session store/ : undefined,
      );
      assert.equal(code, 0, `${command}\n${output}`);
    }
    const requests = Object.values(receiver.totals).reduce((sum, row) => sum + row.requests, 0);
    assert.equal(requests, 2, "each call of the store, once");
  });

  test("ingest: the page's own events", async () => {
    const page = readFileSync(new URL("../../docs/ingest.md", import.meta.url), "utf8");
    const events = /^```ndjson\n([^]*?)^```$/m.exec(page)?.[1] ?? "";
    const file = join(root, "events.ndjson");
    writeFileSync(file, events);
    for (const command of await printed("docs/ingest.md", "Counting events of your own programs")) {
      const { code, output } = await type(command.replace("events.ndjson", file));
      assert.equal(code, 0, output);
      assert.match(output, /^5 lines: 5 taken, 0 skipped$/m);
    }
    const { "openai/gpt-4o": used, "acme/m": total } = receiver.totals;
    assert.deepEqual([used?.requests, used?.prompt, used?.completion], [1, 1_200, 80]);
    assert.deepEqual([total?.requests, total?.prompt, total?.completion], [3, 300, 30]);
  });
});
