import { readFileSync } from "node:fs";
import { glob, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  freePort,
  localTurn,
  patiently,
  restartingWith,
  startGateway,
  updatePlugin,
} from "../../examples/gateway/gateway.mjs";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { startStock } from "./stock-server.mjs";

/** @typedef {import("../../examples/gateway/gateway.mjs").Gateway} Gateway */
/** @typedef {import("../../examples/gateway/process.mjs").Launched} Launched */

/** A generator of numbers from 0 to 1, the same for the same seed. @param {number} seed @returns {() => number} */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A receiver that can be killed and started again, on the same database and at the same address. */
export class KillableReceiver {
  /** Times of kills, in ms since 1970. @type {number[]} */
  killedAt = [];
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

  get kills() {
    return this.killedAt.length;
  }

  async kill() {
    this.killedAt.push(Date.now());
    await this.#running?.kill();
  }

  async stop() {
    await this.#running?.stop();
  }
}

/**
 * Why OpenClaw itself refuses to start after a kill: 2026.9.6 holds a lease on its databases that outlives the killed
 * process by minutes, and on a busy machine it is not ready in time.
 */
const REFUSED_START =
  /gateway\.maintenance_required|database maintenance|owns (state|gateway)-lifecycle|was not ready in time/;
/**
 * Three starts that hang until the time for a start is over, in ms: 2026.9.6 did so twice in succession, in its child process that
 * looks at the state database, and then started.
 */
const RESTARTED_WITHIN_MS = 900_000;
const RESTART_AFTER_MS = 10_000;

/** A turn in a process of its own is refused only meanwhile: the next one is another process. */
const REFUSED_LOCAL_TURNS = /owns state-lifecycle|Agent database (cleanup failed|maintenance is in progress)/;

/** A gateway that can be killed and started again, on the same state directory and at the same address. */
export class KillableGateway {
  /** Times of kills, in ms since 1970. @type {number[]} */
  kills = [];
  /** Times at which the gateway, or a command on its state directory, started, in ms since 1970. @type {number[]} */
  starts = [];
  /** Starts that OpenClaw refused. */
  refusedStarts = 0;
  /** @type {Gateway | undefined} */
  #running;
  /** @type {Launched | undefined} */
  #launched;
  #restarting = restartingWith(() => this.stop().then(() => this.start()));
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

  /**
   * Starts it, and again like a service manager where OpenClaw refuses.
   *
   * @param {{ reinstall?: boolean }} [how]
   */
  async start(how = {}) {
    const kills = this.kills.length;
    const wasKilled = () => this.kills.length > kills;
    const onLaunch = (/** @type {Launched} */ launched) => {
      this.#launched = launched;
      // The kill came before there was a process.
      if (wasKilled()) launched.kill();
    };
    const deadline = Date.now() + RESTARTED_WITHIN_MS;
    for (;;) {
      this.starts.push(Date.now());
      try {
        this.#running = await startGateway({ ...this.#options, ...how, onLaunch, isManaged: true });
        return this.#running;
      } catch (error) {
        const isRefused = REFUSED_START.test(String(error));
        if (wasKilled() || !isRefused || Date.now() > deadline) throw error;
        this.refusedStarts += 1;
        console.log(`# OpenClaw refused to start, and is started again: ${String(error).slice(0, 300)}`);
        await sleep(RESTART_AFTER_MS);
        if (wasKilled()) throw error;
      }
    }
  }

  /**
   * Runs a turn, and again after a restart where OpenClaw refuses all turns until then, as an operator would.
   *
   * @param {{ agent?: string, session: string, message: string }} turn
   */
  agentTurn(turn) {
    return this.#restarting(() => this.running.agentTurn(turn));
  }

  /** A first turn of each agent, see the gateway's own. */
  async warmUp() {
    for (const agent of ["main", "ant"])
      await this.agentTurn({ agent, session: "warm-up", message: "hello" });
  }

