// The tests' gateway where OpenClaw refuses all turns until a restart.
import assert from "node:assert/strict";
import { test } from "node:test";
import { restartingWith } from "../../examples/gateway/gateway.mjs";

const REFUSED = "agent: Agent database cleanup failed";

/** @param {string[]} errors of the first turns */
function world(...errors) {
  const seen = { turns: 0, restarts: 0 };
  const run = restartingWith(async () => {
    seen.restarts += 1;
  });
  const turn = () =>
    run(async () => {
      seen.turns += 1;
      const error = errors.shift();
      if (error) throw new Error(error);
      return "done";
    });
  return { seen, turn };
}

test("a refused turn is run again after a restart", async (t) => {
  const said = t.mock.method(console, "log", () => {});
  const { seen, turn } = world(REFUSED, REFUSED);
  assert.equal(await turn(), "done");
  assert.deepEqual(seen, { turns: 3, restarts: 2 });
  assert.match(String(said.mock.calls[0]?.arguments[0]), /restarted after a fault of OpenClaw's own/);
});

test("turns at once share a restart", async (t) => {
  t.mock.method(console, "log", () => {});
  const { seen, turn } = world(REFUSED, REFUSED, REFUSED);
  assert.deepEqual(await Promise.all([turn(), turn(), turn()]), ["done", "done", "done"]);
  assert.deepEqual(seen, { turns: 6, restarts: 1 });
});

test("it is not run again for ever, nor after another error", async (t) => {
  t.mock.method(console, "log", () => {});
  await assert.rejects(world(REFUSED, REFUSED, REFUSED).turn(), /cleanup failed/);
  const { seen, turn } = world("agent: no such model");
  await assert.rejects(turn(), /no such model/);
  assert.deepEqual(seen, { turns: 1, restarts: 0 });
});
