import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startGateway } from "../../examples/gateway/gateway.mjs";
import { launch } from "../../examples/gateway/process.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/** @typedef {import("../../examples/gateway/provider.mjs").Provider} Provider */
/** @typedef {import("../../examples/gateway/gateway.mjs").Gateway} Gateway */
/** @typedef {Awaited<ReturnType<typeof startReceiver>>} Receiver */

/**
 * What both sides say about a model: the provider's ledger and the receiver's Models tab.
 *
 * @typedef {{ model: string, requests: number, prompt_tokens: number, completion_tokens: number, cost_usd: number }} Totals
 */

/**
 * @typedef {object} WorldOptions
 * @property {string} version Of OpenClaw.
 * @property {string} [tgz] The packed plugin; without it the gateway runs bare.
 * @property {string} [pluginId]
 * @property {object} [pluginConfig] `url` is set to the receiver's.
 * @property {ReceiverOptions} [receiver]
 * @property {import("../../examples/gateway/provider.mjs").ProviderOptions} [provider]
 * @property {Partial<import("../../examples/gateway/gateway.mjs").GatewayOptions>} [gateway]
 * @property {boolean} [warmUp] A first turn of each agent (default: yes).
 */

/** @typedef {Awaited<ReturnType<typeof startWorld>>} World */

/**
 * A provider, a receiver and a gateway with the plugin between them, all on the loopback interface. `close` ends all
 * of them, whatever state they are in.
 *
 * @param {WorldOptions} options
 */
