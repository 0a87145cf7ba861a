import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort, startGateway } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { printed } from "../../scripts/lib/commands.mjs";
import { run } from "../../scripts/lib/run.mjs";
import { waitForTotals } from "./harness.mjs";
import { KillableReceiver } from "./killable.mjs";
import { terminal } from "./terminal.mjs";

/** The package's version in the documentation, and AgentWatch's address there. */
const FILE = /agentwatch-openclaw-[\w.-]+?\.tgz/g;
const ADDRESS = /http:\/\/localhost:8470/g;

/** @typedef {Awaited<ReturnType<typeof newUser>>} User */

/**
 * A user with a gateway, an AgentWatch and a terminal, who runs the documented commands.
 *
 * @param {object} options
 * @param {string} options.version Of OpenClaw.
 * @param {string | undefined} options.binary Of the receiver.
 * @param {number} [options.port] Of the receiver.
 * @param {Record<string, string>} [options.env] Further environment variables of terminal and gateway.
 */
export async function newUser({ version, binary, port: receiverPort, env = {} }) {
  const folder = await mkdtemp(join(tmpdir(), "new-user-"));
  const provider = await createProvider({ delayMs: 100 });
  const receiver = new KillableReceiver({
    binary,
    isStock: false,
    folder,
    port: receiverPort ?? (await freePort()),
  });
  await receiver.start();
  const shell = await terminal({ version, folder, env });
  const workspace = join(shell.stateDir, "workspace");
  const port = await freePort();
  /** The package behind `./agentwatch-openclaw-….tgz`. */
  let file = "agentwatch-openclaw.tgz";
  /** @type {import("../../examples/gateway/gateway.mjs").Gateway | undefined} */
  let gateway;

  const user = {
    version,
    provider,
    receiver,
    shell,
    workspace,
    get gateway() {
      if (!gateway) throw new Error("the gateway does not run");
      return gateway;
    },
    /** @param {string} name Of the file in the folder to work in. */
    takes(name) {
      file = name;
    },
    async start() {
      gateway = await startGateway({
        version,
        port,
        providerUrl: provider.baseUrl,
        stateDir: shell.stateDir,
        env: { HOME: shell.home, ...env },
        // One agent in the default workspace.
        config: { agents: { list: [{ id: "main", default: true, workspace }] } },
      });
    },
    async stop() {
      await gateway?.stop();
      gateway = undefined;
    },
    /** Runs a command line. @param {string} command */
    really: (command) =>
      command
        .replace(FILE, file)
        .replace(ADDRESS, receiver.url)
        .replace("http://127.0.0.1:8470", receiver.url),
    /**
     * Runs the commands of a section.
     *
     * @param {string} document
     * @param {string} heading
     * @param {(command: string) => boolean} [wanted]
     * @returns {Promise<string>} Their output.
     */
    async types(document, heading, wanted = () => true) {
      let output = "";
      for (const command of (await printed(document, heading, version)).filter(wanted))
        output += (await shell.run(user.really(command))).output;
      return output;
    },
    /** @param {string} [session] */
    turn: (session = "first") => user.gateway.agentTurn({ session, message: "hello" }),
    /** Waits until AgentWatch's totals equal the provider's. @param {number} [settleMs] */
    shows: (settleMs = 0) => waitForTotals(provider, receiver.url, { settleMs, timeoutMs: 60_000 }),
    /** The gateway's log of its last start. */
    log: () => user.gateway.log.recent(),
    async close() {
      await user.stop();
      await receiver.stop();
      await provider.close();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return user;
}

/**
 * Measures the time from the first command to the first number on the Models page, with a running gateway.
 *
 * @param {User} user
 * @param {() => Promise<unknown>} install
 */
export async function timeToFirstNumber(user, install) {
  const marks = [performance.now()];
  const mark = () => marks.push(performance.now());
  await install();
  mark();
  await user.stop();
  await user.start();
  mark();
  await user.turn();
  mark();
  await user.shows();
  mark();
  const [commands = 0, restart = 0, turn = 0, shown = 0] = marks
    .slice(1)
    .map((at, i) => at - (marks[i] ?? 0));
  return { commands, restart, turn, shown, total: commands + restart + turn + shown };
}

/**
 * Makes pending calls while AgentWatch is down, then stops the gateway.
 *
 * @param {User} user
 * @param {number} turns
 */
export async function leaveWaiting(user, turns) {
  await user.receiver.kill();
  for (let turn = 0; turn < turns; turn += 1) await user.turn(`waiting-${turn}`);
  // A call is final a second after its first event.
  await sleep(1_500);
  await user.stop();
}

/** The next version. @param {string} version */
export function after(version) {
  const [major, minor, patch = "0"] = version.split(".");
  return `${major}.${minor}.${Number(patch) + 1}`;
}

/**
 * The same package as another version.
 *
 * @param {string} tgz
 * @param {string} version
 * @param {string} folder Where it is put.
 * @returns {Promise<string>} The file's name.
 */
export async function packedAs(tgz, version, folder) {
  const tree = await mkdtemp(join(tmpdir(), "agentwatch-repack-"));
  try {
    await run("tar", ["-xzf", tgz, "-C", tree, "--strip-components=1"]);
    const manifest = join(tree, "package.json");
    const parsed = JSON.parse(await readFile(manifest, "utf8"));
    await writeFile(manifest, JSON.stringify({ ...parsed, version }, null, 2));
    await run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder], { cwd: tree });
    return `agentwatch-openclaw-${version}.tgz`;
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}
