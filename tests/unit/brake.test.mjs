// Allowances: the gates of a gateway, the proxy's answer to a stopped call in each provider's shape, and the lift.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { zonesOf } from "../../dist/base.js";
import { allow } from "../../dist/operator.js";
import { holdMessages } from "./in-thread.mjs";
import { asking, chat, get, proxyTo, world } from "./upstream.mjs";
import { answer, SESSION, started } from "./world.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** One USD a day for one agent; an answer of `world.mjs` costs a quarter. */
const A_DOLLAR = [{ usd: 1, per: "day", agent: "main", then: "stop", zone: "Europe/Berlin" }];
const OTHER = { agentId: "other", sessionKey: "agent:other:s" };

/** @param {Awaited<ReturnType<typeof started>>["gateway"]} gateway @param {string} hook @param {object} ctx */
const ask = (gateway, hook, ctx) => gateway.handlers.get(hook)?.at(-1)?.handler({ prompt: "no" }, ctx);

/** Spends a quarter of a dollar. @param {Awaited<ReturnType<typeof started>>["gateway"]} gateway @param {number} tokens */
const spend = (gateway, tokens, ctx = SESSION) =>
  gateway.emit("before_message_write", answer(tokens, { timestamp: Date.now() - 1_000 }), ctx);

describe("the gates", () => {
  test("a spent allowance refuses runs and tools of its agent alone, until it is lifted", async () => {
    const { gateway, close } = await started({ allowance: A_DOLLAR });
    try {
      assert.equal(await ask(gateway, "before_tool_call", SESSION), undefined);
      for (let index = 1; index <= 4; index += 1) spend(gateway, index);
      // At once: the worker reads what came before it decides.
      const refused = await ask(gateway, "before_tool_call", { ...SESSION, toolName: "exec" });
      assert.equal(refused.block, true);
      assert.match(
        refused.blockReason,
        /allowance of 1\.00 USD a day for agent main.*\+0[12]:00.*agentwatch allow 1h/,
      );
      assert.equal(await ask(gateway, "before_tool_call", OTHER), undefined);
      const { brake, allowances, brake_unanswered: unanswered } = await gateway.status();
      assert.deepEqual([brake.stopped, unanswered], [1, 0]);
      assert.equal(allowances[0].agent, "main");
      const { text, isTaken } = await allow("1h", gateway.stateDir);
      assert.ok(isTaken, text);
      assert.equal(await ask(gateway, "before_tool_call", SESSION), undefined);
      assert.ok((await allow("0", gateway.stateDir)).isTaken);
      assert.ok(await ask(gateway, "before_tool_call", SESSION));
      await assert.rejects(allow("an hour", gateway.stateDir), /such as 30m, 1h or 2d/);
      await gateway.stop();
    } finally {
      close();
    }
  });

  test("they are registered only where an allowance stops", async () => {
    for (const then of ["warn", "stop"]) {
      const { gateway, close } = await started({ allowance: [{ usd: 1, per: "day", then }] });
      try {
        // One handler records the event.
        assert.equal(gateway.handlers.get("before_tool_call")?.length, then === "stop" ? 2 : 1);
        await gateway.stop();
      } finally {
        close();
      }
    }
  });

  test("without a worker a call passes and is counted", async () => {
    const { gateway, close } = await started({ allowance: A_DOLLAR });
    try {
      for (let index = 1; index <= 4; index += 1) spend(gateway, index);
      await gateway.stop();
      assert.equal(await ask(gateway, "before_tool_call", SESSION), undefined);
      await gateway.start();
      // The next question tells the worker of it.
      assert.ok(await ask(gateway, "before_tool_call", SESSION));
      assert.equal((await gateway.status()).brake_unanswered, 1);
      await gateway.stop();
    } finally {
      close();
    }
  });

  test("a worker that does not answer holds up one call, and not each one", async () => {
    const { gateway, close } = await started({ allowance: A_DOLLAR });
    try {
      for (let index = 1; index <= 4; index += 1) spend(gateway, index);
      const { messages, release } = holdMessages();
      for (let index = 0; index < 20; index += 1)
        assert.equal(await ask(gateway, "before_tool_call", SESSION), undefined);
      assert.equal(messages().filter(({ type }) => type === "admit").length, 1);
      release();
      // The late question is not judged any more; the next one is.
      await gateway.status();
      assert.ok(await ask(gateway, "before_tool_call", SESSION));
      const { brake, brake_unanswered: unanswered } = await gateway.status();
      assert.deepEqual([unanswered, brake.stopped], [20, 1]);
      await gateway.stop();
    } finally {
      close();
    }
  });

  test("nothing of a hook's content is kept", async () => {
    const { gateway, close } = await started({ allowance: A_DOLLAR });
    const secret = "CONTENT-4711";
    try {
      const handler = gateway.handlers.get("before_tool_call")?.at(-1)?.handler;
      for (let index = 0; index < 500; index += 1)
        await handler?.({ params: { text: secret }, toolName: "exec" }, { ...SESSION, secret });
      spend(gateway, 1);
      await gateway.stop();
      const folder = join(gateway.stateDir, "agentwatch");
      for (const file of readdirSync(folder, { recursive: true, withFileTypes: true }))
        if (file.isFile())
          assert.ok(!readFileSync(join(file.parentPath, file.name), "latin1").includes(secret), file.name);
    } finally {
      close();
    }
  });
});

