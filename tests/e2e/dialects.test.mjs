import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { baseConfig, nativeConfig } from "../../examples/gateway/config.mjs";
import { startGateway } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { modelCalls, startReceiver } from "../../examples/gateway/receiver.mjs";
import { snapshot, waitForTotals, withTimeout } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { runScenario } from "./scenarios.mjs";
import { startModelProxy } from "./services.mjs";

/**
 * Gateways that use Gemini's and Ollama's own APIs, and answers whose usage gateways read differently: with the
 * plugin and the proxy on the same state directory, the Models tab shows the provider's figures.
 *
 * @typedef {import("./scenarios.mjs").World & { proxyUrl: string, stateDir: string }} World
 */

/** Further agents of the gateway's configuration. */
const NATIVE = ["gem", "lama"];

/** @param {World} world @param {string} path @param {object} body */
const post = async ({ proxyUrl }, path, body) => {
  const response = await fetch(`${proxyUrl}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.equal(response.status, 200);
  return response.text();
};

/** @type {(Omit<import("./scenarios.mjs").Scenario, "run"> & { run: (world: World) => Promise<unknown> })[]} */
const scenarios = [
  {
    name: "a first call of each provider",
    expect: { answered: 2 },
    run: async ({ gateway }) => {
      for (const agent of ["main", "ant"])
        await gateway.agentTurn({ agent, session: "first", message: "hello" });
    },
  },
  // The plugin waits for the proxy from its first call of a provider on; before that, the gateway's own figures count, which are wrong on
  // 2026.3.13 where a part of Gemini's prompt is cached.
  {
    name: "warm-up",
    expect: { answered: 4 },
    run: async ({ gateway }) => {
      await gateway.warmUp();
      for (const agent of NATIVE)
        await gateway.agentTurn({ agent, session: "warm-up", message: "hello [[usage 300 0 0 30]]" });
    },
  },
  ...NATIVE.flatMap((agent) => [
    {
      name: `turns of ${agent}`,
      expect: { answered: 3 },
      run: async (/** @type {World} */ { gateway }) => {
        for (let turn = 1; turn <= 3; turn += 1)
          await gateway.agentTurn({ agent, session: "turns", message: `turn ${turn}` });
      },
    },
    {
      name: `two rounds of tools of ${agent}`,
      expect: { answered: 3 },
      run: (/** @type {World} */ { gateway }) =>
        gateway.agentTurn({ agent, session: "tools", message: "read it twice [[tools 2]]" }),
    },
    {
      name: `two sessions of ${agent} at the same moment, equal usage`,
      expect: { answered: 2 },
      run: (/** @type {World} */ { gateway }) =>
        Promise.all(
          ["twin-1", "twin-2"].map((session) =>
            gateway.agentTurn({ agent, session, message: "hello [[together 2]] [[usage 500 0 0 50]]" }),
          ),
        ),
    },
  ]),
  {
    name: "thoughts, and what tools put into a prompt, of Gemini",
    expect: { answered: 2 },
    run: async ({ gateway }) => {
      for (const message of ["think [[reasoning 405]]", "look [[tooluse 10309]]"])
        await gateway.agentTurn({ agent: "gem", session: "thoughts", message });
    },
    check: (entries) =>
      assert.deepEqual(
        entries.map(({ usage }) => [usage?.reasoning, usage?.toolUse]),
        [
          [445, 0],
          [40, 10309],
        ],
      ),
  },
  {
    name: "reasoning in a chat completion",
    expect: { answered: 3 },
    run: ({ gateway }) =>
      gateway.agentTurn({ session: "reasoning", message: "think [[tools 2]] [[reasoning 300]]" }),
  },
  {
    name: "a compaction within an answer of Anthropic",
    expect: { answered: 1 },
    run: ({ gateway }) =>
      gateway.agentTurn({ agent: "ant", session: "iterations", message: "go on [[compaction 18000 350]]" }),
  },
  {
    name: "a client that asks for a compacted response, and for Gemini's answers in each form",
    expect: { answered: 4 },
    run: async (world) => {
      await post(world, "/mock/v1/responses/compact", { model: "m1", input: [] });
      const contents = [{ role: "user", parts: [{ text: "hello" }] }];
      for (const action of ["generateContent", "streamGenerateContent", "streamGenerateContent?alt=sse"])
        await post(world, `/mockgem/v1beta/models/g1:${action}`, { contents });
    },
  },
];

for (const version of versions) {
  describe(`OpenClaw ${version}, plugin and proxy at once`, { skip }, () => {
    /** @type {(() => Promise<unknown>)[]} */
    const closers = [];
    /** @type {World & { receiver: import("../../examples/gateway/receiver.mjs").Receiver }} */
    let world;
    before(async () => {
      world = await start(version, closers);
    });
    after(async () => {
      for (const closer of closers.splice(0).reverse()) await closer().catch(() => {});
    });

    for (const scenario of scenarios)
      test(scenario.name, async () => {
        const { provider, receiver } = world;
        const since = await snapshot(provider, receiver);
        const run = () => scenario.run(world);
        await withTimeout(runScenario({ ...scenario, run }, world), 120_000, scenario.name);
        // The plugin waits for the proxy, and for the session store where a call has no turn.
        await waitForTotals(provider, receiver, { since, settleMs: 500, timeoutMs: 60_000 });
      });

    test("all scenarios together, each call once", () =>
      waitForTotals(world.provider, world.receiver, { settleMs: 5_000 }));
    test("the gateway owns the journal, though the proxy started before it", async () => {
      const owner = JSON.parse(await readFile(join(world.stateDir, "agentwatch", "owner.json"), "utf8"));
      assert.equal(owner.role, "gateway");
    });
    test("each call has the fields that only the proxy knows", async () => {
      const calls = await modelCalls(world.receiver);
      assert.deepEqual(
        calls.filter(({ ttfb_ms }) => ttfb_ms === null),
        [],
      );
    });
  });
}

/** @param {string} version @param {(() => Promise<unknown>)[]} closers */
async function start(version, closers) {
  const stateDir = await mkdtemp(join(tmpdir(), "agentwatch-dialects-"));
  closers.push(() => rm(stateDir, { recursive: true, force: true, maxRetries: 5 }));
  const provider = await createProvider({ delayMs: 100 });
  closers.push(provider.close);
  const receiver = await startReceiver({ binary });
  closers.push(receiver.stop);
  const workspace = join(stateDir, "workspace");
  const { baseUrl } = provider;
  const base = baseConfig({ port: 0, token: "", workspace, providerUrl: baseUrl });
  // The proxy's prices.
  const { providers } = nativeConfig({ gemini: baseUrl, ollama: baseUrl }, workspace);
  const models = { ...base.models, providers: { ...base.models.providers, ...providers } };
  await writeFile(join(stateDir, "openclaw.json"), JSON.stringify({ models }));
  const proxy = await startModelProxy({
    receiver: receiver.url,
    stateDir,
    openai: baseUrl,
    anthropic: baseUrl,
    native: baseUrl,
  });
  closers.push(proxy.stop);
  const native = nativeConfig(
    { gemini: `${proxy.url}/mockgem`, ollama: `${proxy.url}/mockollama` },
    workspace,
  );
  for (const { id, workspace } of native.agents) {
    await mkdir(workspace, { recursive: true });
    await writeFile(join(workspace, "note.txt"), "A note for the tool rounds.\n");
    await mkdir(join(stateDir, "agents", id, "agent"), { recursive: true });
  }
  const gateway = await startGateway({
    version,
    providerUrl: baseUrl,
    stateDir,
    plugins: tgz ? [{ id: "agentwatch", tgz, config: { url: receiver.url } }] : [],
    config: {
      models: {
        providers: {
          mock: { baseUrl: `${proxy.url}/mock/v1` },
          mockant: { baseUrl: `${proxy.url}/mockant` },
          ...native.providers,
        },
      },
      agents: { list: [...base.agents.list, ...native.agents] },
    },
  });
  closers.push(gateway.stop);
  return { provider, receiver, gateway, proxyUrl: proxy.url, stateDir };
}
