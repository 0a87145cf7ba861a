// A gateway that records fifty answers and then ends: `node ending-gateway.mjs <state directory> <url> <how>`.
import { mkdtempSync } from "node:fs";
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
/** @type {any} */
let onMessage;
plugin.register({
  pluginConfig: { url },
  logger: silent,
  runtime: { state: { resolveStateDir: () => stateDir } },
  on: (/** @type {string} */ hook, /** @type {any} */ handler) => {
    if (hook === "before_message_write") onMessage = handler;
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

const usage = { output: 1, cacheRead: 0, cacheWrite: 0, cost: { total: 0.25 } };
for (let tokens = 1; tokens <= 50; tokens += 1) {
  const rest = { role: "assistant", provider: "p", model: "m", stopReason: "stop", timestamp: Date.now() };
  onMessage(
    { message: { ...rest, usage: { input: tokens, ...usage } } },
    { agentId: "main", sessionKey: "agent:main:s" },
  );
  if (tokens % 10 === 0) await sleep(how === "idle" ? 0 : 20);
  // The first 40 answers are on disk; the last ten may be or not.
  if (tokens === 40 && how.endsWith("-now")) await journalled();
}
const signal = how.startsWith("term") ? "SIGTERM" : "SIGKILL";
if (how === "exit") process.exit(0);
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
