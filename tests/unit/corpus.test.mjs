// The answers in tests/fixtures/answers, through the proxy: each passes unchanged and is counted as its provider's
// documentation says. `crate/tests/corpus.rs` cuts them at every byte.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { get, pause, world } from "./upstream.mjs";

const FOLDER = fileURLToPath(new URL("../fixtures/answers/", import.meta.url));

/**
 * @typedef {object} Case
 * @property {string} case
 * @property {string} path
 * @property {number} [status]
 * @property {string} [asked]
 * @property {Record<string, string>} [headers]
 * @property {"cut" | "left"} [ending]
 * @property {string} [body]
 * @property {string} [base64]
 * @property {Record<string, unknown>} right
 */

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".ndjson")))
  describe(file, () => {
    const lines = readFileSync(`${FOLDER}${file}`, "utf8").trim().split("\n");
    for (const answer of lines.map((line) => /** @type {Case} */ (JSON.parse(line)))) {
      test(answer.case, () => play(answer));
    }
  });

/** @param {Case} answer */
async function play({ path, status = 200, headers = {}, ending, body, base64, right, asked }) {
  const bytes = base64 ? Buffer.from(base64, "base64") : Buffer.from(body ?? "");
  const at = await world((_, response) => {
    response.writeHead(status, headers);
    response.write(bytes, () => {
      if (ending === "cut") response.destroy();
      else if (!ending) response.end();
    });
  });
  try {
    const request = {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: asked ?? "asked" }),
    };
    if (ending === "left") await leave(`${at.url}${path}`, request, bytes.length);
    else if (ending === "cut") await assert.rejects(get(`${at.url}${path}`, request));
    else assert.deepEqual((await get(`${at.url}${path}`, request)).body, bytes);
    const [call] = await at.told(1);
    await pause(1);
    assert.equal(at.calls.length, 1);
    assert.deepEqual(shown(call, right), right);
  } finally {
    await at.close();
  }
}

/**
 * A client that leaves after it received everything so far.
 *
 * @param {string} url
 * @param {{ method: string, headers: any, body: string }} options
 * @param {number} length
 */
async function leave(url, options, length) {
  const client = new AbortController();
  const response = await fetch(url, { ...options, signal: client.signal });
  let seen = 0;
  for await (const piece of response.body ?? []) {
    seen += piece.length;
    if (seen >= length) break;
  }
  client.abort();
}

/** A call in the names of the corpus. @param {any} call @param {Record<string, unknown>} right */
function shown(call, right) {
  const { input, output, cache_read, cache_write, reasoning } = call;
  const all = {
    prompt: (input ?? 0) + (cache_read ?? 0) + (cache_write ?? 0),
    cache_read: cache_read ?? 0,
    cache_write: cache_write ?? 0,
    completion: output ?? 0,
    reasoning: reasoning ?? 0,
    outcome: call.outcome,
    usage: call.usage_source,
    cost: call.cost,
    model: call.response_model,
    id: call.response_id,
  };
  return Object.fromEntries(Object.entries(all).filter(([name]) => name in right));
}
