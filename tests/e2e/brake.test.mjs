import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { baseConfig } from "../../examples/gateway/config.mjs";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { openclawCommand } from "./command.mjs";
import { withTimeout } from "./harness.mjs";
import { KillableGateway } from "./killable.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { until } from "./scenarios.mjs";
import { runCommand, startCommand } from "./services.mjs";

/**
 * Allowances on a real gateway, by the provider's own ledger: agents whose calls the plugin's hooks stop, and agents whose
 * provider is our proxy. A call with this directive costs 0.003 USD.
 */
const CALL = "[[usage 990 0 0 2]]";
const CALL_USD = 0.003;
/** Three calls are 90 % of a cent: the warning at 80 % was given, and a fourth does not fit. */
const A_CENT = 0.01;

/** Each agent's model, by which the ledger tells the agents apart. */
const MODELS = { main: "m1", tools: "m2", ant: "a1", boxed: "b1", through: "c1" };
/** @typedef {keyof typeof MODELS} Agent */

/** Of the gateway's plugin. The agents `boxed` and `through` have none. */
const BY_HOOKS = [
  { usd: A_CENT, per: "month", agent: "main", then: "stop" },
  { usd: 0.02, per: "month", agent: "ant", then: "stop" },
  { usd: 0.02, per: "month", agent: "tools", then: "stop" },
];
/**
 * Of the proxy. One upstream names its agent, `boxed`. No request names one, so the third allowance matches no call.
 */
const BY_PROXY = [
  { usd: A_CENT, per: "month", agent: "boxed", then: "stop" },
  { usd: 0.03, per: "month", then: "stop" },
  { usd: 0.001, per: "month", agent: "through", then: "stop" },
];
/**
 * OpenClaw tries a turn again that calls under way kept out, after half a minute. It must not wait for the end of its window, a
 * month; but a restart of the gateway after a fault of OpenClaw's own is within this time.
 */
const TURN_WITHIN_MS = 600_000;
const EIGHT = [1, 2, 3, 4, 5, 6, 7, 8];

