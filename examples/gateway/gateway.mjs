import { randomInt, randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { nodeRuntime } from "../../scripts/lib/node-runtime.mjs";
import { nodeFor, openclaw } from "../../scripts/lib/openclaw.mjs";
import { baseConfig, merge, monthOf, withPlugins } from "./config.mjs";
import { launch } from "./process.mjs";
import { CLOSED, connect, steady } from "./rpc.mjs";

/** On a busy machine 2026.9.6 takes minutes. */
const READY_WITHIN_MS = 300_000;
/** A connection that has no answer by then is given up, and the next one is tried. */
const ANSWERS_WITHIN_MS = 60_000;
/**
 * Otherwise a failing model is tried for more than a minute (9.6) before the fallback has its turn. `provider` is
 * read by newer gateways, the rest by 2026.3.13. It is a setting of the agent: openclaw.json has no such key.
 */
const SHORT_RETRIES = {
  retry: { enabled: true, maxRetries: 1, baseDelayMs: 200, provider: { maxRetries: 1 } },
};
/**
 * While 2026.9.6 tidies up its databases, at its start and for some ten seconds after a kill, it locks the whole state directory.
 * The close of an agent's database waits five seconds for that lock, and where it fails, that process refuses all turns, before it
 * calls a model.
 */
const REFUSED_TURNS = /Agent database cleanup failed/;
const TRIES_OF_TURNS = 3;
/** How a run of the web chat ends; its other events are progress. */
const FINAL = new Set(["final", "error", "aborted"]);

/**
 * @typedef {object} GatewayOptions
 * @property {string} version Of OpenClaw, for example `2026.9.6`.
 * @property {string} providerUrl The scripted provider's `baseUrl`.
 * @property {Record<string, import("./provider.mjs").Price>} [prices]
 * @property {import("./config.mjs").GatewayPlugin[]} [plugins]
 * @property {string} [stateDir] Default: a fresh folder, removed by `stop`. One that was given is kept, and a plugin
 *   that an earlier gateway installed there is not installed again.
 * @property {number} [port] Default: a free one.
 * @property {string} [token] Default: a new one.
 * @property {Record<string, string>} [env]
 * @property {object} [config] Merged over the configuration.
 * @property {boolean} [isManaged] Its caller restarts it where OpenClaw refuses turns; otherwise a turn does.
 * @property {boolean} [reinstall] Installs the plugins again over those that are there.
 * @property {(launched: import("./process.mjs").Launched) => void} [onLaunch] Told of the process long before it is
 *   ready.
 */

/** @typedef {Awaited<ReturnType<typeof startGateway>>} Gateway */

/**
 * A real OpenClaw gateway with its plugins installed, ready to take turns. Nothing of this machine's own OpenClaw,
 * home folder or keys reaches it.
 *
 * @param {GatewayOptions} options
 */
export async function startGateway(options) {
  const place = await prepare(options);
  const log = join(place.stateDir, "gateway.log");
  const start = () => {
    const launched = launch(place.node, [place.entry, "gateway", "run", "--port", String(place.port)], {
      env: place.env,
      cwd: place.stateDir,
      log,
    });
    options.onLaunch?.(launched);
    return launched;
  };
  let gateway = start();
  const restart = async (/** @type {() => Promise<unknown>} */ change = async () => {}) => {
    await gateway.stop();
    await change();
    gateway = start();
    // The client connects again by itself.
    (await ready(gateway, place)).close();
  };
  try {
    const url = `ws://127.0.0.1:${place.port}`;
    const client = steady(await ready(gateway, place), { url, token: place.token });
    return {
      version: options.version,
      port: place.port,
      get pid() {
        return gateway.pid;
      },
      url: `http://127.0.0.1:${place.port}`,
      token: place.token,
      stateDir: place.stateDir,
      workspace: place.workspace,
      log: { path: log, recent: () => gateway.recent() },
      rpc: client.rpc,
      onEvent: client.onEvent,
      ...turns(client, place, options.isManaged ? undefined : () => restart()),
      get ended() {
        return gateway.ended;
      },
      /** Starts the process again, on the same state and at the same address, with what `change` did meanwhile. */
      restart,
      /** A second gateway on the same state must be able to follow, so only a folder of our own is removed. */
      stop: async () => {
        client.close();
        const end = await gateway.stop();
        if (!options.stateDir) await rm(place.stateDir, { recursive: true, force: true, maxRetries: 5 });
        return end;
      },
      kill: async () => {
        const end = await gateway.kill();
        client.close();
        return end;
      },
    };
  } catch (error) {
    await gateway.kill();
    throw new Error(`${/** @type {Error} */ (error).message}\n--- ${log}\n${gateway.recent().slice(-4000)}`);
  }
}

/**
 * @typedef {object} Place
 * @property {string} node
 * @property {string} entry
 * @property {string} version
 * @property {number} port
 * @property {string} token
 * @property {string} stateDir
 * @property {string} workspace
 * @property {Record<string, string>} env
 */

/** @param {GatewayOptions} options @returns {Promise<Place>} */
async function prepare(options) {
  const { version, plugins = [] } = options;
  const entry = await openclaw(version);
  const node = await nodeRuntime(nodeFor(version));
  const stateDir = options.stateDir ?? (await mkdtemp(join(tmpdir(), "openclaw-gateway-")));
  const workspace = join(stateDir, "workspace");
  for (const agent of ["main", "ant"]) {
    await mkdir(join(workspace, agent), { recursive: true });
    await writeFile(join(workspace, agent, "note.txt"), "A note for the tool rounds.\n");
    const agentDir = join(stateDir, "agents", agent, "agent");
    await mkdir(agentDir, { recursive: true });
    await writeJson(join(agentDir, "settings.json"), SHORT_RETRIES);
  }
  const port = options.port ?? (await freePort());
  const token = options.token ?? randomUUID();
  const configPath = join(stateDir, "openclaw.json");
  const env = { ...environment(node, stateDir, configPath, token), ...options.env };
  const place = { node, entry, version, port, token, stateDir, workspace, env };

  const known = await readJson(configPath);
  const base = baseConfig({
    version,
    port,
    token,
    workspace,
    providerUrl: options.providerUrl,
    prices: options.prices,
  });
  await writeJson(configPath, merge(merge(known, base), options.config ?? {}));
  for (const { id, tgz } of plugins) {
    const isKnown = known.plugins?.entries?.[id] !== undefined;
    if (tgz && (!isKnown || options.reinstall))
      await patiently(() => installPlugin(place, { id, tgz, isKnown }));
  }
  await writeJson(configPath, withPlugins(await readJson(configPath), plugins));
  return place;
}

/**
 * The whole environment of the gateway: only PATH comes from outside, with the right Node first.
 *
 * @param {string} node
 * @param {string} stateDir
 * @param {string} configPath
 * @param {string} token
 */
export function environment(node, stateDir, configPath, token) {
  return {
    PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ""}`,
    HOME: stateDir,
    TMPDIR: tmpdir(),
    OPENCLAW_STATE_DIR: stateDir,
    OPENCLAW_CONFIG_PATH: configPath,
    OPENCLAW_GATEWAY_TOKEN: token,
    OPENCLAW_SKIP_CHANNELS: "1",
    OPENCLAW_DISABLE_BONJOUR: "1",
    OPENCLAW_NO_RESPAWN: "1",
    OPENCLAW_HIDE_BANNER: "1",
    NO_COLOR: "1",
  };
}

/**
 * A turn in a process of its own, on a state directory on which a gateway may run or not: `openclaw agent --local`.
 *
 * @param {GatewayOptions & { stateDir: string, port: number }} options
 * @param {{ agent?: string, session: string, message: string }} turn
 */
export async function localTurn({ version, stateDir, env }, { agent = "main", session, message }) {
  const node = await nodeRuntime(nodeFor(version));
  const entry = await openclaw(version);
  const words = [
    "agent",
    "--local",
    "--agent",
    agent,
    "--session-id",
    session,
    "--message",
    message,
    "--json",
  ];
  const child = launch(node, [entry, ...words], {
    env: { ...environment(node, stateDir, join(stateDir, "openclaw.json"), randomUUID()), ...env },
    cwd: stateDir,
    log: join(stateDir, "local.log"),
  });
  const { code } = await child.ended;
  if (code !== 0)
    throw new Error(`openclaw agent --local ended with ${code}:\n${child.recent().slice(-4000)}`);
}

/**
 * Installs a package over the one that is there, on a state directory on which a gateway may run.
 *
 * @param {GatewayOptions & { stateDir: string }} options
 * @param {{ id: string, tgz: string }} plugin
 */
export async function updatePlugin({ version, stateDir, env }, { id, tgz }) {
  const entry = await openclaw(version);
  const node = await nodeRuntime(nodeFor(version));
  const own = environment(node, stateDir, join(stateDir, "openclaw.json"), randomUUID());
  const place = { version, node, entry, stateDir, env: { ...own, ...env } };
  await patiently(() => installPlugin(place, { id, tgz, isKnown: true }));
}

/**
 * `openclaw plugins install`, with the flags that the version wants for a package from nowhere.
 *
 * @param {Pick<Place, "version" | "node" | "entry" | "stateDir" | "env">} place
 * @param {{ id: string, tgz: string, isKnown: boolean }} plugin
 */
async function installPlugin(place, { id, tgz, isKnown }) {
  // 2026.3.13 refuses a package that is there already: its users remove the folder.
  if (isKnown && monthOf(place.version) < 8)
    await rm(join(place.stateDir, "extensions", id), { recursive: true, force: true });
  const flags = monthOf(place.version) >= 8 ? ["--force", "--accept-capabilities"] : [];
  const log = join(place.stateDir, "install.log");
  const child = launch(place.node, [place.entry, "plugins", "install", tgz, ...flags], {
    env: place.env,
    log,
  });
  const { code } = await child.ended;
  if (code !== 0)
    throw new Error(`openclaw plugins install ended with ${code}:\n${child.recent().slice(-4000)}`);
}

/**
 * The port opens long before turns are taken: until then the gateway answers "unavailable, retry".
 *
 * @param {import("./process.mjs").Launched} gateway
 * @param {Place} place
 */
async function ready(gateway, { port, token }) {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (;;) {
    if (!gateway.running()) throw new Error("the gateway ended before it was ready");
    let isLate = false;
    try {
      const late = sleep(ANSWERS_WITHIN_MS, undefined, { ref: false }).then(() => {
        isLate = true;
        throw new Error(`no answer within ${ANSWERS_WITHIN_MS} ms`);
      });
      const opening = connect({ url: `ws://127.0.0.1:${port}`, token }).then(async (client) => {
        await client.rpc("sessions.list", {});
        if (isLate) client.close();
        return client;
      });
      return await Promise.race([opening, late]);
    } catch (error) {
      if (Date.now() > deadline) throw new Error(`the gateway was not ready in time: ${error}`);
    }
    await sleep(200);
  }
}

