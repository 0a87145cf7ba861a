// The built plugin in this process, registered as a gateway does it, with a state directory and diagnostics.
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The build that is measured: another one where `BENCH_DIST` names its folder. */
export const DIST = process.env.BENCH_DIST ?? fileURLToPath(new URL("../../../dist", import.meta.url));

/**
 * What the shim exports. A build in which each script still has a file of its own, or whose core is two WebAssembly modules,
 * can be measured too.
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

/** How often a plugin that sends is looked at, in ms. */
const SETTLE_MS = 250;

async function statusOf() {
  const shared = /** @type {any} */ (globalThis)[Symbol.for("agentwatch-openclaw/2")];
  // A build without a worker can be measured too.
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
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-bench-"));
  const stateDir = join(folder, "state");
  mkdirSync(stateDir);
  writeSdk(join(folder, "node_modules", "openclaw"));
  // A copy, as gateways load it: the SDK is found from there.
  cpSync(DIST, join(folder, "dist"), { recursive: true });
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  /** @type {Map<string, (event: unknown, ctx: unknown) => void>} */
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
    on: (/** @type {string} */ hook, /** @type {any} */ handler) => handlers.set(hook, handler),
    registerHook() {},
    registerService: (/** @type {any} */ given) => {
      service = given;
    },
  });
  await service.start({ stateDir, config: {}, logger });
  return {
    /** What the plugin does with one event; undefined where it hears none of it. @param {import("./events.mjs").Told} told */
    handle: ({ hook, event, ctx }) => {
      if (hook) handlers.get(hook)?.(event, ctx);
      else listener?.(event);
    },
    /** Waits until everything that is to be sent by now was sent. */
    settle: async () => {
      // What is in the ring yet is not in the status.
      await sleep(2 * SETTLE_MS);
      for (let { waiting, records_waiting } = await statusOf(); waiting + records_waiting > 0; ) {
        await sleep(SETTLE_MS);
        ({ waiting, records_waiting } = await statusOf());
      }
    },
    stop: () => service.stop(),
    /** What it warned of. */
    log,
    status: statusOf,
    remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
}