export async function startWorld({ version, tgz, pluginId = "agentwatch", pluginConfig = {}, ...options }) {
  /** @type {(() => Promise<unknown>)[]} */
  const closers = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer().catch(() => {});
  };
  try {
    const provider = await createProvider({ delayMs: 100, ...options.provider });
    closers.push(provider.close);
    const receiver = await startReceiver(options.receiver);
    closers.push(receiver.stop);
    const plugins = tgz ? [{ id: pluginId, tgz, config: { url: receiver.url, ...pluginConfig } }] : [];
    const gateway = await startGateway({
      version,
      providerUrl: provider.baseUrl,
      plugins,
      ...options.gateway,
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
 * @typedef {object} ReceiverOptions
 * @property {string} [binary] Default: the newer of cargo's two.
 * @property {string[]} [args] Default: a database in memory.
 * @property {number} [port] Default: a free one.
 * @property {string} [token]
 */

/** @param {ReceiverOptions} [options] */
export async function startReceiver({ binary, args = ["--db", ":memory:"], port = 0, token } = {}) {
  const log = join(tmpdir(), `agentwatch-receiver-${process.pid}.log`);
  const env = { PATH: process.env.PATH ?? "", ...(token ? { AGENTWATCH_TOKEN: token } : {}) };
  const child = launch(binary ?? (await newestReceiver()), ["--port", String(port), ...args], { env, log });
  const line = /agentwatch-receiver listening on (http:\/\/[^/\s]+)/;
  for (const deadline = Date.now() + 10_000; !line.test(child.recent()); await sleep(25)) {
    if (child.running() && Date.now() < deadline) continue;
    await child.kill();
    throw new Error(`the receiver did not start:\n${child.recent()}`);
  }
  const url = line.exec(child.recent())?.[1] ?? "";
  return {
    url,
    token,
    pid: child.pid,
    log: child.recent,
    ended: child.ended,
    stop: child.stop,
    kill: child.kill,
  };
}

async function newestReceiver() {
  const built = ["debug", "release"].map((profile) =>
    join(PROJECT, "target", profile, "agentwatch-receiver"),
  );
  const found = await Promise.all(
    built.map((path) =>
      stat(path)
        .then(({ mtimeMs }) => ({ path, mtimeMs }))
        .catch(() => undefined),
    ),
  );
  const newest = found.filter((file) => file !== undefined).sort((a, b) => b.mtimeMs - a.mtimeMs)[0];
  if (!newest) throw new Error("no receiver: run cargo build -p agentwatch-receiver");
  return newest.path;
}

/**
 * What the Models tab shows.
 *
 * @param {string | { url: string, token?: string | undefined }} receiver
 * @returns {Promise<(Totals & { avg_latency_ms: number | null })[]>}
 */
export async function modelStats(receiver) {
  const { url, token } = typeof receiver === "string" ? { url: receiver, token: undefined } : receiver;
  const headers = new Headers(token ? { authorization: `Bearer ${token}` } : {});
  const response = await fetch(`${url}/api/model-stats?hours=720`, { headers });
  if (!response.ok) throw new Error(`GET /api/model-stats: ${response.status} ${await response.text()}`);
  const rows = await response.json();
  return rows.map((/** @type {any} */ { total_cost_usd, ...row }) => ({ ...row, cost_usd: total_cost_usd }));
}

/**
 * @typedef {object} WaitOptions
 * @property {number} [timeoutMs]
 * @property {number} [settleMs] How long both have to stay equal: a call counted twice is often counted late.
 * @property {Snapshot} [since] Only what came after it; otherwise all there is.
 * @property {(entry: import("../../examples/gateway/provider.mjs").LedgerEntry) => boolean} [among]
 */

/** @typedef {{ sent: Totals[], shown: Totals[] }} Snapshot */

/**
 * Waits until the receiver shows exactly what the provider sent.
 *
 * @param {Provider} provider
 * @param {string | { url: string, token?: string | undefined }} receiver
 * @param {WaitOptions} [options]
 */
export async function waitForTotals(provider, receiver, options = {}) {
  const { timeoutMs = 10_000, settleMs = 1500, since = { sent: [], shown: [] }, among } = options;
  const deadline = Date.now() + timeoutMs;
  /** @type {string[]} */
  let differences = [];
  for (let equalSince = 0; ; await sleep(100)) {
    const now = await snapshot(provider, receiver, among);
    differences = compareTotals(minus(now.sent, since.sent), minus(now.shown, since.shown));
    if (differences.length > 0) equalSince = 0;
    else equalSince ||= Date.now();
    if (equalSince && Date.now() - equalSince >= settleMs) return;
    if (!equalSince && Date.now() > deadline) break;
  }
  throw new Error(`the receiver does not show what the provider sent:\n${differences.join("\n")}`);
}

/**
 * @param {Provider} provider
 * @param {string | { url: string, token?: string | undefined }} receiver
 * @param {WaitOptions["among"]} [among]
 * @returns {Promise<Snapshot>}
 */
export async function snapshot(provider, receiver, among) {
  return { sent: provider.totals(among), shown: await modelStats(receiver) };
}

/** @param {Totals[]} rows @param {Totals[]} before */
function minus(rows, before) {
  const earlier = new Map(before.map((row) => [row.model, row]));
  return rows
    .map((row) => {
      const {
        requests = 0,
        prompt_tokens = 0,
        completion_tokens = 0,
        cost_usd = 0,
      } = earlier.get(row.model) ?? {};
      return {
        model: row.model,
        requests: row.requests - requests,
        prompt_tokens: row.prompt_tokens - prompt_tokens,
        completion_tokens: row.completion_tokens - completion_tokens,
        cost_usd: row.cost_usd - cost_usd,
      };
    })
    .filter((row) => COUNTS.some((field) => row[field] !== 0) || Math.abs(row.cost_usd) > COST_TOLERANCE);
}

const COST_TOLERANCE = 1e-6;
const COUNTS = /** @type {const} */ (["requests", "prompt_tokens", "completion_tokens"]);

/**
 * One readable line per difference; none when they agree. Models that had failures only are on no Models tab.
 *
 * @param {Totals[]} expected
 * @param {Totals[]} actual
 * @returns {string[]}
 */
export function compareTotals(expected, actual) {
  const wanted = new Map(expected.filter(({ requests }) => requests > 0).map((row) => [row.model, row]));
  const shown = new Map(actual.map((row) => [row.model, row]));
  return [...new Set([...wanted.keys(), ...shown.keys()])].sort().flatMap((model) => {
    const [sent, seen] = [wanted.get(model), shown.get(model)];
    if (!sent) return [`${model}: shown, but the provider sent nothing: ${JSON.stringify(seen)}`];
    if (!seen) return [`${model}: not shown; the provider sent ${JSON.stringify(sent)}`];
    const lines = COUNTS.filter((field) => sent[field] !== seen[field]).map(
      (field) =>
        `${model}: ${field} ${seen[field]} shown, ${sent[field]} sent (${seen[field] - sent[field]})`,
    );
    if (Math.abs(sent.cost_usd - seen.cost_usd) > COST_TOLERANCE) {
      lines.push(`${model}: cost_usd ${seen.cost_usd} shown, ${sent.cost_usd} sent`);
    }
    return lines;
  });
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
