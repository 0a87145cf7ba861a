// A gateway that records fifty answers and then ends: `node ending-gateway.mjs <state directory> <url> <how>`. Where it ends
// `busy`, it also gets fifty messages, and blocked-worker.mjs blocks its worker.
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Ring } from "../../dist/base.js";

const [stateDir = "", url = "", how = ""] = process.argv.slice(2);
process.disconnect?.();
process.chdir(mkdtempSync(join(tmpdir(), "agentwatch-ending-")));
const { default: plugin } = await import(new URL("../../dist/plugin.js", import.meta.url).href);
const silent = { info: () => {}, warn: () => {} };
/** @type {any} */
let service;
/** @type {Record<string, any>} */
const handlers = {};
plugin.register({
  pluginConfig: { url },
  logger: silent,
  runtime: { state: { resolveStateDir: () => stateDir } },
  on: (/** @type {string} */ hook, /** @type {any} */ handler) => {
    handlers[hook] = handler;
  },
  registerService: (/** @type {any} */ given) => {
    service = given;
  },
});
if (how !== "idle") await service.start({ stateDir, config: {}, logger: silent });

/** Waits until every event so far is in the journal: the worker acknowledges it only then. */
async function journalled() {
  const { recorder } = /** @type {any} */ (globalThis)[Symbol.for("agentwatch-openclaw/2")];
  for (const end = performance.now() + 30_000; !new Ring(recorder.memory).isEmpty; await sleep(10))
    if (performance.now() > end) throw new Error("the events are not in the journal within 30 s");
}

const { BLOCK_WHEN = "", BLOCKED = "" } = process.env;
const context = { agentId: "main", sessionKey: "agent:main:s" };
const usage = { output: 1, cacheRead: 0, cacheWrite: 0, cost: { total: 0.25 } };
for (let tokens = 1; tokens <= 50; tokens += 1) {
  const rest = { role: "assistant", provider: "p", model: "m", stopReason: "stop", timestamp: Date.now() };
  handlers.before_message_write({ message: { ...rest, usage: { input: tokens, ...usage } } }, context);
  if (how.startsWith("busy"))
    handlers.message_received({ content: "hello", from: "somebody" }, { ...context, channelId: "telegram" });
  if (tokens % 10 === 0) await sleep(how === "idle" ? 0 : 20);
  // The first 40 answers are on disk; the last ten may be or not.
  if (tokens === 40 && how.endsWith("-now")) await journalled();
  if (tokens === 40 && how.startsWith("busy")) {
    await journalled();
    writeFileSync(BLOCK_WHEN, "");
    // The last ten come to a worker that is blocked already.
    while (how === "busy-before" && !existsSync(BLOCKED)) await sleep(1);
  }
}
const signal = how.startsWith("term") ? "SIGTERM" : "SIGKILL";
if (how === "exit" || how.startsWith("busy")) process.exit(0);
if (how === "throw")
  setTimeout(() => {
    throw new Error("an uncaught exception");
  });
if (how === "reject") void Promise.reject(new Error("an unhandled rejection"));
// As OpenClaw stops.
if (how === "term-stops") process.once("SIGTERM", () => service.stop().then(() => process.exit(0)));
if (how.endsWith("-now") || how === "term-stops") process.kill(process.pid, signal);
if (how === "kill") {
  await journalled();
  process.kill(process.pid, signal);
}
