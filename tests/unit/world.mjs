// The environment of the built plugin in tests: a state directory, a gateway that calls its handlers, a receiver that
// sums up calls, and a clock that can be set.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import "./in-thread.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const CAPTURES = join(PROJECT, "tests", "fixtures", "captures");

for (const name of ["AGENTWATCH_URL", "AGENTWATCH_TOKEN", "AGENTWATCH_AGENT_NAME", "OPENCLAW_STATE_DIR"])
  delete process.env[name];

// ---------------------------------------------------------------------------------------------------------------
// The clock

const realNow = Date.now.bind(Date);
const realMono = performance.now.bind(performance);
const clock = { wall: 0, since: 0, isSet: false };

/** Sets the wall clock, and moves the monotonic clock by the same; both run from there. @param {number} wall */
export function setClock(wall) {
  Object.assign(clock, { wall, since: realMono(), isSet: true });
  Date.now = () => Math.floor(clock.wall + realMono() - clock.since);
  performance.now = () => clock.wall - 1_790_000_000_000 + realMono() - clock.since;
}

/** Restores the real clocks. */
export function resetClock() {
  Date.now = realNow;
  performance.now = realMono;
}

// ---------------------------------------------------------------------------------------------------------------
// Captures

/**
 * @typedef {{ ts: number, hook?: string, diagnostic?: string, event: any, ctx?: any }} Recorded
 * @typedef {Record<string, { requests: number, prompt: number, completion: number, cost: number }>} Totals
 */

