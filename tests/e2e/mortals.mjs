import { readFileSync } from "node:fs";
import { glob, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort, localTurn, startGateway, updatePlugin } from "../../examples/gateway/gateway.mjs";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { startStock } from "./stock-server.mjs";

/** @typedef {import("../../examples/gateway/gateway.mjs").Gateway} Gateway */
/** @typedef {import("../../examples/gateway/process.mjs").Launched} Launched */

/** Numbers between 0 and 1 that a seed makes come again. @param {number} seed @returns {() => number} */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A receiver that is killed and started again, on the same database and at the same address. */
export class MortalReceiver {
  kills = 0;
  /** @type {import("../../examples/gateway/receiver.mjs").Receiver | undefined} */
  #running;
  #binary;
  #isStock;

  /** @param {{ binary: string | undefined, isStock: boolean, folder: string, port: number }} options */
  constructor({ binary, isStock, folder, port }) {
    this.#binary = binary;
    this.#isStock = isStock;
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.database = join(folder, "receiver.db");
  }

  async start() {
    const { database, port } = this;
    this.#running = this.#isStock
      ? await startStock({ database, port })
      : await startReceiver({ binary: this.#binary, args: ["--db", database], port });
  }

  async kill() {
    this.kills += 1;
    await this.#running?.kill();
  }

  async stop() {
    await this.#running?.stop();
  }
}

/** A gateway that is killed and started again, on the same state directory and at the same address. */
export class MortalGateway {
  /** When it was killed, Unix ms. @type {number[]} */
  kills = [];
  /** When it, or a command on its state directory, was started, Unix ms. @type {number[]} */
  births = [];
  /** @type {Gateway | undefined} */
  #running;
  /** @type {Launched | undefined} */
  #launched;
  #options;

  /** @param {import("../../examples/gateway/gateway.mjs").GatewayOptions & { stateDir: string, port: number }} options */
  constructor(options) {
    this.#options = options;
  }

  get stateDir() {
    return this.#options.stateDir;
  }

  get running() {
    if (!this.#running) throw new Error("the gateway does not run");
    return this.#running;
  }

  /** @param {{ reinstall?: boolean }} [how] */
  async start(how = {}) {
    const onLaunch = (/** @type {Launched} */ launched) => {
      this.#launched = launched;
    };
    this.births.push(Date.now());
    this.#running = await startGateway({ ...this.#options, ...how, onLaunch });
    return this.#running;
  }

  /** Kills it, in whatever state it is, and also if it is still starting. */
  async kill() {
    this.kills.push(Date.now());
    await (this.#running ?? this.#launched)?.kill();
    this.#running = undefined;
    // Of a lock that it had made, and not yet written its name into, OpenClaw 2026.3.13 does not know that its owner is gone.
    const locks = glob("agents/*/sessions/*.lock", { cwd: this.stateDir });
    for await (const lock of locks) await rm(join(this.stateDir, lock), { force: true });
  }

  async stop() {
    await this.#running?.stop();
    this.#running = undefined;
  }

  /** Another package comes in the place of the plugin's, while the gateway runs or not. @param {string} tgz */
  update(tgz) {
    return updatePlugin(this.#options, { id: "agentwatch", tgz });
  }

  /** Changes what the gateway is told of the plugin. @param {(entry: any) => void} change */
  async configure(change) {
    const file = join(this.stateDir, "openclaw.json");
    const config = JSON.parse(await readFile(file, "utf8"));
    change(config.plugins.entries.agentwatch);
    await writeFile(file, JSON.stringify(config, null, 2));
  }

  /** How often the plugin said what it counts by; a gateway that has long been at work has said much since. */
  get pluginStarts() {
    return readFileSync(this.running.log.path, "utf8").split("counting model calls by").length - 1;
  }

  /** @param {{ agent?: string, session: string, message: string }} turn */
  localTurn(turn) {
    this.births.push(Date.now());
    return localTurn(this.#options, turn);
  }

  /** What the plugin's status says. @returns {Promise<Record<string, any>>} */
  async status() {
    const text = await readFile(join(this.stateDir, "agentwatch", "status.json"), "utf8").catch(() => "{}");
    return JSON.parse(text).status ?? {};
  }
}

/**
 * What people do, in a random order and several at once, until the signal. What a killed gateway leaves undone is no
 * failure.
 *
 * @param {Gateway} gateway
 * @param {{ signal: AbortSignal, next: () => number, lanes?: number }} options
 */
export async function liveOn(gateway, { signal, next, lanes = 5 }) {
  const lane = async (/** @type {number} */ number) => {
    while (!signal.aborted) {
      const name = `${number}-${Math.floor(next() * 3)}`;
      const [agent, message] = WORK[Math.floor(next() * WORK.length)] ?? ["main", "hello"];
      const turn =
        message === "cron"
          ? gateway.cronRun({ message: "good morning", timeoutMs: 10_000 })
          : gateway.agentTurn({ agent, session: `life-${name}`, message });
      const gone = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      // A gateway that is gone refuses at once.
      await Promise.race([turn.catch(() => sleep(100)), gone]);
      await Promise.race([sleep(next() * 100), gone]);
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)));
}

const WORK = /** @type {const} */ ([
  ["main", "hello"],
  ["main", "read it [[tools 2]]"],
  ["ant", "hello"],
  ["ant", "read it [[tools 1]]"],
  ["main", "at length [[length 3000]]"],
  ["main", "cron"],
]);

/**
 * @param {object} options
 * @param {string} options.version
 * @param {string} options.tgz
 * @param {string | undefined} options.binary
 * @param {boolean} options.isStock
 * @param {string} options.providerUrl
 */
export async function mortals({ version, tgz, binary, isStock, providerUrl }) {
  const folder = await mkdtemp(join(tmpdir(), "agentwatch-durability-"));
  const receiver = new MortalReceiver({ binary, isStock, folder, port: await freePort() });
  // A long series takes more than the quarter of an hour in which a stock server is told usage late.
  const config = { url: receiver.url, ...(isStock ? { history: "usage" } : {}) };
  const plugins = [{ id: "agentwatch", tgz, config }];
  const gateway = async (/** @type {string} */ name) =>
    new MortalGateway({
      version,
      providerUrl,
      plugins,
      stateDir: join(folder, name),
      port: await freePort(),
    });
  return {
    receiver,
    gateway: await gateway("first"),
    other: await gateway("second"),
    remove: () => rm(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
}
