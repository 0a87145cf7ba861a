import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { planOfDirectives } from "../../examples/gateway/plan.mjs";
import { modelCalls } from "../../examples/gateway/receiver.mjs";
import { startWorld, waitForTotals } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { startProxy } from "./proxy.mjs";
import { until } from "./scenarios.mjs";
import { runCommand } from "./services.mjs";
import { WebhookServer } from "./webhook-server.mjs";

/** A marker for each kind of content that must not leave; none occurs by chance. */
const MARKS = {
  prompt: "MARKEDPROMPT7Q",
  answer: "MARKEDANSWER7Q",
  error: "MARKEDERROR7Q",
  tool: "MARKEDTOOL7Q",
  phone: "15112345678",
};
const TOKEN = "MARKEDTOKEN7Q-aaaa-bbbb";
/** The webhook's secret signs, and is never sent. */
const SECRET = "MARKEDSECRET7Q";
/** The first is warned of; the second lets the first cron job's call pass, and stops the next one. */
const ALLOWANCE = [
  { tokens: 1_000, per: "month", then: "warn" },
  { tokens: 1, per: "month", trigger: "cron", then: "stop" },
];
/** Groups of the page. */
const GROUPS = ["sessions", "prompt-bill", "by-agent", "by-channel", "by-job", "by-trigger"];
const PHONE = "whatsapp:direct:+4915112345678";

