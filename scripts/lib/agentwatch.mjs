import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { launch } from "../../examples/gateway/process.mjs";
import { pythonPrograms } from "./python.mjs";
import { exists, SetupError } from "./run.mjs";

/** The server's module. The package is read from the checkout and not installed. */
const SERVER = "src/agentwatch/server/app.py";
/** `agentwatch serve`, as the package's entry point in `pyproject.toml` runs it. */
const SERVE = ["-m", "agentwatch.cli.main"];
const READY_WITHIN_MS = 60_000;

/**
 * @typedef {object} AgentwatchOptions
 * @property {string} checkout A working copy of AgentWatch's repository. Nothing is written into it.
 * @property {string} [database] Path of the SQLite database. Default: in a temporary folder, which `stop` removes.
 * @property {number} [port] Default: a free one.
 */

/** @param {string} folder @throws {SetupError} if it is no checkout of AgentWatch. */
export async function checkCheckout(folder) {
  if (await exists(join(folder, SERVER))) return;
  throw new SetupError(
    `${folder} is no checkout of AgentWatch: it has no ${SERVER}. Clone https://github.com/maxdraki/AgentWatch and name that folder`,
  );
}

/**
 * AgentWatch's own server, from a checkout, on the loopback interface and without a token.
 *
 * @param {AgentwatchOptions} options
 * @returns {Promise<import("../../examples/gateway/receiver.mjs").Receiver>}
 */
export async function startAgentwatch({ checkout, database, port = 0 }) {
  await checkCheckout(checkout);
  const programs = await pythonPrograms("agentwatch", "install what AgentWatch's server needs");
  const home = await mkdtemp(join(tmpdir(), "agentwatch-server-"));
  const remove = () => rm(home, { recursive: true, force: true });
  const args = ["--db", database ?? join(home, "agentwatch.db"), "serve", "--host", "127.0.0.1"];
  const child = launch(join(programs, "python3"), [...SERVE, ...args, "--port", String(port)], {
    env: {
      PATH: process.env.PATH ?? "",
      HOME: home,
      PYTHONPATH: join(checkout, "src"),
      PYTHONDONTWRITEBYTECODE: "1",
      PYTHONUNBUFFERED: "1",
    },
    cwd: home,
    foreign: "AgentWatch",
  });
  const line = /Uvicorn running on (http:\/\/[\d.:]+)/;
  for (const deadline = Date.now() + READY_WITHIN_MS; !line.test(child.recent()); await sleep(25)) {
    if (child.running() && Date.now() < deadline) continue;
    await child.kill();
    await remove();
    throw new Error(`AgentWatch did not start:\n${child.recent()}`);
  }
  const ended = (/** @type {Awaited<typeof child.ended>} */ end) => remove().then(() => end);
  return {
    url: line.exec(child.recent())?.[1] ?? "",
    token: undefined,
    pid: child.pid,
    log: child.recent,
    ended: child.ended,
    stop: (graceMs) => child.stop(graceMs).then(ended),
    kill: () => child.kill().then(ended),
  };
}