describe("the proxy", () => {
  /** Path, and the expected body. @type {[string, (message: string) => unknown][]} */
  const SHAPES = [
    [
      "/v1/chat/completions",
      (message) => ({
        error: { message, type: "requests", param: null, code: "rate_limit_exceeded" },
      }),
    ],
    [
      "/v1/messages?beta=true",
      (message) => ({ type: "error", error: { type: "rate_limit_error", message } }),
    ],
    [
      "/v1beta/models/g1:streamGenerateContent?alt=sse",
      (message) => ({ error: { code: 429, message, status: "RESOURCE_EXHAUSTED" } }),
    ],
    [
      "/v1beta/models/g1%3AgenerateContent",
      (message) => ({ error: { code: 429, message, status: "RESOURCE_EXHAUSTED" } }),
    ],
    ["/api/chat", (message) => ({ error: message })],
    ["/model/m/converse-stream", (message) => ({ message })],
  ];
  for (const [path, body] of SHAPES)
    test(`a stopped call to ${path} is answered as its provider answers`, async () => {
      let reached = 0;
      const at = await world((_, response) => {
        reached += 1;
        response.end();
      });
      const proxy = await proxyTo([`/p=${at.direct}`], {
        gate: { admit: () => ({ message: "over the allowance", retryAfterS: 90 }) },
      });
      try {
        const got = await get(`${proxy.origin}/p${path}`, asking());
        assert.equal(got.status, 429);
        assert.equal(got.headers["retry-after"], "90");
        assert.deepEqual(JSON.parse(String(got.body)), body("Usage limit reached. over the allowance"));
        for (const query of ["?x=/cancel", "?/cancel/", "?x=/cancel?y"])
          assert.equal((await get(`${proxy.origin}/p${path}${query}`, asking())).status, 429, query);
        assert.deepEqual([reached, proxy.proxy.counts.stopped], [0, 4]);
      } finally {
        await proxy.close();
        at.close();
      }
    });

  test("an admitted call is under way until it was reported; other requests are not asked for", async () => {
    /** @type {string[]} */
    const order = [];
    const at = await world((_, response) =>
      response.writeHead(200, { "content-type": "text/event-stream" }).end(chat().join("")),
    );
    const proxy = await proxyTo([`/p=${at.direct},agent=main`], {
      gate: {
        admit: (/** @type {number} */ request, /** @type {{ agent?: string }} */ { agent }) => {
          order.push(`admit ${request} ${agent}`);
        },
        ended: (/** @type {number} */ request) => order.push(`ended ${request} ${proxy.calls.length}`),
      },
    });
    try {
      await get(`${proxy.origin}/p/v1/models`);
      await get(`${proxy.origin}/p/v1/chat/completions`, asking());
      await proxy.told(1);
      await sleep(20);
      assert.deepEqual(order, ["admit 2 main", "ended 2 1"]);
      assert.equal(proxy.calls[0].agent, "main");
    } finally {
      await proxy.close();
      at.close();
    }
  });
});

test("a zone's changes of offset are those of the calendar", () => {
  const now = Date.UTC(2026, 10, 29);
  const allowance = [{ zone: "Europe/Berlin" }, { zone: "Asia/Kolkata" }, { zone: "No/Where" }];
  const zones = zonesOf({ allowance }, now);
  const of = (/** @type {string} */ zone) => zones.find(([name]) => name === zone);
  const [berlin, kolkata] = [of("Europe/Berlin"), of("Asia/Kolkata")];
  assert.equal(of("No/Where"), undefined);
  assert.deepEqual(kolkata, ["Asia/Kolkata", 19_800]);
  const [name, first, ...changes] = berlin ?? [];
  assert.deepEqual([name, first], ["Europe/Berlin", 3_600]);
  // Summer time from March 29 to October 25, 2026, at 1:00 UTC.
  const summer = [Date.UTC(2026, 2, 29, 1) / 1_000, 7_200, Date.UTC(2026, 9, 25, 1) / 1_000, 3_600];
  assert.deepEqual(changes.slice(0, 4), summer);
  assert.ok(changes.length >= 20);
  // The machine's own zone is always there.
  assert.equal(zonesOf({}).length, 1);
});

test("a machine's own zone without a name is the first one nevertheless", () => {
  const script =
    'import { zonesOf } from "./dist/base.js"; console.log(JSON.stringify(zonesOf({ zone: "Asia/Tokyo" })))';
  for (const [TZ, offset] of /** @type {[string, number][]} */ ([
    ["", 0],
    [":/no/where", 0],
    ["UTC", 0],
    ["UTC+3", -10_800],
  ])) {
    const args = ["--input-type=module", "-e", script];
    const { stdout, stderr } = spawnSync(process.execPath, args, {
      env: { ...process.env, TZ },
      encoding: "utf8",
      cwd: PROJECT,
    });
    const [own, other] = JSON.parse(stdout || stderr);
    assert.deepEqual([own[1], own.length, other[0]], [offset, 2, "Asia/Tokyo"], TZ);
  }
});
