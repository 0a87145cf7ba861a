import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { launch } from "../../examples/gateway/process.mjs";
import { runSteps } from "../../scripts/lib/steps.mjs";
import { until } from "./faulty-receiver.mjs";

describe("a step of the tests that fails", () => {
  /** @type {string} */
  let folder;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "agentwatch-steps-"));
  });
  after(() => rm(folder, { recursive: true }));

  /**
   * Runs one step with a command that counts its runs.
   *
   * @param {string} name
   * @param {string} script
   * @param {boolean} [playsForeign]
   */
  async function play(name, script, playsForeign = true) {
    const file = join(folder, name);
    await writeFile(file, "");
    const counted = `const { appendFileSync, statSync } = require("node:fs");
      const runs = statSync(${JSON.stringify(file)}).size;
      appendFileSync(${JSON.stringify(file)}, "x");
      ${script}`;
    const [result] = await runSteps(
      [
        {
          name,
          about: "made up",
          playsForeign,
          run: (command) => command(process.execPath, ["-e", counted]),
        },
      ],
      {},
    );
    return { failed: result?.error !== undefined, runs: (await readFile(file)).length };
  }

  test("fails at once where this project's program fails", async () => {
    assert.deepEqual(await play("ours", "process.exit(1)"), { failed: true, runs: 1 });
  });
  test("runs once more where another project's program crashed", async () => {
    const script =
      'if (runs === 0) { console.error("foreign crash: LiteLLM ended with SIGSEGV"); process.exit(1); }';
    assert.deepEqual(await play("theirs", script), { failed: false, runs: 2 });
  });
  test("fails at once where it runs no other project's program", async () => {
    const script = 'console.error("foreign crash: LiteLLM ended with SIGSEGV"); process.exit(1)';
    assert.deepEqual(await play("unit", script, false), { failed: true, runs: 1 });
  });
  test("fails where the second run fails", async () => {
    const script = 'console.error("foreign crash: LiteLLM ended with SIGSEGV"); process.exit(1)';
    assert.deepEqual(await play("again", script), { failed: true, runs: 2 });
  });
});

test("a group's steps run at the same time, at most three of them, and report in their order", async () => {
  let now = 0;
  let most = 0;
  const names = ["a", "b", "c", "d", "e"];
  /** @type {string[]} */
  const ended = [];
  const step = (/** @type {string} */ name, /** @type {number} */ index) => ({
    name,
    about: "made up",
    group: "gateways",
    run: async () => {
      now += 1;
      most = Math.max(most, now);
      // The first one ends last.
      if (index === 0) await until(() => ended.length === names.length - 1);
      await new Promise((done) => setImmediate(done));
      now -= 1;
      ended.push(name);
    },
  });
  const results = await runSteps(names.map(step), {});
  assert.equal(most, 3);
  assert.equal(ended.at(-1), "a");
  assert.deepEqual(
    results.map(({ name }) => name),
    names,
  );
});

test("only a crash of another project's program is reported as one", async (t) => {
  const said = t.mock.method(console, "error", () => {});
  const end = async (/** @type {string} */ signal, /** @type {string | undefined} */ foreign) => {
    const program = launch(
      process.execPath,
      ["-e", `process.kill(process.pid, "${signal}"); setInterval(() => {}, 9)`],
      {
        env: {},
        ...(foreign ? { foreign } : {}),
      },
    );
    await program.ended;
  };
  await end("SIGTERM", "LiteLLM");
  await end("SIGSEGV", undefined);
  assert.equal(said.mock.callCount(), 0);
  await end("SIGSEGV", "LiteLLM");
  assert.deepEqual(said.mock.calls[0]?.arguments, ["foreign crash: LiteLLM ended with SIGSEGV"]);
});