  /** Kills the gateway, also while it starts. */
  async kill() {
    this.kills.push(Date.now());
    await (this.#running ?? this.#launched)?.kill();
    this.#running = undefined;
    // OpenClaw 2026.3.13 never removes a lock file whose owner was killed before it wrote its name into the file.
    const locks = glob("agents/*/sessions/*.lock", { cwd: this.stateDir });
    for await (const lock of locks) await rm(join(this.stateDir, lock), { force: true });
  }

  async stop() {
    await this.#running?.stop();
    this.#running = undefined;
  }

  /** Replaces the plugin's package, while the gateway runs or not. @param {string} tgz */
  update(tgz) {
    return updatePlugin(this.#options, { id: "agentwatch", tgz });
  }

  /** Changes the plugin's entry in the gateway's configuration. @param {(entry: any) => void} change */
  async configure(change) {
    const file = join(this.stateDir, "openclaw.json");
    const config = JSON.parse(await readFile(file, "utf8"));
    change(config.plugins.entries.agentwatch);
    await writeFile(file, JSON.stringify(config, null, 2));
  }

  /** Number of starts of the plugin, by its log line. */
  get pluginStarts() {
    return readFileSync(this.running.log.path, "utf8").split("counting model calls by").length - 1;
  }

  /** @param {{ agent?: string, session: string, message: string }} turn */
  localTurn(turn) {
    this.starts.push(Date.now());
    return patiently(() => localTurn(this.#options, turn), REFUSED_LOCAL_TURNS);
  }

  /** The plugin's status file. @returns {Promise<Record<string, any>>} */
  async status() {
    const text = await readFile(join(this.stateDir, "agentwatch", "status.json"), "utf8").catch(() => "{}");
    return JSON.parse(text).status ?? {};
  }
}

/**
 * Runs turns and cron jobs in a random order, several at once, until the signal. Errors of a killed gateway are ignored.
 *
 * @param {Gateway} gateway
 * @param {{ signal: AbortSignal, next: () => number, lanes?: number }} options
 */
export async function runTurns(gateway, { signal, next, lanes = 5 }) {
  const runLane = async (/** @type {number} */ number) => {
    while (!signal.aborted) {
      const name = `${number}-${Math.floor(next() * 3)}`;
      const [agent, message] = WORK[Math.floor(next() * WORK.length)] ?? ["main", "hello"];
      const turn =
        message === "cron"
          ? gateway.cronRun({ message: "good morning", timeoutMs: 10_000 })
          : gateway.agentTurn({ agent, session: `load-${name}`, message });
      const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      // A gateway that does not run refuses at once.
      await Promise.race([turn.catch(() => sleep(100)), aborted]);
      await Promise.race([sleep(next() * 100), aborted]);
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, number) => runLane(number)));
}

/** Agents and their messages. */
const WORK = /** @type {const} */ ([
  ["main", "hello"],
  ["main", "read it [[tools 2]]"],
  ["ant", "hello"],
  ["ant", "read it [[tools 1]]"],
  ["main", "at length [[length 3000]]"],
  ["main", "cron"],
]);

/**
 * A receiver and two gateways in a temporary folder.
 *
 * @param {object} options
 * @param {string} options.version
 * @param {string} options.tgz
 * @param {string | undefined} options.binary
 * @param {boolean} options.isStock
 * @param {string} options.providerUrl
 */
export async function killableWorld({ version, tgz, binary, isStock, providerUrl }) {
  const folder = await mkdtemp(join(tmpdir(), "agentwatch-durability-"));
  const receiver = new KillableReceiver({ binary, isStock, folder, port: await freePort() });
  // A long series takes more than 15 minutes, and a stock server gets no older usage by default.
  const config = { url: receiver.url, ...(isStock ? { history: "usage" } : {}) };
  const plugins = [{ id: "agentwatch", tgz, config }];
  const gateway = async (/** @type {string} */ name) =>
    new KillableGateway({
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