for (const version of versions) {
  describe(`OpenClaw ${version}, privacy`, { skip }, () => {
    /** @type {import("./harness.mjs").World} */
    let world;
    /** @type {import("./proxy.mjs").Proxy} */
    let proxy;
    /** @type {import("./proxy.mjs").Proxy} */
    let elsewhere;
    /** @type {WebhookServer} */
    let webhook;
    /** @type {Awaited<ReturnType<typeof startSink>>} */
    let collector;
    /** @type {string} */
    let folder;
    let metricsPort = 0;
    /** The gateway's log, after all. */
    let log = "";

    before(async () => {
      folder = await mkdtemp(join(tmpdir(), "openclaw-privacy-"));
      webhook = await WebhookServer.open(SECRET);
      collector = await startSink();
      metricsPort = await freePort();
      const hasRunGate = Number(version.split(".")[1]) > 3;
      world = await startWorld({
        version,
        tgz,
        pluginConfig: {
          token: TOKEN,
          allowance: ALLOWANCE,
          webhook: { url: webhook.url, secret: SECRET },
          otlp: { url: collector.url, protocol: "http/protobuf" },
          metricsPort,
        },
        ...(hasRunGate ? { pluginEntry: { hooks: { allowConversationAccess: true } } } : {}),
        receiver: { binary, token: TOKEN, args: ["--db", join(folder, "agentwatch.db")] },
        provider: { script: marked },
        gateway: {
          stateDir: join(folder, "state"),
          env: { OTEL_SEMCONV_STABILITY_OPT_IN: "gen_ai_latest_experimental/dup" },
        },
        between: async (url) => {
          proxy = await startProxy(url);
          return proxy;
        },
      });
      elsewhere = await startProxy(world.receiver.url);
    });
    after(async () => {
      await world?.close();
      await elsewhere?.close();
      webhook?.close();
      collector?.close();
      if (folder) await rm(folder, { recursive: true, force: true });
    });

    test("marked content goes through every path, and all calls are counted", async () => {
      await everyPath(world);
      await waitForTotals(world.provider, world.receiver);
      assert.ok(world.provider.ledger.length > 12, "the paths made requests");
    });

    test("a redirect is not followed: the token goes to the configured origin only", async () => {
      proxy.treat(() => ({ redirect: elsewhere.url }));
      await world.gateway.agentTurn({ session: PHONE, message: MARKS.prompt });
      const isRedirected = () => proxy.passed.some(({ treatment }) => typeof treatment === "object");
      await until(isRedirected, "a redirect", 60_000);
      // Enough time to follow the redirect.
      await sleep(2000);
      assert.deepEqual(elsewhere.passed, []);
      proxy.treat(() => "pass");
      // Pending records are sent later.
      await waitForTotals(world.provider, world.receiver, { timeoutMs: 90_000 });
      assert.deepEqual(elsewhere.passed, []);
    });

    test("sessions are distinguished without their names", async () => {
      const keys = new Set((await modelCalls(world.receiver)).map(({ session_key }) => session_key));
      assert.ok(keys.size > 3, [...keys].join(" "));
    });

    test("no marker is in a notice of the webhook, or in an export of OpenTelemetry", async () => {
      const types = () => new Set(webhook.accepted.map(({ type }) => type));
      await until(() => types().has("allowance") && types().has("alarm_began"), "notices", 60_000);
      assertClean(JSON.stringify(webhook.requests), "a notice");
      assert.deepEqual(webhook.problems, []);
      await until(() => collector.told.size === 2, "exports of both signals", 90_000);
      // Strings in protobuf are their bytes. All metrics and spans have names of both conventions.
      for (const text of collector.texts) assertClean(text, "an export");
      const exports = collector.texts.join("\n");
      for (const name of ["gen_ai.client.token.usage", "gen_ai.client.inference.usage.input_tokens"])
        assert.ok(exports.includes(name), name);
      assert.match(exports, /application\/x-protobuf/);
    });

    test("no marker is in the messages of allowances and alarms", async () => {
      const logs = await read(world.receiver, "/api/logs?limit=1000");
      const kinds = { warned: /"percent": ?100/, stopped: /"stopped": ?true/, alarm: /"alarm_began"/ };
      for (const [kind, of] of Object.entries(kinds)) assert.match(logs, of, kind);
      assertClean(logs, "the logs");
    });

    test("no marker is in what commands and the chat print", async () => {
      const { stateDir } = world.gateway;
      for (const args of [["status"], ["doctor"], ["status", "--json"]])
        assertClean((await runCommand(args, stateDir)).output, args.join(" "));
      for (const args of [
        ["report", "--focus"],
        ["allow", "1h"],
      ]) {
        const { code, output } = await runCommand(args, stateDir);
        assert.equal(code, 0, output);
        assertClean(output, args.join(" "));
      }
      for (const by of ["model,agent,channel,job", "day,trigger"])
        for (const form of [[], ["--json"], ["--csv"]]) {
          const { code, output } = await runCommand(
            ["report", "--since", "30d", "--by", by, ...form],
            stateDir,
          );
          assert.equal(code, 0, output);
          assertClean(output, `report --by ${by} ${form}`);
        }
      for (const message of ["/agentwatch", "/agentwatch doctor"]) {
        const { done } = await world.gateway.chatSend({ session: "operator", message });
        assertClean(JSON.stringify(await done), message);
      }
    });

    test("no marker is in the plugin's own metrics", async () => {
      const answer = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
      const text = await answer.text();
      assert.match(text, /^agentwatch_requests_total\{.*agent="main"/m);
      assertClean(text, "/metrics");
    });

    test("no marker is in the receiver's page and exports", async () => {
      const names = ["stats", "calls", ...GROUPS];
      const files = names.flatMap((name) => [`${name}.csv`, `${name}.json`]);
      for (const path of [
        ...["focus.csv", ...files].map((file) => `/models/${file}?hours=720`),
        ...["/models", "/metrics", "/api/sessions", "/api/prompt-bill", "/api/model-usage?hours=720"],
        ...["/api/traces", "/api/health", "/api/metrics", "/api/costs/usage"],
      ])
        assertClean(await read(world.receiver, path), path);
    });

    test("no marker is in any request", async () => {
      await world.gateway.stop();
      log = await readFile(world.gateway.log.path, "utf8");
      assert.ok(proxy.passed.length > 5);
      for (const { method, url, headers, body } of proxy.passed) {
        const { authorization, ...others } = headers;
        assert.equal(authorization, `Bearer ${TOKEN}`, `${method} ${url}`);
        assertClean(`${method} ${url} ${JSON.stringify(others)} ${body}`, "a request");
      }
    });

    test("no marker is in the receiver's database or log", async () => {
      await world.receiver.stop();
      const files = (await readdir(folder)).filter((file) => file.startsWith("agentwatch.db"));
      assert.ok(files.length > 0);
      for (const file of files) assertClean(await readFile(join(folder, file), "latin1"), file);
      assertClean(world.receiver.log(), "the receiver's log");
    });

    test("no marker is in the plugin's files, which only their user may read", async () => {
      const ours = join(world.gateway.stateDir, "agentwatch");
      assert.equal((await stat(ours)).mode & 0o777, 0o700, "the folder");
      const files = (await readdir(ours, { recursive: true, withFileTypes: true })).filter((file) =>
        file.isFile(),
      );
      assert.ok(files.length > 0);
      for (const { parentPath, name } of files) {
        const path = join(parentPath, name);
        assert.equal((await stat(path)).mode & 0o777, 0o600, name);
        assertClean(await readFile(path, "latin1"), name);
      }
    });

    test("no marker is in the plugin's log lines", () => {
      // No path of this test has the plugin's name, so these lines are by the plugin or about it.
      const lines = log.split("\n").filter((line) => /agentwatch/i.test(line));
      assert.ok(lines.length > 0);
      for (const line of lines) assertClean(line, "a log line");
    });
  });
}

/**
 * Answers, errors and tool calls with marks in them.
 *
 * @type {import("../../examples/gateway/plan.mjs").Script}
 */
function marked(request) {
  const plan = planOfDirectives(request);
  const tool = plan.tool && { ...plan.tool, args: { ...plan.tool.args, path: `${MARKS.tool}.txt` } };
  return { ...plan, text: `${MARKS.answer} ${request.k}`, errorText: MARKS.error, ...(tool ? { tool } : {}) };
}

/** @param {import("./harness.mjs").World} world */
async function everyPath({ gateway, provider }) {
  const { prompt } = MARKS;
  const failing = (/** @type {Promise<unknown>} */ work) => work.catch(() => {});
  for (const agent of ["main", "ant"]) {
    const turn = (/** @type {string} */ directives, session = PHONE) =>
      gateway.agentTurn({ agent, session, message: `${prompt} ${directives}` });
    await turn("");
    await turn("[[tools 1]]");
    await turn("[[nousage]]");
    await failing(turn("[[fail 500 1]]"));
    await failing(turn("[[fail 400]]", "whatsapp:group:+4915112345678"));
    await failing(turn("[[cut]] [[length 400]]", "signal:+4915112345678"));
  }
  const chat = await gateway.chatSend({ session: PHONE, message: prompt });
  await chat.done;
  const before = provider.ledger.length;
  const aborted = await gateway.chatSend({
    session: PHONE,
    message: `${prompt} [[drip 60 250]] [[length 600]]`,
  });
  await until(() => provider.ledger.length > before, "the request of the turn to abort", 60_000);
  await sleep(1500);
  await gateway.chatAbort(aborted);
  await aborted.done;
  await gateway.httpChat({ session: PHONE, message: prompt });
  for (const directives of ["", "[[tools 1]]"]) await gateway.cronRun({ message: `${prompt} ${directives}` });
  // The file is not there: the tool fails until the alarm is given.
  await gateway.agentTurn({ session: "runaway", message: `${prompt} [[tools 9]]` });
}

/** An answer of the receiver. @param {import("./harness.mjs").Receiver} receiver @param {string} path */
async function read({ url }, path) {
  const response = await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${TOKEN}` } });
  assert.equal(response.status, 200, path);
  return response.text();
}

/** A collector that stores what it gets. */
async function startSink() {
  const told = new Set();
  /** @type {string[]} */
  const texts = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    told.add(request.url);
    texts.push(`${request.url} ${JSON.stringify(request.headers)} ${Buffer.concat(chunks)}`);
    response.writeHead(200, { "content-type": "application/json" }).end("{}");
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}`,
    told,
    texts,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** @param {string} text @param {string} where */
function assertClean(text, where) {
  for (const mark of [...Object.values(MARKS), TOKEN, SECRET]) {
    const at = text.indexOf(mark);
    assert.equal(at, -1, `${mark} is in ${where}: …${text.slice(Math.max(0, at - 60), at + 60)}…`);
  }
}
