import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { launch } from "../../examples/gateway/process.mjs";
import { buildHook } from "../../scripts/build-hook.mjs";
import { cacheRoot } from "../../scripts/lib/cache.mjs";
import { printed } from "../../scripts/lib/commands.mjs";
import { nodeRuntime } from "../../scripts/lib/node-runtime.mjs";
import { run } from "../../scripts/lib/run.mjs";
import { verdaccio } from "../../scripts/lib/verdaccio.mjs";
import { after, leaveWaiting, newUser, packedAs, timeToFirstNumber } from "./new-user.mjs";

/** @typedef {import("./new-user.mjs").User} User */

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const INSTALL = "docs/install.md";
const UPGRADE = "docs/upgrade.md";
/** The message of the log record of a gateway's start, by AgentWatch's hook, this hook and the plugin. */
const STARTED = "OpenClaw gateway started";

/**
 * @typedef {object} Place The package, the gateway's version and the receiver.
 * @property {string} version OpenClaw's version.
 * @property {string} tgz The packed plugin.
 * @property {string | undefined} binary The receiver's program.
 */

/** @param {string} tgz @returns {string} The package's version. */
function versionOf(tgz) {
  return /-(\d+\.\d+\.\d+.*)\.tgz$/.exec(tgz)?.[1] ?? "";
}

/** The necessary flags of a section's command: without them it is refused. @param {User} user @param {string} document @param {string} heading */
async function flagsNeeded(user, document, heading) {
  const [command = ""] = (await printed(document, heading, user.version)).filter((line) =>
    / install /.test(line),
  );
  const flags = command.match(/ --(?!link)\S+/g) ?? [];
  if (flags.length === 0) return "none";
  const bare = flags.reduce((line, flag) => line.replace(flag, ""), command);
  const { code } = await user.shell.run(user.really(bare), { mayFail: true });
  if (code === 0) throw new Error(`${user.version} takes the package without ${flags.join("")}: say so`);
  return `\`${flags.join("").trim()}\``;
}

/** Copies the package into the working folder, under the documented name. @param {User} user @param {string} tgz */
async function hand(user, tgz) {
  const name = `agentwatch-openclaw-${versionOf(tgz)}.tgz`;
  await copyFile(tgz, join(user.shell.cwd, name));
  user.takes(name);
}

/** Paths below `~/.openclaw` with the plugin's name in path or content. @param {User} user */
export async function traces({ shell: { stateDir } }) {
  const entries = await readdir(stateDir, { recursive: true, withFileTypes: true });
  /** @type {string[]} */
  const found = [];
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const name = relative(stateDir, path);
    // Without the harness's files, the gateway's logs, its sessions, and the plugin's folder.
    if (/^gateway\.log|^logs\/|^agents\/|(^|\/)agentwatch\//.test(name)) continue;
    const isOurs = /agentwatch/i.test(entry.name);
    const isTold = !isOurs && entry.isFile() && isNamed(await readFile(path, "latin1"));
    if (isOurs || isTold) found.push(name);
  }
  return found.filter((name) => !found.some((other) => name.startsWith(`${other}/`))).sort();
}

/** Whether a text has the plugin's name, apart from the path of this OpenClaw's installation. @param {string} text */
function isNamed(text) {
  return text.replaceAll(cacheRoot(), "").includes("agentwatch");
}

/** Asserts that only documented paths are left. @param {string[]} found */
export function unexpected(found) {
  const named = [/^agentwatch$/, /^openclaw\.json(\.|$)/, /^state\/openclaw\.sqlite/];
  return found.filter((name) => !named.some((pattern) => pattern.test(name)));
}

/** The documented way, with a running gateway. @param {Place} place */
export async function fromFile({ version, tgz, binary }) {
  const user = await newUser({ version, binary });
  try {
    await hand(user, tgz);
    await user.start();
    const flags = await flagsNeeded(user, INSTALL, "From a file");
    let live = "";
    const times = await timeToFirstNumber(user, async () => {
      live = await user.types(INSTALL, "From a file");
    });
    return { flags, times, isLive: /Applied in Gateway|without restarting/.test(live) };
  } finally {
    await user.close();
  }
}

/** The same without a restart, which newer gateways say they do not need. @param {Place} place */
export async function withoutRestart({ version, tgz, binary }) {
  const user = await newUser({ version, binary });
  try {
    await hand(user, tgz);
    await user.start();
    await user.types(INSTALL, "From a file");
    await user.turn();
    await user.shows(3_000);
    return "yes";
  } finally {
    await user.close();
  }
}

