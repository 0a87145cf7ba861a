import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { baseConfig } from "../../examples/gateway/config.mjs";
import { startGateway } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { modelCalls, startReceiver } from "../../examples/gateway/receiver.mjs";
import { waitForTotals, withTimeout } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { runScenario, scenarios } from "./scenarios.mjs";
import { startLitellm, startLitellmEndpoint, startModelProxy } from "./services.mjs";
import { startSync } from "./sync.mjs";

/** Scenarios in which the ways differ: rounds of tools, both wire formats, equal calls at once, retries, summaries. */
const CHOSEN =
  /warm-up|two rounds|two agents|web chat|completions, streamed|cron job|twin|same moment|equal usage|one 500|one 429|abort|without usage|compaction/;
/**
 * Where a provider reports no tokens, LiteLLM counts tokens itself, logs them as if the provider had reported them, and
 * reports them to its client too.
 */
const COUNTED_BY_LITELLM = ["stream without usage", "abort of a slow answer"];
const chosen = scenarios.filter(({ name }) => CHOSEN.test(name) && !COUNTED_BY_LITELLM.includes(name));

for (const version of versions) {
  describe(`OpenClaw ${version}, counted by the proxy only and by LiteLLM only`, { skip }, () => {
    const { start, stop, world } = chain(version);
    before(() => start({ together: false }));
    after(stop);
    for (const scenario of chosen)
      test(scenario.name, async () => {
        await withTimeout(runScenario(scenario, world()), 120_000, scenario.name);
      });

    test("the proxy's figures equal the provider's", () =>
      waitForTotals(world().provider, world().receivers.proxy, { settleMs: 2000 }));
    test("LiteLLM's figures equal the provider's", () =>
      waitForTotals(world().provider, world().receivers.litellm, {
        told: ({ api }) => (api === "openai" ? "all" : "nothing"),
        settleMs: 2000,
      }));
  });

  describe(`OpenClaw ${version}, counted in all ways at once`, { skip }, () => {
    const { start, stop, world } = chain(version);
    before(() => start({ together: true }));
    after(stop);
    for (const scenario of chosen)
      test(scenario.name, async () => {
        await withTimeout(runScenario(scenario, world()), 120_000, scenario.name);
      });

    test("each call is counted once", () =>
      waitForTotals(world().provider, world().receivers.proxy, { settleMs: 5000 }));
    test("each call has the fields that only the proxy knows", async () => {
      const calls = await modelCalls(world().receivers.proxy);
      const silent = calls.filter(({ ttfb_ms }) => ttfb_ms === null);
      assert.deepEqual(silent, []);
    });
  });
}

/**
 * gateway → this proxy → LiteLLM (OpenAI) → provider. Apart, each way has its own state directory and receiver;
 * together all have the gateway's, beside the plugin.
 *
 * @param {string} version
 */
function chain(version) {
  /** @type {(() => Promise<unknown>)[]} */
  const closers = [];
  /** @template {{ stop: () => Promise<unknown> }} T @param {T} what */
  const kept = (what) => {
    closers.push(what.stop);
    return what;
  };
  /** @type {Awaited<ReturnType<typeof build>> | undefined} */
  let built;

  /** @param {{ together: boolean }} how */
  async function build({ together }) {
    const folder = await mkdtemp(join(tmpdir(), "agentwatch-ways-"));
    closers.push(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
    const provider = await createProvider({ delayMs: 100 });
    closers.push(provider.close);
    const receiver = async () => kept(await startReceiver({ binary }));
    const first = await receiver();
    const receivers = { proxy: first, litellm: together ? first : await receiver() };
    const { models } = baseConfig({ port: 0, token: "", workspace: "", providerUrl: provider.baseUrl });
    /** A state directory with a gateway's configuration, whose prices hold. @param {string} name */
    const stateDir = async (name) => {
      const path = join(folder, together ? "gateway" : name);
      await mkdir(path, { recursive: true });
      await writeFile(join(path, "openclaw.json"), JSON.stringify({ models }));
      return path;
    };
    const endpoint = kept(
      await startLitellmEndpoint({
        receiver: receivers.litellm.url,
        stateDir: await stateDir("litellm"),
        provider: "mock",
      }),
    );
    const between = kept(await startLitellm({ providerUrl: provider.baseUrl, endpoint: endpoint.url }));
    const proxy = kept(
      await startModelProxy({
        receiver: receivers.proxy.url,
        stateDir: await stateDir("proxy"),
        openai: between.url,
        anthropic: provider.baseUrl,
      }),
    );
    const gateway = kept(
      await startGateway({
        version,
        providerUrl: provider.baseUrl,
        stateDir: await stateDir("gateway"),
        plugins: together && tgz ? [{ id: "agentwatch", tgz, config: { url: first.url } }] : [],
        config: {
          models: {
            providers: {
              mock: { baseUrl: `${proxy.url}/mock/v1`, apiKey: between.key },
              mockant: { baseUrl: `${proxy.url}/mockant` },
            },
          },
        },
      }),
    );
    if (together) kept(startSync(gateway.stateDir, first.url, "--watch"));
    return { provider, receivers, gateway };
  }

  return {
    start: async (/** @type {{ together: boolean }} */ how) => {
      built = await build(how);
    },
    stop: async () => {
      for (const closer of closers.splice(0).reverse()) await closer().catch(() => {});
    },
    world: () => built ?? assert.fail("nothing was started"),
  };
}
