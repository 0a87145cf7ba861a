import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** The receiver's binary: the tests of this folder run it beside other projects' tools. */
export const binary = process.env.AGENTWATCH_RECEIVER ?? "";

/**
 * A receiver with a database in memory.
 *
 * @param {string[]} [args]
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function startReceiver(args = []) {
  const child = spawn(binary, ["--port", "0", "--db", ":memory:", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  const url = /http:\/\/[^/]+/.exec(String(line))?.[0] ?? "";
  return { url, close: () => stop(child) };
}

/** @param {import("node:child_process").ChildProcess} child */
export async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  await once(child, "exit");
}

/**
 * @param {string} url
 * @param {unknown} batch
 * @param {Record<string, string>} [headers]
 */
export async function post(url, batch, headers = {}) {
  const answer = await fetch(`${url}/api/v1/ingest/batch`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(batch),
  });
  if (!answer.ok) throw new Error(`the receiver answered ${answer.status}: ${await answer.text()}`);
}

/** @param {string} id @param {Record<string, unknown>} [more] */
export function call(id, more = {}) {
  return {
    id,
    model: "openai/gpt-5",
    agent_name: "main",
    gateway: "g1",
    prompt_tokens: 1000,
    completion_tokens: 100,
    cache_read_tokens: 400,
    reasoning_tokens: 20,
    cost_usd: 0.5,
    cost_source: "table",
    latency_ms: 1200,
    outcome: "completed",
    ...more,
  };
}