for (const version of versions)
  describe(`OpenClaw ${version}, allowances`, { skip }, () => {
    const hasRunGate = Number(version.split(".")[1]) > 3;
    /** @type {Awaited<ReturnType<typeof build>>} */
    let world;
    /** @type {(() => Promise<unknown>)[]} */
    const closers = [];
    /** Bodies of the requests to the provider. @type {string[]} */
    const bodies = [];

    async function build() {
      const folder = await mkdtemp(join(tmpdir(), "openclaw-brake-"));
      closers.push(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
      const provider = await createProvider({
        delayMs: 100,
        script: ({ body }) => {
          bodies.push(JSON.stringify(body));
          return undefined;
        },
      });
      closers.push(provider.close);
      const receiver = await startReceiver({ binary });
      closers.push(receiver.stop);
      const proxy = await proxyBefore(provider.baseUrl, receiver.url, join(folder, "proxy"));
      closers.push(() => proxy.running.stop());
      const stateDir = join(folder, "gateway");
      await mkdir(stateDir);
      const gateway = new KillableGateway({
        version,
        providerUrl: provider.baseUrl,
        stateDir,
        port: await freePort(),
        plugins: [
          // Until the kill without the grant for `before_agent_run`, which 2026.3.13 does not know at all.
          { id: "agentwatch", tgz, config: { url: receiver.url, allowance: BY_HOOKS } },
        ],
        config: withProxied(proxy.url, join(stateDir, "workspace")),
      });
      closers.push(() => gateway.stop());
      await gateway.start();
      return { provider, receiver, proxy, gateway };
    }

    before(async () => {
      world = await build();
    });
    after(async () => {
      for (const closer of closers.splice(0).reverse()) await closer().catch(() => {});
    });

    /** @param {Agent} agent @param {string} session @param {string} message */
    const turn = (agent, session, message) =>
      withTimeout(
        world.gateway.agentTurn({ agent, session, message }),
        TURN_WITHIN_MS,
        `a turn of ${agent}`,
      ).catch((error) => console.log(`# a turn of ${agent} ended with: ${error}`));
    /** Number of an agent's requests that reached the provider. @param {Agent} agent */
    const calls = (agent) => world.provider.ledger.filter(({ model }) => model === MODELS[agent]).length;
    /** The receiver's log records of an allowance. @param {string} words @param {(metadata: any) => boolean} is */
    const told = async (words, is) => {
      const logs = await (await fetch(`${world.receiver.url}/api/logs?limit=500`)).json();
      return /** @type {any[]} */ (logs).filter(
        ({ metadata }) => metadata?.allowance === words && is(metadata),
      );
    };
    /** The warnings at 80 %. @param {string} words */
    const warnings = (words) => told(words, ({ percent }) => percent === 80);
    /** @param {string} words */
    const warned = (words) =>
      until(async () => (await warnings(words)).length > 0, `the warning of ${words}`, 30_000);

    const unanswered = async () => Number((await world.gateway.status()).brake_unanswered ?? 0);
    /**
     * Calls beyond an allowance are right only where no gate was answered within a second: these pass, and the status counts them
     * once a further question told the worker of them.
     *
     * @param {Agent} agent Its allowance is spent.
     * @param {number} excess Number of calls that should not have passed.
     * @param {number} before What the status counted before.
     */
    const passedUnchecked = async (agent, excess, before) => {
      if (excess <= 0) return;
      console.log(`# ${excess} calls of ${agent} passed beyond its allowance`);
      await turn(agent, "asked", `[[tools 1]]${CALL}`);
      const areCounted = async () => (await unanswered()) - before >= excess;
      await until(
        areCounted,
        `the count of ${excess} calls of ${agent} whose gates were not answered`,
        90_000,
      );
    };

    /** What the model, or the user, is told of a stopped call. @param {string} words */
    const reason = (words) =>
      new RegExp(`AgentWatch stopped this call by the allowance of ${words}.*agentwatch allow 1h`);

    describe("by the plugin's hooks", () => {
      const WORDS = "0.010 USD a month for agent main";

      test("without a gate of runs, tools are refused, also of eight runs at once", async () => {
        const words = "0.020 USD a month for agent tools";
        const before = await unanswered();
        const refused = () => bodies.filter((body) => reason(words).test(body)).length;
        for (let index = 0; index < 2; index += 1) await turn("tools", "one", CALL);
        assert.equal(calls("tools"), 2);
        await Promise.all(EIGHT.map((n) => turn("tools", `s${n}`, `[[tools 1]]${CALL}[[delay 1000]]`)));
        // Each run begins, and its model is called again, with the tool's result or with the reason of its refusal.
        assert.equal(calls("tools"), 2 + 2 * EIGHT.length);
        // Six calls fit. No gate saw these runs begin, so their calls count from their ends on: where the eight end one by one,
        // two tools fit with the calls that read their results.
        const ran = EIGHT.length - refused();
        assert.ok(ran >= 0, `${ran} tools ran`);
        await turn("tools", "one", CALL);
        assert.equal(calls("tools"), 3 + 2 * EIGHT.length, "a run without tools begins all the same");
        await passedUnchecked("tools", ran - 2, before);
      });

      test("a cent stops its agent and no other, over a kill -9 between warning and stop", async () => {
        for (let index = 0; index < 3; index += 1) await turn("main", "one", CALL);
        assert.equal(calls("main"), 3);
        await warned(WORDS);
        await world.gateway.kill();
        if (hasRunGate)
          await world.gateway.configure((entry) => {
            entry.hooks = { allowConversationAccess: true };
          });
        await world.gateway.start();
        // The new process counts from its start on.
        if (hasRunGate) {
          for (let index = 0; index < 3; index += 1) await turn("main", "one", CALL);
          await passedUnchecked("main", calls("main") - 3, 0);
        } else {
          // There is no hook before a run: its tools are refused, and the model is told why.
          await turn("main", "tools", `[[tools 1]]${CALL}`);
          assert.equal(calls("main"), 5);
          await passedUnchecked("main", reason(WORDS).test(bodies.at(-1) ?? "") ? 0 : 1, 0);
          assert.match(bodies.at(-1) ?? "", reason(WORDS));
        }
        await turn("ant", "tools", `[[tools 1]]${CALL}`);
        assert.equal(calls("ant"), 2);
        assert.doesNotMatch(bodies.at(-1) ?? "", /AgentWatch stopped/);
        assert.equal((await warnings(WORDS)).length, 1);
        const log = await readFile(world.gateway.running.log.path, "utf8");
        assert.equal(log.split(`80 % of the allowance of ${WORDS}`).length - 1, 1, log.slice(-4_000));
      });

      test("eight calls at once exceed an allowance by less than one", { skip: !hasRunGate }, async () => {
        const before = await unanswered();
        await Promise.all(EIGHT.map((n) => turn("ant", `s${n}`, `${CALL}[[delay 1000]]`)));
        const spent = calls("ant") * CALL_USD;
        assert.ok(spent > 0.02 - 2 * CALL_USD, `${spent} USD`);
        const most = Math.floor(0.02 / CALL_USD) + 1;
        await passedUnchecked("ant", calls("ant") - most, before);
      });

      test("an operator lifts it", async () => {
        const lifted = await openclawCommand(world.gateway.running, ["agentwatch", "allow", "1h"]);
        assert.equal(lifted.code, 0, lifted.all);
        assert.match(lifted.stdout, /All calls pass until/);
        const before = calls("main");
        await turn("main", "two", `[[tools 1]]${CALL}`);
        assert.equal(calls("main"), before + 2);
        assert.doesNotMatch(bodies.at(-1) ?? "", /AgentWatch stopped/);
        const status = await openclawCommand(world.gateway.running, ["agentwatch", "status"]);
        assert.match(status.stdout, /allowance +0\.010 USD a month for agent main, stop/);
        assert.match(status.stdout, /lifted until/);
      });
    });

    describe("by the proxy", () => {
      const BOXED = "0.010 USD a month for agent boxed";
      const ALL = "0.030 USD a month";

      test("a cent stops the calls of its upstream, over a kill -9 between warning and stop", async () => {
        for (let index = 0; index < 3; index += 1) await turn("boxed", "one", CALL);
        assert.equal(calls("boxed"), 3);
        await warned(BOXED);
        await world.proxy.kill();
        await world.proxy.start();
        await turn("boxed", "one", CALL);
        assert.equal(calls("boxed"), 3);
        assert.equal((await warnings(BOXED)).length, 1);
        const body = { model: MODELS.boxed, messages: [] };
        const { error } = await stopped(world.proxy.url, "/boxed/v1/chat/completions", body);
        assert.match(error.message, reason(BOXED));
        assert.deepEqual(
          { ...error, message: "" },
          { message: "", type: "requests", param: null, code: "rate_limit_exceeded" },
        );
      });

      test("a request names no agent: an allowance of all calls stops them, and one of an agent does not", async () => {
        for (let index = 0; index < 2; index += 1) await turn("through", "first", CALL);
        assert.equal(calls("through"), 2);
        // 0.009 USD of `boxed` and 0.006 USD are spent: five of eight fit.
        await Promise.all(EIGHT.map((n) => turn("through", `s${n}`, `${CALL}[[delay 1000]]`)));
        const spent = (calls("boxed") + calls("through")) * CALL_USD;
        assert.ok(spent <= 0.03 + 1e-9 && spent > 0.03 - CALL_USD, `${spent} USD`);
        const body = { model: MODELS.through, messages: [], max_tokens: 1 };
        const answer = await stopped(world.proxy.url, "/through/v1/messages", body);
        assert.deepEqual([answer.type, answer.error.type], ["error", "rate_limit_error"]);
        assert.match(answer.error.message, reason(ALL));
      });

      test("an operator lifts it", async () => {
        const lifted = await runCommand(["allow", "1h"], world.proxy.stateDir);
        assert.equal(lifted.code, 0, lifted.output);
        for (const agent of /** @type {Agent[]} */ (["boxed", "through"])) {
          const before = calls(agent);
          await turn(agent, "lifted", CALL);
          assert.equal(calls(agent), before + 1, agent);
        }
      });
    });
  });

/** Posts a call that the proxy stops. Returns the answer's body. @param {string} url @param {string} path @param {object} body */
async function stopped(url, path, body) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.equal(response.status, 429);
  // Until the month ends.
  const seconds = Number(response.headers.get("retry-after"));
  assert.ok(seconds >= 1 && seconds <= 31 * 86_400 + 3_600, `${seconds} s`);
  return response.json();
}