/**
 * Updates to the next version and back, with pending calls each time; then removes the plugin.
 *
 * @param {Place & { goesBack?: boolean }} place
 */
export async function updated({ version, tgz, binary, goesBack = true }) {
  const user = await newUser({ version, binary });
  try {
    await hand(user, tgz);
    await user.types(INSTALL, "From a file");
    await user.start();
    await user.turn();
    await user.shows();
    await user.types(INSTALL, "The command");
    await leaveWaiting(user, 2);
    const next = after(versionOf(tgz));
    user.takes(await packedAs(tgz, next, user.shell.cwd));
    await user.types(UPGRADE, "Updating from a file");
    await counts(user, next);
    if (goesBack) {
      await leaveWaiting(user, 1);
      await hand(user, tgz);
      await user.types(UPGRADE, "Updating from a file");
      await counts(user, versionOf(tgz));
    }
    const requests = user.provider.totals().reduce((sum, row) => sum + row.requests, 0);
    return { requests, left: await removed(user) };
  } finally {
    await user.close();
  }
}

/** Asserts that pending calls are counted once, by the expected version. @param {User} user @param {string} wanted */
async function counts(user, wanted) {
  await user.receiver.start();
  await user.start();
  await user.turn("after");
  await user.shows(4_000);
  const manifest = join(user.shell.stateDir, "extensions", "agentwatch", "package.json");
  const { version } = JSON.parse(await readFile(manifest, "utf8"));
  if (version !== wanted) throw new Error(`version ${version} is installed, and not ${wanted}`);
}

/** Removes the plugin as documented. Returns the remaining paths. @param {User} user */
async function removed(user) {
  await user.types(UPGRADE, "Removing", (command) => /plugins uninstall|npm\/projects/.test(command));
  await user.stop();
  const left = await traces(user);
  const strange = unexpected(left);
  if (strange.length > 0) throw new Error(`left behind and not documented: ${strange.join(", ")}`);
  const configured = await readFile(join(user.shell.stateDir, "openclaw.json"), "utf8");
  const entry = JSON.parse(configured).plugins?.entries?.agentwatch;
  if (entry && JSON.stringify(entry) !== '{"enabled":false}')
    throw new Error(`left in openclaw.json: ${JSON.stringify(entry)}`);
  await user.types(INSTALL, "The command", (command) => command.startsWith("npm install"));
  await user.shell.run("agentwatch-openclaw purge --yes");
  if ((await readdir(user.shell.stateDir)).includes("agentwatch")) throw new Error("purge left its folder");
  const kept = left.filter(
    (name) => !/^agentwatch$|^openclaw\.json\./.test(name) && name !== "openclaw.json",
  );
  return [...kept, ...(entry ? ["`enabled: false`"] : [])];
}

/** Installs and updates by name, from a local registry. @param {Place} place */
export async function byName({ version, tgz, binary }) {
  const registry = await startRegistry();
  const user = await newUser({ version, binary, env: { NPM_CONFIG_REGISTRY: registry.url } });
  try {
    await registry.publish(tgz);
    const begun = performance.now();
    await user.types(INSTALL, "By name, from a registry");
    await user.start();
    await user.turn();
    await user.shows();
    const first = performance.now() - begun;
    await leaveWaiting(user, 1);
    await registry.publish(join(user.shell.cwd, await packedAs(tgz, after(versionOf(tgz)), user.shell.cwd)));
    const output = await user.types(UPGRADE, "Updating by name");
    if (!output.includes(`-> ${after(versionOf(tgz))}`)) throw new Error(`not updated:\n${output}`);
    await user.receiver.start();
    await user.start();
    await user.turn("after");
    await user.shows(4_000);
    await hand(user, tgz);
    return { first, left: await removed(user) };
  } finally {
    await user.close();
    await registry.close();
  }
}

