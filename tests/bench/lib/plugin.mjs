// The built plugin in this process, registered as a gateway does it, with a state directory and diagnostics.
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The folder of the measured build; `BENCH_DIST` names another one. */
export const DIST = process.env.BENCH_DIST ?? fileURLToPath(new URL("../../../dist", import.meta.url));

/**
 * The shim's exports, also of builds in which each module is a file, or whose core is two WebAssembly modules.
 *
 * @returns {Promise<any>}
 */
export async function shim() {
  const load = (/** @type {string} */ name) => import(pathToFileURL(join(DIST, `${name}.js`)).href);
  const apart = ["base", "pipeline"].filter((name) => existsSync(join(DIST, `${name}.js`)));
  const parts = await Promise.all(["plugin", ...apart].map(load));
  const all = Object.assign({}, ...parts);
  return { instantiateIo: all.instantiate, ...all };
}

/** Interval of checks while the plugin sends, in ms. */
const SETTLE_MS = 250;

async function statusOf() {
  const shared = /** @type {any} */ (globalThis)[Symbol.for("agentwatch-openclaw/2")];
  // Builds without a worker can be measured too.
  const before = /** @type {any} */ (globalThis)[Symbol.for("agentwatch-openclaw/1")];
  if (before) return before.pipeline?.status() ?? before.ended;
  return { ...shared.ended, ...(await shared.recorder?.status()) };
}

/** @param {string} folder */
function writeSdk(folder) {
  mkdirSync(folder, { recursive: true });
  const exports = { "./plugin-sdk/diagnostic-runtime": "./sdk.js" };
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "openclaw", type: "module", exports }));
  writeFileSync(join(folder, "sdk.js"), "export const onInternalDiagnosticEvent = globalThis.__listen;");
}

/** Loads, registers and starts it. @param {Record<string, unknown>} config */
export async function startPlugin(config) {
  const begun = process.threadCpuUsage();
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-bench-"));
  const stateDir = join(folder, "state");
  mkdirSync(stateDir);
  writeSdk(join(folder, "node_modules", "openclaw"));
  // A copy, as on gateways: the SDK is resolved from its folder.
  cpSync(DIST, join(folder, "dist"), { recursive: true });
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  const { user, system } = process.threadCpuUsage(begun);
  /** @type {Map<string, ((event: unknown, ctx: unknown) => unknown)[]>} */
  const handlers = new Map();
  /** @type {((event: unknown) => void) | undefined} */
  let listener;
  Object.assign(globalThis, {
    __listen: (/** @type {any} */ given) => {
      listener = given;
      return () => {};
    },
  });
  const log = /** @type {string[]} */ ([]);
  const logger = { info: () => {}, warn: (/** @type {string} */ text) => void log.push(text) };
  /** @type {any} */
  let service;
  const { default: plugin } = await import(pathToFileURL(join(folder, "dist", "plugin.js")).href);
  plugin.register({
    registrationMode: "full",
    pluginConfig: config,
    logger,
    runtime: { state: { resolveStateDir: () => stateDir } },
    on: (/** @type {string} */ hook, /** @type {any} */ handler) =>
      handlers.set(hook, [...(handlers.get(hook) ?? []), handler]),
    registerHook() {},
    registerService: (/** @type {any} */ given) => {
      service = given;
    },
  });
  await service.start({ stateDir, config: {}, logger });
  return {
    /** The plugin's handler that records an event; gates, which are registered after it, are not asked. @param {import("./events.mjs").Told} told */
    handle: ({ hook, event, ctx }) => {
      if (hook) handlers.get(hook)?.at(0)?.(event, ctx);
      else listener?.(event);
    },
    /** Asks the gate before a tool. @param {object} ctx */
    ask: (ctx) => handlers.get("before_tool_call")?.at(-1)?.({}, ctx),
    /** Waits until all due records are sent. */
    settle: async () => {
      // The status has no events that are still in the ring.
      await sleep(2 * SETTLE_MS);
      for (let { waiting, records_waiting } = await statusOf(); waiting + records_waiting > 0; ) {
        await sleep(SETTLE_MS);
        ({ waiting, records_waiting } = await statusOf());
      }
    },
    stop: () => service.stop(),
    stateDir,
    /** CPU of the copying, in ms: on a gateway the installation does it. */
    copiedMs: (user + system) / 1_000,
    /** Its warnings. */
    log,
    status: statusOf,
    remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
}
