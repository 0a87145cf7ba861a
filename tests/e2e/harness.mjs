import { setTimeout as sleep } from "node:timers/promises";
import { compareTotals, minus } from "../../examples/gateway/compare.mjs";
import { differing } from "../../examples/gateway/differing.mjs";
import { startGateway } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { modelCalls, modelStats, startReceiver } from "../../examples/gateway/receiver.mjs";

/** @typedef {import("../../examples/gateway/provider.mjs").Provider} Provider */
/** @typedef {import("../../examples/gateway/provider.mjs").LedgerEntry} LedgerEntry */
/** @typedef {import("../../examples/gateway/gateway.mjs").Gateway} Gateway */
/** @typedef {import("../../examples/gateway/receiver.mjs").Receiver} Receiver */
/** @typedef {import("../../examples/gateway/receiver.mjs").ReceiverOptions} ReceiverOptions */
/** @typedef {import("../../examples/gateway/receiver.mjs").Address} Address */
/** @typedef {import("../../examples/gateway/compare.mjs").Totals} Totals */

// Without these handlers a signal would end this process without its exit handlers, which stop the gateways.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/**
 * @typedef {object} WorldOptions
 * @property {string} version OpenClaw's version.
 * @property {string} [tgz] The packed plugin; without it the gateway has no plugin.
 * @property {string} [pluginId]
 * @property {object} [pluginConfig] `url` is the receiver's.
 * @property {object} [pluginEntry] More of `plugins.entries.<id>`.
 * @property {(url: string) => Promise<{ url: string, close: () => Promise<unknown> }>} [between] Makes a network
 *   between the plugin and the receiver, and returns its address.
 * @property {ReceiverOptions | (() => Promise<Receiver>)} [receiver] Our receiver's options, or what starts another one.
 * @property {import("../../examples/gateway/provider.mjs").ProviderOptions} [provider]
 * @property {Partial<import("../../examples/gateway/gateway.mjs").GatewayOptions>} [gateway]
 * @property {boolean} [warmUp] A first turn of each agent (default: yes).
 */

/** @typedef {Awaited<ReturnType<typeof startWorld>>} World */

/**
 * A provider, a receiver and a gateway with the plugin, all on the loopback interface. `close` stops all of them, also
 * while they start.
 *
 * @param {WorldOptions} options
 */
export async function startWorld({
  version,
  tgz,
  pluginId = "agentwatch",
  pluginConfig = {},
  pluginEntry,
  ...options
}) {
  /** @type {(() => Promise<unknown>)[]} */
  const closers = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer().catch(() => {});
  };
  try {
    const provider = await createProvider({ delayMs: 100, ...options.provider });
    closers.push(provider.close);
    const start = options.receiver;
    const receiver = await (typeof start === "function" ? start() : startReceiver(start));
    closers.push(receiver.stop);
    const between = await options.between?.(receiver.url);
    if (between) closers.push(between.close);
    const { url } = between ?? receiver;
    const ours = tgz ? [{ id: pluginId, tgz, config: { url, ...pluginConfig }, entry: pluginEntry }] : [];
    const gateway = await startGateway({
      version,
      providerUrl: provider.baseUrl,
      ...options.gateway,
      plugins: [...(options.gateway?.plugins ?? []), ...ours],
    });
    closers.push(gateway.stop);
    if (options.warmUp !== false) await gateway.warmUp();
    return { provider, receiver, gateway, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * @typedef {object} WaitOptions
 * @property {number} [timeoutMs]
 * @property {number} [settleMs] How long both have to stay equal: a second count of a call often comes late.
 * @property {Snapshot} [since] Compares only later requests; otherwise all.
 * @property {(entry: LedgerEntry) => import("../../examples/gateway/provider.mjs").Told} [told] Default: everything of each request.
 */

/** @typedef {{ sent: Totals[], shown: Totals[] }} Snapshot */

/** Number of requests and calls that an error names. */
const MOST_CALLS_NAMED = 20;

/**
 * Waits until the receiver's totals equal the provider's.
 *
 * @param {Provider} provider
 * @param {Address} receiver
 * @param {WaitOptions} [options]
 */
export async function waitForTotals(provider, receiver, options = {}) {
  const { timeoutMs = 30_000, settleMs = 1500, since = { sent: [], shown: [] }, told } = options;
  const deadline = Date.now() + timeoutMs;
  /** @type {string[]} */
  let differences = [];
  for (let equalSince = 0; ; await sleep(100)) {
    const now = await snapshot(provider, receiver, told);
    differences = compareTotals(minus(now.sent, since.sent), minus(now.shown, since.shown));
    if (differences.length > 0) equalSince = 0;
    else equalSince ||= Date.now();
    if (equalSince && Date.now() - equalSince >= settleMs) return;
    if (!equalSince && Date.now() > deadline) break;
  }
  // The totals differ, whatever becomes of the list.
  const shown = await modelCalls(receiver).catch(() => []);
  const calls = differing(provider.requests(), shown).slice(0, MOST_CALLS_NAMED);
  const text = [...differences, ...calls].join("\n");
  throw new Error(`the receiver does not show what the provider sent:\n${text}`);
}

/**
 * @param {Provider} provider
 * @param {Address} receiver
 * @param {WaitOptions["told"]} [told]
 * @returns {Promise<Snapshot>}
 */
export async function snapshot(provider, receiver, told) {
  return { sent: provider.totals(told), shown: await modelStats(receiver) };
}

/**
 * @template T
 * @param {Promise<T>} work
 * @param {number} timeoutMs
 * @param {string} what
 * @returns {Promise<T>}
 */
export async function withTimeout(work, timeoutMs, what) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, /** @type {Promise<never>} */ (late)]);
  } finally {
    clearTimeout(timer);
  }
}