/**
 * A proxy with a state directory of its own, as on another machine than the gateway's.
 *
 * @param {string} providerUrl
 * @param {string} receiver
 * @param {string} stateDir
 */
async function proxyBefore(providerUrl, receiver, stateDir) {
  const { models } = withProxied("", "");
  const config = { models, plugins: { entries: { agentwatch: { config: { allowance: BY_PROXY } } } } };
  await mkdir(stateDir);
  await writeFile(join(stateDir, "openclaw.json"), JSON.stringify(config));
  const port = String(await freePort());
  const ways = [`/boxed=${providerUrl},agent=boxed`, `/through=${providerUrl}`];
  const args = ["proxy", "--port", port, ...ways.flatMap((way) => ["--upstream", way])];
  const start = () => startCommand(args, { receiver, stateDir, ready: /proxy on (http:\S+?): / });
  const proxy = {
    stateDir,
    url: `http://127.0.0.1:${port}`,
    running: await start(),
    kill: () => proxy.running.kill(),
    start: async () => {
      proxy.running = await start();
    },
  };
  return proxy;
}

/**
 * The gateway's agents: one more, and two with the proxy as their provider.
 *
 * @param {string} proxyUrl
 * @param {string} workspace
 */
function withProxied(proxyUrl, workspace) {
  const { models, agents } = baseConfig({ port: 0, token: "", workspace, providerUrl: "" });
  const { mock, mockant } = models.providers;
  const providers = {
    boxed: { ...mock, baseUrl: `${proxyUrl}/boxed/v1`, models: named(mock.models, MODELS.boxed) },
    through: { ...mockant, baseUrl: `${proxyUrl}/through`, models: named(mockant.models, MODELS.through) },
  };
  const providerOf = { tools: "mock", boxed: "boxed", through: "through" };
  const list = Object.entries(providerOf).map(([id, provider]) => ({
    id,
    workspace: `${workspace}/${id}`,
    model: { primary: `${provider}/${MODELS[/** @type {Agent} */ (id)]}`, fallbacks: [] },
  }));
  return { models: { providers }, agents: { list: [...agents.list, ...list] } };
}

/** The first of a provider's models, under another id. @template {{ id: string, name: string }} M @param {M[]} models @param {string} id */
function named(models, id) {
  return models.slice(0, 1).map((model) => ({ ...model, id, name: id }));
}
