import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { launch } from "./process.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/** @typedef {Awaited<ReturnType<typeof startReceiver>>} Receiver */

/**
 * Where a receiver is asked: its address, or that and a token.
 *
 * @typedef {string | { url: string, token?: string | undefined }} Address
 */

/**
 * @typedef {object} ReceiverOptions
 * @property {string | undefined} [binary] Default: the newer of cargo's two.
 * @property {string[]} [args] Default: a database in memory.
 * @property {number} [port] Default: a free one.
 * @property {string} [token]
 */

/** The project's own AgentWatch, listening. @param {ReceiverOptions} [options] */
export async function startReceiver({ binary, args = ["--db", ":memory:"], port = 0, token } = {}) {
  const env = { PATH: process.env.PATH ?? "", ...(token ? { AGENTWATCH_TOKEN: token } : {}) };
  const child = launch(binary ?? (await newestReceiver()), ["--port", String(port), ...args], { env });
  const line = /agentwatch-receiver listening on (http:\/\/[^/\s]+)/;
  for (const deadline = Date.now() + 60_000; !line.test(child.recent()); await sleep(25)) {
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

/** @param {Address} receiver @param {string} path @returns {Promise<any>} */
async function read(receiver, path) {
  const { url, token } = typeof receiver === "string" ? { url: receiver, token: undefined } : receiver;
  const headers = new Headers(token ? { authorization: `Bearer ${token}` } : {});
  const response = await fetch(`${url}${path}`, { headers });
  if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

/**
 * What the Models tab shows.
 *
 * @param {Address} receiver
 * @returns {Promise<(import("./compare.mjs").Totals & { avg_latency_ms: number | null })[]>}
 */
export async function modelStats(receiver) {
  const rows = await read(receiver, "/api/model-stats?hours=720");
  return rows.map((/** @type {any} */ { total_cost_usd, ...row }) => ({ ...row, cost_usd: total_cost_usd }));
}

/**
 * The calls behind it, one by one; not in stock mode.
 *
 * @param {Address} receiver
 * @returns {Promise<any[]>}
 */
export async function modelCalls(receiver) {
  return read(receiver, "/api/model-usage?hours=720&limit=1000");
}
