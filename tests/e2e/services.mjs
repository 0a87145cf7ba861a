import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { launch } from "../../examples/gateway/process.mjs";
import { DEFAULT_PRICE } from "../../examples/gateway/provider.mjs";
import { litellm } from "../../scripts/lib/litellm.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const READY_WITHIN_MS = 120_000;

/** @typedef {{ url: string, output: () => string, stop: () => Promise<{ code: number | null }>, kill: () => Promise<unknown> }} Service */

/**
 * A command of this package, as an operator runs it beside a gateway.
 *
 * @param {string[]} args
 * @param {object} options
 * @param {string} options.receiver The receiver's address.
 * @param {string} options.stateDir
 * @param {RegExp} options.ready Matches its output once it is ready; the first group is the address, where there is one.
 * @param {Record<string, string>} [options.env]
 * @returns {Promise<Service>}
 */
export async function startCommand(args, { receiver, stateDir, ready, env = {} }) {
  const child = launch(process.execPath, [CLI, ...args], {
    env: {
      PATH: process.env.PATH ?? "",
      OPENCLAW_STATE_DIR: stateDir,
      AGENTWATCH_URL: receiver,
      ...env,
    },
    log: join(stateDir, `${args[0]}.log`),
  });
  for (const deadline = Date.now() + READY_WITHIN_MS; !ready.test(child.recent()); await sleep(25)) {
    if (child.running() && Date.now() < deadline) continue;
    await child.kill();
    throw new Error(`agentwatch-openclaw ${args[0]} did not start:\n${child.recent()}`);
  }
  return {
    url: ready.exec(child.recent())?.[1] ?? "",
    output: child.recent,
    stop: child.stop,
    kill: child.kill,
  };
}

/**
 * A command of this package that ends by itself.
 *
 * @param {string[]} args
 * @param {string} stateDir
 */
export async function runCommand(args, stateDir) {
  const child = launch(process.execPath, [CLI, ...args], {
    env: { PATH: process.env.PATH ?? "", OPENCLAW_STATE_DIR: stateDir },
  });
  const { code } = await child.ended;
  return { code, output: child.recent() };
}

/** LiteLLM's entries of the scripted provider's models, with the provider's prices. */
const MODELS = { m1: "openai", m2: "openai" };
const TOKEN = "shown-by-litellm";

/**
 * A real LiteLLM proxy between a gateway and the scripted provider, which logs to our endpoint as our documentation
 * says.
 *
 * @param {object} options
 * @param {string} options.providerUrl
 * @param {string} options.endpoint Our endpoint's address.
 * @returns {Promise<Service & { key: string }>} With the key that its clients have to send.
 */
export async function startLitellm({ providerUrl, endpoint }) {
  const program = await litellm();
  const folder = await mkdtemp(join(tmpdir(), "litellm-"));
  const port = await freePort();
  const key = `sk-${randomUUID()}`;
  const config = {
    model_list: Object.entries(MODELS).map(([name, provider]) => ({
      model_name: name,
      litellm_params: { model: `${provider}/${name}`, api_base: `${providerUrl}/v1`, api_key: "scripted" },
      model_info: {
        input_cost_per_token: DEFAULT_PRICE.input / 1e6,
        output_cost_per_token: DEFAULT_PRICE.output / 1e6,
        cache_read_input_token_cost: DEFAULT_PRICE.cacheRead / 1e6,
      },
    })),
    general_settings: { master_key: key },
    litellm_settings: { callbacks: ["agentwatch"], num_retries: 0 },
    router_settings: { num_retries: 0, disable_cooldowns: true },
    callback_settings: {
      agentwatch: {
        callback_type: "generic_api",
        endpoint,
        max_retries: 3,
        headers: { Authorization: `Bearer ${TOKEN}` },
      },
    },
  };
  const file = join(folder, "config.yaml");
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config, null, 2));
  const child = launch(program, ["--config", file, "--host", "127.0.0.1", "--port", String(port)], {
    env: {
      PATH: process.env.PATH ?? "",
      HOME: folder,
      LITELLM_LOCAL_MODEL_COST_MAP: "True",
      LITELLM_TELEMETRY: "False",
      DEFAULT_FLUSH_INTERVAL_SECONDS: "1",
    },
    log: join(folder, "litellm.log"),
    foreign: "LiteLLM",
  });
  const url = `http://127.0.0.1:${port}`;
  const isReady = () =>
    fetch(`${url}/health/liveliness`).then(
      ({ ok }) => ok,
      () => false,
    );
  for (const deadline = Date.now() + READY_WITHIN_MS; !(await isReady()); await sleep(250)) {
    if (child.running() && Date.now() < deadline) continue;
    await child.kill();
    throw new Error(`LiteLLM did not start:\n${child.recent()}`);
  }
  return {
    url,
    key,
    output: child.recent,
    kill: child.kill,
    stop: async () => {
      const end = await child.stop(5_000);
      await rm(folder, { recursive: true, force: true });
      return end;
    },
  };
}

/**
 * The endpoint for LiteLLM's log, for a gateway that knows LiteLLM as this provider.
 *
 * @param {{ receiver: string, stateDir: string, provider: string }} options
 */
export function startLitellmEndpoint({ receiver, stateDir, provider }) {
  return startCommand(["litellm", "--port", "0", "--provider", provider], {
    receiver,
    stateDir,
    ready: /litellm endpoint on (http:\S+?),?\s/,
    env: { AGENTWATCH_LITELLM_TOKEN: TOKEN },
  });
}

/**
 * The proxy, with the providers of the gateway's configuration behind it.
 *
 * @param {{ receiver: string, stateDir: string, openai: string, anthropic: string, native?: string }} options `native`:
 *   where Gemini's and Ollama's own APIs are.
 */
export function startModelProxy({ receiver, stateDir, openai, anthropic, native }) {
  const ways = [`/mock=${openai}`, `/mockant=${anthropic}`];
  if (native) ways.push(`/mockgem=${native}`, `/mockollama=${native}`);
  const upstreams = ways.flatMap((way) => ["--upstream", way]);
  return startCommand(["proxy", "--port", "0", ...upstreams], {
    receiver,
    stateDir,
    ready: /proxy on (http:\S+?): /,
  });
}