/** @param {string} version @param {string} file @returns {any[]} */
export function lines(version, file) {
  const text = readFileSync(join(CAPTURES, version, file), "utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** The recorded events of a gateway's plugin, in order of arrival. @param {string} version @returns {Recorded[]} */
export function recorded(version) {
  return lines(version, "events.jsonl");
}

/** The totals of its provider's answers. @param {string} version */
export function providerTotals(version) {
  /** @type {Totals} */
  const totals = {};
  for (const { model, usage, status, clientClosed } of lines(version, "provider.jsonl")) {
    if (!usage && (status !== 200 || clientClosed)) continue;
    const { input = 0, cacheRead = 0, output = 0 } = usage ?? {};
    add(
      totals,
      `mock/${model}`,
      input + cacheRead,
      output,
      (input * 3 + output * 15 + cacheRead * 0.3) / 1e6,
    );
  }
  return totals;
}

/** @param {Totals} totals @param {string} model @param {number} prompt @param {number} completion @param {number} cost */
function add(totals, model, prompt, completion, cost) {
  totals[model] ??= { requests: 0, prompt: 0, completion: 0, cost: 0 };
  const total = totals[model];
  total.requests += 1;
  total.prompt += prompt;
  total.completion += completion;
  total.cost += cost;
}

/** Compares counts exactly, and costs within 1e-6 USD. @param {Totals} actual @param {Totals} expected @param {string} [what] */
export function assertTotals(actual, expected, what) {
  const counts = (/** @type {Totals} */ totals) =>
    Object.fromEntries(
      Object.entries(totals)
        .sort()
        .map(([model, { cost, ...rest }]) => [model, rest]),
    );
  assert.deepEqual(counts(actual), counts(expected), what);
  for (const [model, { cost }] of Object.entries(actual))
    assert.ok(Math.abs(cost - (expected[model]?.cost ?? 0)) < 1e-6, `${what}: the cost of ${model}`);
}

// ---------------------------------------------------------------------------------------------------------------
// The receiver

/** An AgentWatch that knows record ids. Batches are answered when `hold` is resolved. */
export class Receiver {
  /** @type {Totals} */
  totals = {};
  /** @type {Set<string>} */
  ids = new Set();
  /** @type {{ path: string, authorization: string | undefined }[]} */
  requests = [];
  /** The cost source of each model's calls. @type {Record<string, string>} */
  costSources = {};
  /** Number of calls by agent. @type {Record<string, number>} */
  agents = {};
  /** @type {Promise<void> | undefined} */
  hold;
  /** @type {{ features: string[], reported_twice?: string[][] }} */
  capabilities = { features: ["record_ids"] };
  /** Returns the HTTP status of a batch; 200 where it is undefined. @type {(() => number) | undefined} */
  status;
  /** @type {import("node:http").Server} */
  #server;
  url = "";

  constructor() {
    this.#server = createServer((request, response) => {
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => this.#answer(request, body, response));
    });
  }

  static async open() {
    const receiver = new Receiver();
    await new Promise((resolve) => receiver.#server.listen(0, "127.0.0.1", () => resolve(undefined)));
    const address = /** @type {import("node:net").AddressInfo} */ (receiver.#server.address());
    receiver.url = `http://127.0.0.1:${address.port}`;
    return receiver;
  }

  /** @param {import("node:http").IncomingMessage} request @param {string} body @param {import("node:http").ServerResponse} response */
  async #answer(request, body, response) {
    const path = request.url ?? "";
    this.requests.push({ path, authorization: request.headers.authorization });
    response.setHeader("content-type", "application/json");
    if (path.endsWith("/capabilities")) return response.end(JSON.stringify(this.capabilities));
    const status = this.status?.() ?? 200;
    if (status === 200) for (const record of JSON.parse(body || "{}").model_usage ?? []) this.#take(record);
    await this.hold;
    response.statusCode = status;
    response.end(status === 200 ? '{"status":"ok"}' : "{}");
  }

  /** @param {any} record */
  #take({ id, model, agent_name, prompt_tokens, completion_tokens, cost_usd, cost_source }) {
    if (this.ids.has(id)) return;
    this.agents[agent_name] = (this.agents[agent_name] ?? 0) + 1;
    this.costSources[model] = cost_source;
    this.ids.add(id);
    add(this.totals, model, prompt_tokens, completion_tokens, cost_usd);
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

// ---------------------------------------------------------------------------------------------------------------
// The gateway

/** The diagnostics of a gateway's SDK: calls, sums of runs only, or none. @typedef {"calls" | "totals" | "none"} Sdk */

const SDK = {
  calls: ["diagnostic-runtime", "export const onInternalDiagnosticEvent = globalThis.__listen;"],
  totals: ["diagnostics-otel", "export const onDiagnosticEvent = globalThis.__listen;"],
  none: undefined,
};

const EXITS = /** @type {const} */ (["exit", "beforeExit"]);

/** A gateway's process with copies of the plugin's folder. */
export class Gateway {
  /** @type {Map<string, { handler: Function, priority: number, from: number }[]>} */
  handlers = new Map();
  /** @type {any[]} */
  services = [];
  /** Families of internal events that the plugin subscribed to. @type {string[]} */
  internal = [];
  /** Every line of the log. @type {string[]} */
  log = [];
  /** @type {Set<Function>} */
  #listeners = new Set();
  #registrations = 0;
  /** Earlier listeners of the process's end. @type {Function[][]} */
  #former;
  /** The filter of the diagnostics subscription. @type {{ include: string[] } | undefined} */
  filter;
  /** The gateway's own configuration. @type {object} */
  config = {};
  #folder = mkdtempSync(join(tmpdir(), "agentwatch-unit-"));
  stateDir = join(this.#folder, "state");
  logger = {
    info: (/** @type {string} */ text) => this.log.push(text),
    warn: (/** @type {string} */ text) => this.log.push(`warn ${text}`),
  };

  /** @param {Sdk} sdk */
  constructor(sdk = "calls") {
    // Removes the state of another test's gateway in this process.
    for (const key of Object.getOwnPropertySymbols(globalThis))
      if (Symbol.keyFor(key)?.startsWith("agentwatch-openclaw/")) Reflect.deleteProperty(globalThis, key);
    this.#former = EXITS.map((event) => process.listeners(event));
    const registry = /** @type {any} */ (globalThis);
    registry.__listen = (/** @type {Function} */ listener, /** @type {{ include: string[] }} */ filter) => {
      this.#listeners.add(listener);
      this.filter = filter;
      return () => this.#listeners.delete(listener);
    };
    this.tellsCalls = sdk === "calls";
    this.#writeSdk(SDK[sdk]);
    mkdirSync(this.stateDir, { recursive: true });
  }

  /** @param {string[] | undefined} module */
  #writeSdk(module) {
    const folder = join(this.#folder, "node_modules", "openclaw");
    mkdirSync(folder, { recursive: true });
    const [name = "none", text = ""] = module ?? [];
    const exports = { [`./plugin-sdk/${name}`]: "./sdk.js" };
    writeFileSync(
      join(folder, "package.json"),
      JSON.stringify({ name: "openclaw", type: "module", exports }),
    );
    writeFileSync(join(folder, "sdk.js"), text);
  }

  /** Evaluates the plugin's module from a copy of its folder. @param {string} name @param {string} [project] another checkout */
  async evaluate(name = "one", project = PROJECT) {
    const folder = this.folderOf(name);
    mkdirSync(folder, { recursive: true });
    for (const file of ["dist", "package.json", "openclaw.plugin.json"])
      cpSync(join(project, file), join(folder, file), { recursive: true });
    const module = await import(pathToFileURL(join(folder, "dist", "plugin.js")).href);
    return module.default;
  }

  /** A copy of the plugin's folder. @param {string} name */
  folderOf(name) {
    return join(this.#folder, "plugins", name);
  }

  /** Removes a copy of the plugin's folder. @param {string} name */
  remove(name) {
    rmSync(this.folderOf(name), { recursive: true });
  }

  /**
   * Registers once. Returns the index of the registration.
   *
   * @param {any} plugin
   * @param {Record<string, unknown>} pluginConfig
   * @param {string | undefined} registrationMode undefined as on 2026.3.13
   */
  register(plugin, pluginConfig, registrationMode = "full") {
    this.#registrations += 1;
    const from = this.#registrations;
    const returned = plugin.register({
      ...(this.tellsCalls ? { registrationMode } : {}),
      pluginConfig,
      logger: this.logger,
      runtime: { state: { resolveStateDir: () => this.stateDir } },
      on: (/** @type {string} */ hook, /** @type {Function} */ handler, { priority = 0 } = {}) => {
        this.handlers.set(hook, [...(this.handlers.get(hook) ?? []), { handler, priority, from }]);
      },
      registerService: (/** @type {any} */ service) => this.services.push(service),
      config: this.config,
      registerHook: (/** @type {string[]} */ events) => void this.internal.push(...events),
    });
    assert.equal(returned, undefined);
    return from;
  }

  /** Registers as OpenClaw does when it lists commands. @param {any} plugin */
  registerMetadata(plugin) {
    /** @type {string[]} */
    const commands = [];
    plugin.register({
      registrationMode: "cli-metadata",
      pluginConfig: {},
      logger: this.logger,
      // As on 2026.8.2.
      get runtime() {
        throw new Error("runtime is intentionally unavailable");
      },
      registerCli: (/** @type {unknown} */ _, /** @type {{ commands: string[] }} */ of) =>
        commands.push(...of.commands),
    });
    return commands;
  }

  /** Starts the service of one registration. @param {number} index */
  async start(index = 0) {
    await this.services[index].start({ stateDir: this.stateDir, config: this.config, logger: this.logger });
  }

  /** @param {number} index */
  async stop(index = 0) {
    await this.services[index].stop();
  }

  /**
   * Calls a typed hook's handlers, of one registration or of all; each must return undefined and not throw.
   *
   * @param {string} hook @param {unknown} event @param {unknown} ctx @param {number} [from]
   */
  emit(hook, event, ctx, from) {
    for (const one of this.handlers.get(hook) ?? [])
      if (from === undefined || one.from === from) assert.equal(one.handler(event, ctx), undefined);
  }

  /** Sends a diagnostic event. @param {unknown} event */
  tell(event) {
    for (const listener of this.#listeners) assert.equal(listener(event), undefined);
  }

  /** Number of listeners of diagnostics. */
  get listeners() {
    return this.#listeners.size;
  }

  /**
   * Replays events, with the clock set to each event's time.
   *
   * @param {Recorded[]} events @param {{ from?: number, before?: (index: number) => unknown }} [options]
   */
  async replay(events, { from, before } = {}) {
    for (const [index, { ts, hook, diagnostic, event, ctx }] of events.entries()) {
      await before?.(index);
      // The clock is set again, however long the work before took.
      setClock(ts);
      if (hook) this.emit(hook, event, ctx, from);
      else this.tell({ ...event, type: diagnostic });
      await nextTurn();
    }
    setClock((events.at(-1)?.ts ?? 0) + 5_000);
  }

  get #shared() {
    return /** @type {any} */ (globalThis)[Symbol.for("agentwatch-openclaw/2")];
  }

  /** Sends everything without a deadline, which a stop has. */
  async sendAll() {
    await this.#shared.recorder.stop(600_000);
  }

  /** Stops once everything is sent: a stop alone ends before, where the machine is slow. @param {number} [index] */
  async finish(index) {
    await this.sendAll();
    await this.stop(index);
  }

  /** The plugin's own status. */
  async status() {
    return { ...this.#shared?.ended, ...(await this.#shared?.recorder?.status()) };
  }

  close() {
    resetClock();
    // The worker is in this thread, so the process's end cannot wait for it.
    for (const [index, event] of EXITS.entries())
      for (const listener of process.listeners(event))
        if (!this.#former[index]?.includes(listener)) process.off(event, /** @type {any} */ (listener));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** An assistant's message with usage, as in `before_message_write`. @param {number} tokens @param {object} [more] */
export function answer(tokens, more = {}) {
  const usage = { input: tokens, output: 1, cacheRead: 0, cacheWrite: 0, cost: { total: 0.25 } };
  const message = {
    role: "assistant",
    provider: "p",
    model: "m",
    stopReason: "stop",
    usage,
    timestamp: Date.now(),
  };
  return { message: { ...message, ...more } };
}

/** The context of {@link message}. */
export const SESSION = { agentId: "main", sessionKey: "agent:main:s" };

/** A gateway with one registration, started and sending to a receiver. @param {Record<string, unknown>} [config] @param {Sdk} [sdk] */
export async function started(config = {}, sdk = "none") {
  const receiver = await Receiver.open();
  const gateway = new Gateway(sdk);
  const plugin = await gateway.evaluate();
  gateway.register(plugin, { url: receiver.url, ...config });
  await gateway.start();
  const close = () => {
    gateway.close();
    receiver.close();
  };
  return { gateway, receiver, plugin, close };
}