/**
 * What people and programs do with a gateway.
 *
 * @param {ReturnType<typeof steady>} client
 * @param {Place} place
 * @param {() => Promise<unknown>} [restart]
 */
function turns({ rpc, onEvent }, { port, token, version }, restart) {
  const restarting = restart ? restartingWith(restart) : (/** @type {() => Promise<any>} */ work) => work();
  const httpModel = Number(version.split(".")[1]) <= 3 ? "openclaw:" : "openclaw/";

  /**
   * A turn of an agent, to its end.
   *
   * @param {{ agent?: string, session: string, message: string }} turn `session` is the key's last part.
   */
  const agentTurn = ({ agent = "main", session, message }) =>
    restarting(() =>
      patiently(() =>
        rpc(
          "agent",
          {
            agentId: agent,
            sessionKey: keyOf(agent, session),
            message,
            deliver: false,
            idempotencyKey: randomUUID(),
          },
          (payload) => payload?.status !== "accepted",
        ),
      ),
    );

  /**
   * A message of the web chat; `done` settles with the last event of its run, and fails where the connection closes before.
   *
   * @param {{ agent?: string, session: string, message: string }} turn
   */
  const chatSend = async ({ agent = "main", session, message }) => {
    const sessionKey = keyOf(agent, session);
    /** @type {string | undefined} */
    let runId;
    /** @type {any[]} */
    const ends = [];
    let [look, end] = [() => {}, () => {}];
    const done = new Promise((resolve, reject) => {
      look = () => {
        const own = ends.find((payload) => payload.runId === runId);
        if (own) resolve(own);
      };
      end = onEvent(({ event, payload }) => {
        if (event === CLOSED) reject(new Error("chat.send: the gateway closed the connection"));
        if (event !== "chat" || !FINAL.has(payload.state)) return;
        ends.push(payload);
        look();
      });
    }).finally(() => end());
    // Not every caller waits for the end.
    done.catch(() => {});
    try {
      ({ runId } = await rpc("chat.send", { sessionKey, message, idempotencyKey: randomUUID() }));
    } catch (error) {
      end();
      throw error;
    }
    // The last event may have come before the answer, which names the run.
    look();
    return { runId: /** @type {string} */ (runId), sessionKey, done: /** @type {Promise<any>} */ (done) };
  };

  return {
    agentTurn,
    chatSend,
    /** The first turn of each agent, one after the other: it may take 10 s, and two at once can fail (9.6). */
    warmUp: async () => {
      for (const agent of ["main", "ant"]) await agentTurn({ agent, session: "warm-up", message: "hello" });
    },
    /** @param {{ sessionKey: string, runId: string }} run */
    chatAbort: ({ sessionKey, runId }) => rpc("chat.abort", { sessionKey, runId }),
    /** @param {{ agent?: string, session: string }} session */
    sessionsReset: ({ agent = "main", session }) =>
      rpc("sessions.reset", { key: keyOf(agent, session), reason: "reset" }),
    /** @param {{ agent?: string, session: string }} session */
    compact: ({ agent = "main", session }) => rpc("sessions.compact", { key: keyOf(agent, session) }),
    /**
     * The gateway's own HTTP endpoints. Returns the answer's text as it came.
     *
     * @param {{ agent?: string, session: string, message: string, endpoint?: "chat/completions" | "responses", stream?: boolean }} turn
     */
    httpChat: async ({ agent = "main", session, message, endpoint = "chat/completions", stream = false }) => {
      const model = `${httpModel}${agent}`;
      const body =
        endpoint === "responses"
          ? { model, stream, input: message }
          : { model, stream, messages: [{ role: "user", content: message }] };
      const response = await fetch(`http://127.0.0.1:${port}/v1/${endpoint}`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
          "x-openclaw-session-key": keyOf(agent, session),
        },
        body: JSON.stringify(body),
      });
      return { status: response.status, text: await response.text() };
    },
    /** A job that is run once, now, to its end. @param {{ agent?: string, message: string, timeoutMs?: number }} job */
    cronRun: async ({ agent = "main", message, timeoutMs = 60_000 }) => {
      const job = await rpc("cron.add", {
        name: `job ${randomUUID().slice(0, 8)}`,
        agentId: agent,
        enabled: true,
        schedule: { kind: "every", everyMs: 86_400_000 },
        sessionTarget: "isolated",
        wakeMode: "now",
        payload: { kind: "agentTurn", message },
        delivery: { mode: "none" },
      });
      await rpc("cron.run", { id: job.id, mode: "force" });
      for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await sleep(200)) {
        const { entries = [] } = await rpc("cron.runs", { id: job.id });
        const finished = entries.find(
          (/** @type {any} */ entry) => entry.action === "finished" || entry.status === "ok",
        );
        if (finished) return finished;
      }
      throw new Error(`the cron job ${job.id} did not finish within ${timeoutMs} ms`);
    },
  };
}