/** An empty npm registry on the loopback interface, without uplinks. */
async function startRegistry() {
  const folder = await mkdtemp(join(tmpdir(), "new-user-registry-"));
  const port = await freePort();
  const config = join(folder, "config.yaml");
  const all = "packages: { '**': { access: $all, publish: $all } }";
  const quiet = "log: { type: stdout, format: pretty, level: error }";
  await writeFile(
    config,
    `storage: ./storage\nauth: { htpasswd: { file: ./htpasswd } }\nuplinks: {}\n${all}\n${quiet}\n`,
  );
  const child = launch(
    await nodeRuntime(22),
    [await verdaccio(), "--config", config, "--listen", `127.0.0.1:${port}`],
    { env: { PATH: process.env.PATH ?? "", HOME: folder }, cwd: folder, log: join(folder, "log") },
  );
  const url = `http://127.0.0.1:${port}`;
  for (const deadline = Date.now() + 60_000; ; await sleep(200)) {
    if (
      await fetch(url).then(
        ({ ok }) => ok,
        () => false,
      )
    )
      break;
    if (Date.now() > deadline || !child.running())
      throw new Error(`the registry did not start:\n${child.recent()}`);
  }
  return {
    url,
    /** @param {string} tgz */
    publish: (tgz) =>
      run("npm", ["publish", tgz, "--registry", url, `--//127.0.0.1:${port}/:_authToken=anybody`], {
        cwd: folder,
      }),
    close: async () => {
      await child.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Links the unpacked package, as developers do. @param {Place} place */
export async function linked({ version, tgz, binary }) {
  const user = await newUser({ version, binary });
  try {
    await run("tar", ["-xzf", tgz, "-C", user.shell.cwd, "--strip-components=1"]);
    const begun = performance.now();
    await user.types(INSTALL, "From a working copy, for developers");
    await user.start();
    await user.turn();
    await user.shows();
    return performance.now() - begun;
  } finally {
    await user.close();
  }
}

/**
 * AgentWatch's own hook, then this hook in its place, then the plugin in its place: each call counts once, and each
 * start of the gateway is told once. `oldHook` is a folder with AgentWatch's; a stand-in is made without it.
 *
 * @param {Place & { oldHook?: string | undefined }} place
 */
export async function moved({ version, tgz, binary, oldHook }) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const user = await newUser({ version, binary, port, env: { AGENTWATCH_URL: url } });
  /** Number of records of a gateway's start. */
  const starts = async () => {
    const logs = await (await fetch(`${url}/api/logs?limit=200`)).json();
    return logs.filter((/** @type {any} */ { message }) => message === STARTED).length;
  };
  try {
    const theirs = join(user.workspace, "hooks", "agentwatch");
    await mkdir(join(theirs, ".."), { recursive: true });
    if (oldHook) await cp(oldHook, theirs, { recursive: true });
    else await standIn(theirs);
    const entries = { hooks: { internal: { enabled: true, entries: { agentwatch: { enabled: true } } } } };
    await writeFile(join(user.shell.stateDir, "openclaw.json"), JSON.stringify(entries));
    await user.start();
    await until(async () => (await starts()) > 0, "the old hook tells of the start");
    await user.stop();
    const before = await starts();
    // Its call is in the session store only, and is not counted, as before the installation.
    await user.types(UPGRADE, "Moving from AgentWatch's own hook");
    await buildHook();
    await symlink(join(PROJECT, "examples"), join(user.shell.cwd, "examples"));
    const begun = performance.now();
    await user.types(INSTALL, "As a hook's directory", (command) => !command.startsWith("npm run"));
    await user.start();
    await user.turn();
    await user.shows();
    const first = performance.now() - begun;
    await until(async () => (await starts()) === before + 1, "our hook tells of the start");
    await user.types(UPGRADE, "Removing", (command) => /hooks/.test(command));
    await user.stop();
    await hand(user, tgz);
    await user.types(INSTALL, "From a file");
    await user.start();
    await user.turn("plugin");
    await user.shows(4_000);
    await until(async () => (await starts()) === before + 2, "the plugin tells of the start, once");
    return first;
  } finally {
    await user.close();
  }
}

/** @param {() => Promise<boolean>} holds @param {string} what */
async function until(holds, what) {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(200))
    if (await holds()) return;
  throw new Error(`it did not happen: ${what}`);
}

/** A hook like AgentWatch's: TypeScript, in a workspace, configured by the environment. @param {string} folder */
async function standIn(folder) {
  await mkdir(folder, { recursive: true });
  const metadata =
    '{ "openclaw": { "events": ["gateway:startup", "message:received"], "export": "default" } }';
  await writeFile(
    join(folder, "HOOK.md"),
    `---\nname: agentwatch\ndescription: "AgentWatch's"\nmetadata: ${metadata}\n---\n`,
  );
  await writeFile(
    join(folder, "handler.ts"),
    `const url: string = process.env.AGENTWATCH_URL || "http://172.17.0.1:8470";
export default async (event: { type: string; action: string }): Promise<void> => {
  if (event.type !== "gateway") return;
  const record = { agent_name: "openclaw-gateway", level: "info", message: "${STARTED}" };
  await fetch(\`\${url}/api/v1/ingest/logs\`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(record),
  });
};
`,
  );
}
