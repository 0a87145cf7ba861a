import { DEFAULT_PRICE } from "./provider.mjs";

/**
 * @typedef {object} GatewayPlugin
 * @property {string} id As in its `openclaw.plugin.json`.
 * @property {string} [tgz] A packed package, installed with `openclaw plugins install` as a user does.
 * @property {string} [path] Or a folder, loaded from where it is.
 * @property {object} [config] `plugins.entries.<id>.config`
 * @property {object} [entry] More of `plugins.entries.<id>`.
 */

/**
 * The gateway's configuration: two agents, `main` on the provider's OpenAI face (with a second model to fall back
 * to) and `ant` on its Anthropic one.
 *
 * @param {object} options
 * @param {string} [options.version] OpenClaw's.
 * @param {number} options.port
 * @param {string} options.token
 * @param {string} options.workspace
 * @param {string} options.providerUrl
 * @param {Record<string, import("./provider.mjs").Price>} [options.prices]
 */
export function baseConfig({ version = "", port, token, workspace, providerUrl, prices = {} }) {
  const model = (/** @type {string} */ id) => ({
    id,
    name: id,
    reasoning: false,
    input: ["text"],
    contextWindow: 128_000,
    maxTokens: 4096,
    cost: prices[id] ?? DEFAULT_PRICE,
    // 2026.3.13 asks custom servers for no usage in streams unless told that they can.
    compat: { supportsUsageInStreaming: true },
  });
  const { compat: _, ...anthropicModel } = model("a1");
  const endpoints = { chatCompletions: { enabled: true }, responses: { enabled: true } };
  return {
    gateway: {
      mode: "local",
      port,
      bind: "loopback",
      auth: { mode: "token", token },
      http: { endpoints },
    },
    models: {
      mode: "merge",
      providers: {
        mock: {
          baseUrl: `${providerUrl}/v1`,
          apiKey: "scripted",
          api: "openai-completions",
          models: [model("m1"), model("m2")],
        },
        mockant: {
          baseUrl: providerUrl,
          apiKey: "scripted",
          api: "anthropic-messages",
          models: [anthropicModel],
        },
      },
    },
    agents: {
      defaults: {
        workspace,
        model: { primary: "mock/m1", fallbacks: ["mock/m2"] },
        skipBootstrap: true,
        heartbeat: { every: "0m" },
        compaction: { keepRecentTokens: 2000 },
        // Room for the scenarios that run turns at the same moment.
        maxConcurrent: 8,
      },
      list: [
        { id: "main", default: true, workspace: `${workspace}/main` },
        { id: "ant", workspace: `${workspace}/ant`, model: { primary: "mockant/a1", fallbacks: [] } },
      ],
    },
    diagnostics: { enabled: true },
    plugins: { enabled: true, ...(monthOf(version) >= 9 ? { entries: BY_DAY } : {}) },
  };
}

/**
 * From 2026.9 on a gateway writes a dream diary at 3 a.m., with model calls of its own, which may be in the middle of a test.
 * The job stays, for the tests that run it.
 */
const BY_DAY = { "memory-core": { config: { dreaming: { frequency: "0 3 29 2 *" } } } };

/** @param {string} version */
export function monthOf(version) {
  return Number(version.split(".")[1] ?? 0);
}

/**
 * Two agents more: `gem` on the provider's Gemini face and `lama` on its Ollama one, by their own APIs.
 *
 * @param {{ gemini: string, ollama: string }} urls Of the provider, or of what stands before it.
 * @param {string} workspace
 */
export function nativeConfig({ gemini, ollama }, workspace) {
  const model = (/** @type {string} */ id) => ({
    id,
    name: id,
    reasoning: false,
    input: ["text"],
    contextWindow: 128_000,
    maxTokens: 4096,
    cost: DEFAULT_PRICE,
  });
  const agent = (/** @type {string} */ id, /** @type {string} */ primary) => ({
    id,
    workspace: `${workspace}/${id}`,
    model: { primary, fallbacks: [] },
  });
  return {
    providers: {
      mockgem: {
        baseUrl: `${gemini}/v1beta`,
        apiKey: "scripted",
        api: "google-generative-ai",
        models: [model("g1")],
      },
      mockollama: { baseUrl: ollama, apiKey: "scripted", api: "ollama", models: [model("o1")] },
    },
    agents: [agent("gem", "mockgem/g1"), agent("lama", "mockollama/o1")],
  };
}

/**
 * Adds plugins to a configuration. Run after `openclaw plugins install`, which rewrites the file.
 *
 * @param {any} config
 * @param {GatewayPlugin[]} plugins
 */
export function withPlugins(config, plugins) {
  const paths = plugins.flatMap(({ path }) => (path ? [path] : []));
  const entries = Object.fromEntries(
    plugins.map(({ id, config, entry }) => [id, { enabled: true, ...(config ? { config } : {}), ...entry }]),
  );
  return merge(config, {
    plugins: {
      ...(paths.length > 0 ? { load: { paths } } : {}),
      entries,
    },
  });
}

/**
 * Deep merge of plain objects; lists and scalars of the second win.
 *
 * @param {any} base
 * @param {any} over
 * @returns {any}
 */
export function merge(base, over) {
  if (!isPlain(base) || !isPlain(over)) return over === undefined ? base : over;
  const keys = new Set([...Object.keys(base), ...Object.keys(over)]);
  return Object.fromEntries(
    [...keys].map((key) => [key, key in over ? merge(base[key], over[key]) : base[key]]),
  );
}

/** @param {unknown} value */
function isPlain(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