/**
 * 2026.9.6 refuses a turn, before it calls a model, and a command, while it tidies up its database on a busy machine:
 * "another OpenClaw process owns state-lifecycle". A user would try again.
 */
export const TIDIES_UP = /owns state-lifecycle/;

/**
 * Does work, and again where OpenClaw refuses it for a while.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @param {RegExp} [refusal]
 * @returns {Promise<T>}
 */
export async function patiently(work, refusal = TIDIES_UP) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      if (tries === 15 || !refusal.test(String(error))) throw error;
      await sleep(2000);
    }
  }
}

/**
 * What runs a turn, and again after a restart where OpenClaw refuses all turns until then, as an operator would. Turns at once
 * share a restart.
 *
 * @param {() => Promise<unknown>} restart
 * @returns {<T>(turn: () => Promise<T>) => Promise<T>}
 */
export function restartingWith(restart) {
  /** @type {Promise<unknown> | undefined} */
  let restarted;
  return async (turn) => {
    for (let tries = 1; ; tries += 1) {
      try {
        return await turn();
      } catch (error) {
        if (tries === TRIES_OF_TURNS || !REFUSED_TURNS.test(String(error))) throw error;
        console.log(`# The gateway is restarted after a fault of OpenClaw's own: ${error}`);
        restarted ??= restart().finally(() => {
          restarted = undefined;
        });
        await restarted;
      }
    }
  };
}

/** @param {string} agent @param {string} session */
export function keyOf(agent, session) {
  return `agent:${agent}:${session}`;
}

/**
 * A free port below those that systems hand out by themselves: no connection and no other test's server takes it before it is used.
 *
 * @param {number} [tries]
 * @returns {Promise<number>}
 */
export function freePort(tries = 50) {
  return new Promise((resolve, reject) => {
    const port = randomInt(12_000, 32_000);
    const server = createServer().on("error", (error) =>
      tries > 0 ? resolve(freePort(tries - 1)) : reject(error),
    );
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(port)));
  });
}

/** @param {string} path */
async function readJson(path) {
  return JSON.parse(await readFile(path, "utf8").catch(() => "{}"));
}

/** @param {string} path @param {unknown} value */
async function writeJson(path, value) {
  await writeFile(path, JSON.stringify(value, null, 2));
}
