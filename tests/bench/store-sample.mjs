#!/usr/bin/env node
// Makes a large session store: node tests/bench/store-sample.mjs <state directory> <MB>
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MB = 1024 * 1024;
/** Size of one session's file, in bytes. */
const SESSION_BYTES = 4 * MB;

const BEGIN = Date.parse("2026-10-01T08:00:00.000Z");
const WORDS =
  "the quick model reads a file and says: \"done\"\nconst answer = compute(42);\n\tif (x < y) { return 'z' } // äöü 🦀 ".split(
    " ",
  );

/** Texts like code and prose, the same in each run. */
function makeTexts() {
  let seed = 42;
  return (/** @type {number} */ length) => {
    let text = "";
    while (text.length < length) {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      text += `${WORDS[seed % WORDS.length]} `;
    }
    // A lone surrogate is JSON that some parsers refuse.
    return text.slice(0, length).toWellFormed();
  };
}

/**
 * Writes JSONL sessions of a coding agent: questions, calls of tools, their long results, answers.
 *
 * @param {string} stateDir
 * @param {number} megabytes
 * @returns {{ bytes: number, calls: number, tokens: number }}
 */
export function makeStore(stateDir, megabytes) {
  const folder = join(stateDir, "agents", "main", "sessions");
  mkdirSync(folder, { recursive: true });
  const text = makeTexts();
  const made = { bytes: 0, calls: 0, tokens: 0 };
  let at = BEGIN;
  for (let session = 0; made.bytes < megabytes * MB; session += 1) {
    const id = `00000000-0000-4000-8000-${String(session).padStart(12, "0")}`;
    const file = openSync(join(folder, `${id}.jsonl`), "w");
    const write = (/** @type {object} */ row) => {
      made.bytes += writeSync(file, `${JSON.stringify(row)}\n`);
    };
    const time = () => new Date(at).toISOString();
    write({ type: "session", version: 3, id, timestamp: time(), cwd: "/home/user/workspace" });
    const message = (/** @type {object} */ message) => {
      at += 1_500;
      write({ type: "message", id: `${made.bytes}`, parentId: null, timestamp: time(), message });
    };
    const call = (/** @type {object[]} */ content, /** @type {string} */ stopReason) => {
      made.calls += 1;
      made.tokens += 1_000;
      const usage = { input: 1_000, output: 200, cacheRead: 20_000, cacheWrite: 0, totalTokens: 21_200 };
      const cost = { input: 0.003, output: 0.003, cacheRead: 0.006, cacheWrite: 0, total: 0.012 };
      message({
        role: "assistant",
        content,
        api: "anthropic-messages",
        provider: "anthropic",
        model: "claude-sonnet-4-5",
        usage: { ...usage, cost },
        stopReason,
        timestamp: at,
        responseId: `msg_${made.calls}`,
      });
    };
    for (const start = made.bytes; made.bytes - start < Math.min(SESSION_BYTES, megabytes * MB); ) {
      message({ role: "user", content: [{ type: "text", text: text(300) }], timestamp: at });
      for (let round = 0; round < 3; round += 1) {
        const tool = {
          type: "toolCall",
          id: `call_${made.calls}`,
          name: "edit",
          arguments: { text: text(600) },
        };
        call([{ type: "thinking", thinking: text(500) }, tool], "toolUse");
        message({
          role: "toolResult",
          toolCallId: tool.id,
          content: [{ type: "text", text: text(4_000) }],
          timestamp: at,
        });
      }
      call([{ type: "text", text: text(1_500) }], "stop");
    }
    closeSync(file);
  }
  return made;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , stateDir, megabytes] = process.argv;
  if (!stateDir || !(Number(megabytes) > 0))
    throw new Error("usage: store-sample.mjs <state directory> <MB>");
  console.log(JSON.stringify(makeStore(stateDir, Number(megabytes))));
}
