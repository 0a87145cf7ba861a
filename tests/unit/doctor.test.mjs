// The doctor: each test makes one problem and reads its mend. Receivers are real HTTP servers, one of them the project's own.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { examine, operatorCommand } from "../../dist/operator.js";
import { portOf } from "./upstream.mjs";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));
const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "agentwatch-doctor-"));
after(() => rmSync(root, { recursive: true, force: true }));

/** @typedef {import("../../dist/operator.js").Finding} Finding */
/** @typedef {(path: string, method: string, authorization: string | undefined) => [status: number, body: unknown, headers?: Record<string, string>]} Answer */

/** @type {import("node:http").Server[]} */
const servers = [];
after(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** A server that answers each request with `answer`. @param {Answer} answer */
async function serve(answer) {
  /** @type {unknown[]} */
  const health = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      const { url = "", method = "", headers } = request;
      if (url === "/api/v1/ingest/health") health.push(JSON.parse(body));
      const [status, told, more = {}] = answer(url, method, headers.authorization);
      response.writeHead(status, { "content-type": "application/json", ...more });
      response.end(JSON.stringify(url.startsWith("/api/health") ? health : told));
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  servers.push(server);
  return `http://127.0.0.1:${portOf(server)}`;
}

/** A receiver that knows record ids. @type {Answer} */
const KNOWS_IDS = () => [200, { features: ["record_ids"] }];

/** AgentWatch 0.1.0; `hasBatch` false: an older one. @param {boolean} hasBatch @returns {Answer} */
const stock = (hasBatch) => (path, method) => {
  if (path.startsWith("/api/model-stats")) return [200, []];
  return path.endsWith("/batch") && method === "POST" && hasBatch
    ? [200, { status: "ok", ingested: 0, counts: {} }]
    : [404, { detail: "Not Found" }];
};

/** @type {string} A receiver that has nothing to complain of. */
let well = "";
before(async () => {
  well = await serve(KNOWS_IDS);
});

let folders = 0;
/** A state directory with the plugin's folder of a gateway with that status. @param {object} [status] */
function stateDir(status) {
  folders += 1;
  const path = join(root, `state-${folders}`);
  mkdirSync(join(path, "agentwatch", "journal"), { recursive: true });
  if (status)
    writeFileSync(
      join(path, "agentwatch", "status.json"),
      JSON.stringify({ written_ms: Date.now(), status: { url: well, requests: 1, ...status } }),
    );
  return path;
}

/** Makes this process the owner of a folder. @param {string} path @param {object} [more] */
function own(path, more = {}) {
  const file = join(path, "agentwatch", "owner.json");
  const started = Math.round(performance.timeOrigin);
  const owner = { pid: process.pid, host: hostname(), started, token: "t", role: "gateway", ...more };
  writeFileSync(file, JSON.stringify(owner));
  return file;
}

/**
 * The doctor's findings; without `all` only troubles.
 *
 * @param {Partial<import("../../dist/operator.js").Subject>} subject
 */
async function findings(subject) {
  return examine({
    stateDir: undefined,
    config: undefined,
    problems: [],
    version: undefined,
    isInside: false,
    ...subject,
    settings: { url: well, inContainer: false, ...subject.settings },
  });
}

/** @param {Partial<import("../../dist/operator.js").Subject>} subject @param {string} check */
async function finding(subject, check) {
  const all = await findings(subject);
  const found = all.find((one) => one.check === check && one.state !== "ok");
  assert.ok(found, JSON.stringify(all, null, 1));
  return /** @type {Finding & { mend: string }} */ (found);
}

test("a gateway without problems", async () => {
  const path = stateDir({ counted_by: "diagnostics and messages" });
  own(path);
  const all = await findings({ stateDir: path });
  assert.deepEqual(
    all.filter(({ state }) => state !== "ok"),
    [],
  );
  assert.ok(all.some(({ says }) => says === `runs in the gateway, process ${process.pid}`));
  assert.ok(all.some(({ says }) => says === "calls are counted by diagnostics and messages"));
});

// ---------------------------------------------------------------------------------------------------------------
// The plugin

for (const [name, plugins, says, mend] of /** @type {const} */ ([
  ["plugins are off", { enabled: false }, /plugins\.enabled is false/, /config set plugins\.enabled true/],
  [
    "it is switched off",
    { entries: { agentwatch: { enabled: false } } },
    /entries\.agentwatch\.enabled is false/,
    /plugins enable agentwatch/,
  ],
  [
    "it is not on the list of trusted plugins",
    { allow: ["telegram"] },
    /plugins\.allow does not name agentwatch/,
    /config set plugins\.allow '\["telegram","agentwatch"\]'/,
  ],
  ["it is denied", { deny: ["agentwatch"] }, /plugins\.deny names agentwatch/, /off plugins\.deny/],
]))
  test(`the plugin is not loaded: ${name}`, async () => {
    const config = /** @type {any} */ ({ plugins });
    const found = await finding({ stateDir: stateDir(), config }, "plugin");
    assert.match(found.says, says);
    assert.match(found.mend, mend);
  });

test("the plugin is not loaded: a gateway runs, and counts nothing", async () => {
  const config = { gateway: { port: Number(new URL(well).port) } };
  const found = await finding({ stateDir: stateDir(), config }, "plugin");
  assert.match(found.says, /a gateway listens on port \d+, and nothing counts on .*state-/);
  assert.match(found.mend, /openclaw plugins list/);
});

test("nothing runs", async () => {
  const config = { gateway: { port: 1 } };
  const found = await finding({ stateDir: stateDir({}), config }, "plugin");
  assert.match(found.says, /nothing runs on .*no gateway listens on port 1/);
  assert.match(found.mend, /start the gateway, or name its state directory/);
});

// ---------------------------------------------------------------------------------------------------------------
// Settings and configuration

test("unknown and invalid settings", async () => {
  const config = { plugins: { entries: { agentwatch: { config: { agentname: "x" } } } } };
  const settings = { flushIntervalMs: 3, otlp: { ulr: "http://x" }, prices: { "p/m": { input: "much" } } };
  const all = (await findings({ config, settings })).filter(({ check }) => check === "settings");
  const told = all.map(({ says, mend }) => `${says} → ${mend}`).join("\n");
  assert.match(told, /unknown setting "agentname" → did you mean "agentName"\?/);
  assert.match(told, /flushIntervalMs cannot be 3 → set it between 50 and 60000/);
  assert.match(told, /otlp\.ulr is no setting of otlp → give url and headers/);
  assert.match(told, /prices/);
});

test("url is false, and there is no collector", async () => {
  const found = await finding({ settings: { url: false } }, "settings");
  assert.match(found.says, /url is false, and there is no otlp/);
  assert.equal(found.mend, "set one of them");
});

test("diagnostics are off", async () => {
  const config = { diagnostics: { enabled: false } };
  const found = await finding({ config, version: "2026.9.6" }, "diagnostics");
  assert.match(found.says, /compactions are not counted/);
  assert.match(found.mend, /config set diagnostics\.enabled true/);
});

test("2026.3.13 does not request usage in streams", async () => {
  const models = [{ id: "qwen" }, { id: "told", compat: { supportsUsageInStreaming: true } }];
  const openai = { baseUrl: "https://api.openai.com/v1", api: "openai-completions", models: [{ id: "gpt" }] };
  const vllm = { baseUrl: "http://10.0.0.2:8000/v1", api: "openai-completions", models };
  const config = { models: { providers: { vllm, openai } } };
  const found = await finding({ config, version: "2026.3.13" }, "streams");
  assert.match(found.says, /no usage in streams of vllm\/qwen:/);
  assert.match(found.mend, /supportsUsageInStreaming: true/);
  const newer = await findings({ config, version: "2026.9.6" });
  assert.ok(!newer.some(({ check }) => check === "streams"));
});

test("a newer gateway whose provider reports no usage", async () => {
  const path = stateDir({ missing_usage: 4 });
  const found = await finding({ stateDir: path, version: "2026.9.6" }, "streams");
  assert.match(found.says, /4 calls came without usage/);
  assert.match(found.mend, /usage=ask/);
});

test("a configuration with values of wrong types", async () => {
  for (const odd of [null, 7, "x", [1], { a: { b: null } }]) {
    const models = { providers: { p: { api: "openai-completions", models: odd }, q: odd } };
    const plugins = { allow: odd, deny: odd, entries: { agentwatch: { config: odd } } };
    const hooks = { internal: { entries: odd, load: { extraDirs: odd } } };
    const agents = { defaults: odd, list: odd, entries: odd };
    const config = /** @type {any} */ ({
      models,
      plugins,
      hooks,
      agents,
      gateway: { port: odd },
      diagnostics: odd,
    });
    const all = await findings({ stateDir: stateDir(), config, version: "2026.3.13" });
    assert.ok(all.some(({ check, state }) => check === "receiver" && state === "ok"));
  }
});

// ---------------------------------------------------------------------------------------------------------------
// AgentWatch and the connection to it

test("nothing listens at the url", async () => {
  const found = await finding({ settings: { url: "http://127.0.0.1:2" } }, "receiver");
  assert.match(found.says, /http:\/\/127\.0\.0\.1:2 does not answer \(ECONNREFUSED\)/);
  assert.match(found.mend, /start AgentWatch, or set its address/);
});

test("in a container, localhost is the container", async () => {
  const settings = { url: "http://localhost:2", inContainer: true };
  const found = await finding({ settings }, "receiver");
  assert.match(found.says, /inside a container this is the container itself/);
  assert.match(found.mend, /172\.17\.0\.1:8470.*host\.docker\.internal:8470/);
});

test("a name that cannot be resolved", async () => {
  const found = await finding({ settings: { url: "http://watch.invalid:8470" } }, "receiver");
  assert.match(found.says, /ENOTFOUND|EAI_AGAIN/);
  assert.match(found.mend, /check url for a typing error/);
});

test("another server listens at the url", async () => {
  const url = await serve(() => [200, "hello"]);
  const found = await finding({ settings: { url } }, "receiver");
  assert.match(found.says, /what answers at .* is not AgentWatch/);
  assert.match(found.mend, /something else has its port/);
});

test("it refuses the host name", async () => {
  const url = await serve(() => [403, { error: "Host is not a name of this receiver" }]);
  const found = await finding({ settings: { url, token: "right" } }, "receiver");
  assert.match(found.says, /refuses this host name \(HTTP 403\)/);
  assert.match(found.mend ?? "", /--allow-host 127\.0\.0\.1/);
});

test("it redirects", async () => {
  const url = await serve(() => [302, {}, { location: "https://login.example/" }]);
  const found = await finding({ settings: { url } }, "receiver");
  assert.match(found.says, /redirects \(HTTP 302\)/);
});

for (const [name, token, says, mend] of /** @type {const} */ ([
  ["is missing", undefined, /wants a token \(HTTP 401\)/, /set it: .*config\.token/],
  ["is wrong", "other-token", /refuses the token \(HTTP 401\)/, /set the right one/],
]))
  test(`the token ${name}`, async () => {
    /** @type {Answer} */
    const guarded = (_path, _method, authorization) =>
      authorization === "Bearer right" ? KNOWS_IDS("", "", "") : [401, { error: "Authentication required" }];
    const url = await serve(guarded);
    const found = await finding({ settings: { url, token } }, "token");
    assert.match(found.says, says);
    assert.match(found.mend, mend);
    assert.doesNotMatch(JSON.stringify(found), /other-token/);
    const all = await findings({ settings: { url, token: "right" } });
    assert.ok(!all.some(({ check }) => check === "token"));
  });

test("AgentWatch 0.1.0 is accepted, an older one is too old", async () => {
  const all = await findings({ settings: { url: await serve(stock(true)) } });
  assert.ok(all.some(({ state, says }) => state === "ok" && /as AgentWatch 0\.1\.0 does/.test(says)));
  const found = await finding({ settings: { url: await serve(stock(false)) } }, "receiver");
  assert.match(found.says, /too old: it has no \/api\/v1\/ingest\/batch/);
  assert.match(found.mend, /update AgentWatch/);
});

test("clocks that differ", async () => {
  const date = new Date(Date.now() - 600_000).toUTCString();
  const url = await serve(() => [200, { features: [] }, { date }]);
  const found = await finding({ settings: { url } }, "clock");
  assert.match(found.says, /clock is (599|600|601) s ahead of AgentWatch's/);
  assert.match(found.mend, /NTP/);
});

test("two senders report one gateway", async () => {
  const reported_twice = [
    ["x", "y"],
    ["berlin", "berlin-proxy"],
  ];
  const url = await serve(() => [200, { features: ["record_ids"], reported_twice }]);
  const found = await finding({ settings: { url, gateway: "berlin" } }, "twice");
  assert.match(found.says, /calls of this gateway \(berlin\) from "berlin-proxy" too/);
  assert.match(found.mend, /one way for each gateway/);
  const others = await findings({ settings: { url, gateway: "paris" } });
  assert.ok(!others.some(({ check }) => check === "twice"));
});

// ---------------------------------------------------------------------------------------------------------------
// The journal and its folder

test("the folder belongs to another user, or cannot be written", () => {
  // Root may write everywhere, so another user runs a copy of the program.
  const isRoot = process.getuid?.() === 0;
  const shared = mkdtempSync(join(isRoot ? "/var/tmp" : root, "agentwatch-doctor-"));
  const state = join(shared, "state");
  const folder = join(state, "agentwatch");
  const look = () => {
    const script = `process.setuid?.(${isRoot ? 65_534 : process.getuid?.()});
      const { operatorCommand } = await import("${shared}/dist/operator.js");
      process.exitCode = await operatorCommand(["doctor", "--json", "--state-dir", "${state}"]);`;
    const args = ["--input-type=module", "-e", script];
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", cwd: shared });
    assert.equal(stderr, "");
    const found = JSON.parse(stdout).findings.find((/** @type {Finding} */ { check }) => check === "files");
    assert.equal(found.state, "trouble");
    return found;
  };
  try {
    cpSync(DIST, join(shared, "dist"), { recursive: true });
    writeFileSync(join(shared, "dist", "package.json"), `{"type": "module"}`);
    mkdirSync(join(folder, "journal"), { recursive: true });
    spawnSync("chmod", ["-R", "a+rX", shared]);
    chmodSync(join(folder, "journal"), 0o555);
    const unwritable = look();
    assert.match(unwritable.says, /agentwatch.* cannot be read and written by this user/);
    assert.match(unwritable.mend, isRoot ? /run this as the gateway's user/ : /chmod -R u\+rwX/);
    chmodSync(state, 0);
    assert.match(look().says, /state\/agentwatch cannot be looked at by this user \(EACCES\)/);
  } finally {
    chmodSync(state, 0o755);
    rmSync(shared, { recursive: true, force: true });
  }
});

test("the journal cannot be written, or had corrupt entries", async () => {
  const path = stateDir({ journal_error: "EROFS: read-only file system", journal_corrupt: 3, waiting: 0 });
  own(path);
  const found = await finding({ stateDir: path }, "sending");
  assert.match(found.says, /journal cannot be written: EROFS/);
  assert.match(found.mend, /room on the disk/);
  const corrupt = await finding({ stateDir: path }, "journal");
  assert.match(corrupt.says, /3 entries of the journal were corrupt/);
});

test("the owner of the journal has ended, or hangs", async () => {
  const gone = stateDir({});
  const { pid } = spawnSync(process.execPath, ["--version"]);
  own(gone, { pid });
  const found = await finding({ stateDir: gone }, "journal");
  assert.equal(found.state, "note");
  assert.match(found.says, new RegExp(`process ${pid} \\(gateway\\) owned the journal and has ended`));
  assert.match(found.mend, /the next start takes the journal over/);

  const hung = stateDir({});
  const before = new Date(Date.now() - 90_000);
  utimesSync(own(hung), before, before);
  const silent = await finding({ stateDir: hung }, "journal");
  assert.match(silent.says, /has said nothing for 1?\d\d? s: it hangs/);
  assert.match(silent.mend, /restart the gateway/);
});

test("pending and dropped calls", async () => {
  const path = stateDir({
    waiting: 12,
    oldest_unsent_ms: Date.now() - 600_000,
    last_error: "AgentWatch cannot be reached",
    dropped: { journal_full: 7 },
  });
  own(path);
  const waiting = await finding({ stateDir: path }, "sending");
  assert.match(`${waiting.says} ${waiting.mend}`, /12 calls wait to be sent.*AgentWatch cannot be reached/);
  assert.match((await finding({ stateDir: path }, "dropped")).says, /7 calls: journal full/);
});

test("errors of the collector", async () => {
  const path = stateDir({
    otlp: { url: "http://c", metrics: { last_error: "refuses /v1/metrics (HTTP 401)" } },
  });
  assert.match((await finding({ stateDir: path }, "collector")).says, /refuses \/v1\/metrics/);
});

test("where the metrics are, or why they are not served", async () => {
  const url = "http://127.0.0.1:9464/metrics";
  const served = stateDir({ metrics: { url } });
  own(served);
  const all = await findings({ stateDir: served });
  assert.ok(
    all.some(({ check, state, says }) => check === "metrics" && state === "ok" && says.includes(url)),
  );
  const problem = "metricsPort 9464: another gateway or program listens on 127.0.0.1:9464; set another port";
  const taken = stateDir({ metrics: { problem } });
  own(taken);
  const found = await finding({ stateDir: taken }, "metrics");
  assert.match(`${found.says} → ${found.mend}`, /metricsPort 9464: another gateway .* → set another port/);
  // Without an owner nothing is served, and another check says why.
  const ended = await findings({ stateDir: stateDir({ metrics: { problem } }) });
  assert.ok(ended.every(({ check }) => check !== "metrics"));
});

test("AgentWatch's own hook is still installed", async () => {
  const path = stateDir({});
  const hook = join(path, "hooks", "agentwatch");
  mkdirSync(hook, { recursive: true });
  writeFileSync(join(hook, "HOOK.md"), "---\nname: agentwatch\n---\n");
  writeFileSync(join(hook, "handler.ts"), "fetch(`${process.env.AGENTWATCH_URL}/api/v1/ingest/logs`)");
  const found = await finding({ stateDir: path }, "hook");
  assert.match(found.says, /hooks\/agentwatch is another hook that reports to AgentWatch/);
  assert.match(found.mend, /openclaw hooks disable agentwatch/);
  const config = { hooks: { internal: { entries: { agentwatch: { enabled: false } } } } };
  assert.ok(!(await findings({ stateDir: path, config })).some(({ check }) => check === "hook"));
  // This package's own hook records nothing beside the plugin.
  rmSync(join(hook, "handler.ts"));
  copyFileSync(new URL("../../examples/openclaw-hook/handler.js", import.meta.url), join(hook, "handler.js"));
  assert.ok(!(await findings({ stateDir: path })).some(({ check }) => check === "hook"));
});

// ---------------------------------------------------------------------------------------------------------------
// The commands

/** @param {string[]} args @param {Record<string, string>} [env] */
async function cli(args, env = {}) {
  const given = { PATH: process.env.PATH ?? "", HOME: root, ...env };
  const child = spawn(process.execPath, [CLI, ...args], {
    env: given,
    timeout: 120_000,
    killSignal: "SIGKILL",
  });
  const said = { stdout: "", stderr: "" };
  for (const name of /** @type {const} */ (["stdout", "stderr"]))
    child[name].setEncoding("utf8").on("data", (text) => {
      said[name] += text;
    });
  const [code] = await once(child, "close");
  return { code, ...said };
}

test("test sends a health record and reads it back, and reports where it cannot", async () => {
  const path = stateDir({});
  const good = await cli(["test", "--state-dir", path], { AGENTWATCH_URL: well });
  assert.match(good.stdout, /^ok +test +http\S+ took a health record in \d+ ms and shows it/);
  assert.equal(good.code, 0);
  const away = await cli(["test", "--json", "--state-dir", path], { AGENTWATCH_URL: "http://127.0.0.1:2" });
  assert.match(JSON.parse(away.stdout).findings[0].says, /did not take it \(ECONNREFUSED\)/);
  assert.equal(away.code, 1);
});

test("profiles, OPENCLAW_STATE_DIR and --state-dir name the gateway, nearest first", async () => {
  const where = async (/** @type {string[]} */ args, /** @type {Record<string, string>} */ env = {}) => {
    const { stderr } = await cli(["status", ...args], env);
    return /never run on (\S+):/.exec(stderr)?.[1];
  };
  const fromEnv = { OPENCLAW_STATE_DIR: "/nowhere/env", OPENCLAW_PROFILE: "work" };
  assert.equal(await where([]), join(root, ".openclaw"));
  assert.equal(await where([], { OPENCLAW_PROFILE: "work" }), join(root, ".openclaw-work"));
  assert.equal(await where([], { OPENCLAW_PROFILE: "default" }), join(root, ".openclaw"));
  assert.equal(await where([], fromEnv), "/nowhere/env");
  assert.equal(await where(["--profile", "night"], fromEnv), join(root, ".openclaw-night"));
  assert.equal(await where(["--profile", "night", "--state-dir", "/nowhere/opt"], fromEnv), "/nowhere/opt");
});

test("the named gateway's configuration is read, with variables replaced; one with comments is reported", async () => {
  const path = stateDir({});
  const write = (/** @type {string} */ text) => writeFileSync(join(path, "openclaw.json"), text);
  const entries = { agentwatch: { config: { url: "http://127.0.0.1:2", token: "${NIGHT_TOKEN}" } } };
  write(JSON.stringify({ plugins: { entries } }));
  const told = async (/** @type {Record<string, string>} */ env) =>
    (await cli(["doctor", "--state-dir", path], { OPENCLAW_CONFIG_PATH: "/nowhere/openclaw.json", ...env }))
      .stdout;
  assert.match(await told({ NIGHT_TOKEN: "x" }), /http:\/\/127\.0\.0\.1:2 does not answer/);
  assert.match(await told({}), /token names a variable that is not set here/);
  write(`// mine\n${JSON.stringify({ plugins: { entries } })}`);
  assert.match(
    await told({}),
    /cannot be read as JSON[^]*`openclaw agentwatch` reads it as the gateway does/,
  );
});

test("only the gateway resolves a reference to a secret", async () => {
  const path = stateDir({});
  const token = { source: "env", provider: "default", id: "X" };
  const entries = { agentwatch: { config: { url: well, token } } };
  writeFileSync(join(path, "openclaw.json"), JSON.stringify({ plugins: { entries } }));
  const { stdout } = await cli(["doctor", "--state-dir", path]);
  assert.match(stdout, /token is a reference to a secret, which cannot be resolved here/);
  assert.match(stdout, /`openclaw agentwatch` can; set AGENTWATCH_TOKEN for this command/);
});

test("the exit status is 2 for invalid options and 0 for --help", async (t) => {
  t.mock.method(console, "error", () => {});
  const help = t.mock.method(console, "log", () => {});
  for (const command of ["status", "doctor", "test"]) {
    assert.equal(await operatorCommand([command, "--colour"]), 2);
    assert.equal(await operatorCommand([command, "--help"]), 0);
    assert.match(String(help.mock.calls.at(-1)?.arguments[0]), /Exit status: 0 /);
  }
});

// ---------------------------------------------------------------------------------------------------------------
// Allowances that stop

const STOPS = { allowance: [{ usd: 20, per: "day", then: "stop" }] };

/** The findings of the check, in a gateway with this entry of the plugin. @param {any} hooks @param {string} [version] */
async function ofGates(hooks, version = "2026.9.6", settings = STOPS) {
  const config = /** @type {any} */ ({ plugins: { entries: { agentwatch: { hooks } } } });
  const all = await findings({ config, version, settings });
  return all.filter(({ check }) => check === "allowance");
}

for (const [hooks, setting, mend] of /** @type {[any, RegExp, RegExp][]} */ ([
  [undefined, /hooks\.allowConversationAccess is not set/, /set \S+hooks\.allowConversationAccess true/],
  [
    { allowConversationAccess: false },
    /hooks\.allowConversationAccess is false/,
    /set \S+hooks\.allowConversationAccess true/,
  ],
  [{ allowConversationAccess: "true" }, /hooks\.allowConversationAccess is "true"/, /set .* true/],
  [
    { allowConversationAccess: true, timeouts: { before_agent_run: 500 } },
    /hooks\.timeouts\.before_agent_run is 500/,
    /set \S+hooks\.timeouts\.before_agent_run 15000/,
  ],
  [
    { allowConversationAccess: true, timeoutMs: 1_000, timeouts: { before_agent_run: 9_000 } },
    /hooks\.timeoutMs is 1000.*before_tool_call/,
    /set \S+hooks\.timeouts\.before_tool_call 15000/,
  ],
]))
  test(`an allowance that the gateway does not let stop: ${JSON.stringify(hooks)}`, async () => {
    const [found, ...others] = await ofGates(hooks);
    assert.deepEqual(others, []);
    assert.equal(found?.state, "trouble");
    assert.match(found?.says ?? "", setting);
    assert.match(found?.mend ?? "", mend);
  });

test("an allowance that the gateway lets stop, and one that only warns", async () => {
  const granted = { allowConversationAccess: true, timeoutMs: 30_000 };
  assert.deepEqual(
    (await ofGates(granted)).map(({ state }) => state),
    ["ok"],
  );
  const warns = { allowance: [{ usd: 20, per: "day", then: "warn" }] };
  assert.deepEqual(await ofGates(undefined, "2026.9.6", warns), []);
  // Without a version it is not known whether OpenClaw has the grant.
  const config = /** @type {any} */ ({ plugins: { entries: { agentwatch: {} } } });
  const [unknown] = (await findings({ config, settings: STOPS })).filter(
    ({ check }) => check === "allowance",
  );
  assert.equal(unknown?.state, "note");
  assert.match(unknown?.mend ?? "", /^on OpenClaw 2026\.5 and later: /);
  const [old] = await ofGates(undefined, "2026.3.13");
  assert.equal(old?.state, "note");
  assert.match(old?.says ?? "", /2026\.3\.13 has no hook before a run/);
  assert.match(old?.mend ?? "", /agentwatch-openclaw proxy/);
});

test("valid settings of several parts have no trouble, and an invalid one is named", async () => {
  const config = /** @type {any} */ ({ plugins: { entries: { agentwatch: {} } } });
  const settingsOf = async (/** @type {any} */ settings) =>
    (await findings({ config, settings })).filter(({ check }) => check === "settings");
  const valid = {
    allowance: [
      { usd: 20, per: "day", then: "warn", zone: "Europe/Berlin" },
      { tokens: 1_000_000, per: "hour", agent: "main", then: "warn" },
    ],
    prices: { "p/m": { input: 1, output: 2 } },
    webhook: { url: "https://hook.test/x", secret: "MARKED7QSECRET" },
    zone: "Europe/Berlin",
  };
  const found = await settingsOf(valid);
  assert.deepEqual(
    found.filter(({ state }) => state === "trouble"),
    [],
  );
  const [bad] = await settingsOf({ allowance: [{ usd: 20, per: "year", then: "warn" }] });
  assert.equal(bad?.state, "trouble");
  assert.match(bad?.says ?? "", /allowance\[0\].*per.*year/);
});
