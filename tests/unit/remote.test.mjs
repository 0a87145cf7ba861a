// `sync --gateway`: reading sessions through a gateway's API, calls of other senders, and the documented commands.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, afterEach, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { GatewayPoll, OtherSenders } from "../../dist/remote.js";
import { printed } from "../../scripts/lib/commands.mjs";
import { startFakeGateway } from "./fake-gateway.mjs";
import { until } from "./faulty-receiver.mjs";
import { folder, link, makeCertificate, SECRET } from "./remote-setup.mjs";
import { Receiver } from "./world.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));

describe("following a gateway", () => {
  /** @type {(() => Promise<void>)[]} */
  const closers = [];
  // Also where a test fails: what stays open keeps the process alive.
  afterEach(async () => {
    for (const close of closers.splice(0)) await close();
  });

  /** @param {any} session */
  const point = ({ n }, i = 0) => ({
    timestamp: 1_795_000_000_000 + i * 1_000,
    input: n,
    output: 1 + i,
    cacheRead: 0,
    cacheWrite: 0,
    totalTokens: n + 1 + i,
    cost: 0,
  });

  /** A gateway with sessions and calls. @param {{ hasEvents?: boolean, takesMaxChars?: boolean }} [kind] */
  async function follow({ hasEvents = true, takesMaxChars = true } = {}) {
    /** @type {Map<string, { n: number, calls: number, updatedAt: number, sessionId: string, isSilent?: boolean }>} */
    const sessions = new Map();
    /** Rows of `sessions.usage`. @type {object[]} */
    const found = [];
    const gateway = await startFakeGateway({
      answer: (method, params) => {
        const invalid = (/** @type {string} */ message) => ({ code: "INVALID_REQUEST", message });
        if (method === "sessions.subscribe" && !hasEvents)
          throw invalid("unknown method: sessions.subscribe");
        if (method === "sessions.list") {
          const rows = [...sessions].map(([key, { updatedAt, sessionId }]) => ({
            key,
            updatedAt,
            sessionId,
            modelProvider: "mock",
            model: "m1",
          }));
          const { offset = 0, limit = 2 } = params;
          const page = hasEvents ? rows.slice(offset, offset + limit) : rows;
          const hasMore = hasEvents && offset + limit < rows.length;
          return {
            ts: Date.now(),
            sessions: page,
            ...(hasEvents && { hasMore, nextOffset: offset + limit, limitApplied: limit }),
          };
        }
        if (method === "sessions.usage") return { sessions: found };
        const session = sessions.get(params.key ?? params.sessionKey);
        if (method.startsWith("sessions.usage.") && !session)
          throw invalid(`No transcript found for session: ${params.key}`);
        if (method === "sessions.usage.timeseries" && session)
          return {
            sessionId: session.sessionId,
            points: Array.from({ length: session.calls }, (_, i) => point(session, i)),
          };
        if (method === "chat.history" && params.maxChars && !takesMaxChars)
          throw invalid("invalid chat.history params: at root: unexpected property 'maxChars'");
        // A working gateway writes its history late.
        const told =
          session && !session.isSilent
            ? Array.from({ length: session.calls }, (_, i) => point(session, i))
            : [];
        const messages = told.map(({ timestamp, cost: _, ...usage }) => ({
          role: "assistant",
          provider: "mock",
          model: "named",
          stopReason: "stop",
          timestamp,
          usage,
        }));
        return { messages };
      },
    });
    /** @type {any[]} */
    const taken = [];
    const marks = new Map();
    const { instantiate } = await import("../../dist/base.js");
    const poll = new GatewayPoll(
      {
        instantiate: () => instantiate(() => {}),
        mark: (/** @type {string} */ name) => marks.get(name),
        take: (/** @type {any[]} */ calls, /** @type {string} */ name, /** @type {string} */ mark) => {
          marks.set(name, mark);
          taken.push(...calls);
        },
        room: async () => {},
        warn: () => {},
        wall: Date.now,
        mono: () => performance.now(),
      },
      0,
    );
    let heard = 0;
    const onEvent = (/** @type {any} */ event) => {
      heard += 1;
      poll.onEvent(event);
    };
    const open = await link(gateway, { onEvent });
    await poll.use(open);
    /** Tells events, all of which the poll has before it takes another step. */
    const tell = async (/** @type {string} */ event, /** @type {object} */ payload, count = 1) => {
      const all = heard + count;
      for (let n = 0; n < count; n += 1) gateway.tell(event, payload);
      await until(() => heard >= all);
    };
    /** Lets the poll step until a condition holds: its pauses grow with the time that a reading takes. */
    const stepUntil = (/** @type {() => boolean} */ condition) =>
      until(async () => condition() || (await poll.step(100), condition()));
    /** The same until nothing is left to be read either, and for a while longer, in which nothing more may come. */
    const settled = async (condition = () => true) => {
      await stepUntil(() => condition() && poll.isIdle);
      for (const end = performance.now() + 600; performance.now() < end; ) await poll.step(100);
    };
    const asked = (/** @type {string} */ method) => gateway.asked.filter((one) => one.method === method);
    closers.push(async () => {
      open.close();
      await gateway.close();
    });
    const add = (/** @type {string} */ key, n = 1) =>
      sessions.set(key, { n, calls: 1, updatedAt: n, sessionId: `id-${key}` });
    const readings = () => asked("sessions.usage.timeseries").length;
    return { sessions, found, add, taken, poll, tell, stepUntil, settled, asked, readings };
  }

  test("a session that is not listed has the model of its usage", async () => {
    const far = await follow();
    await far.settled();
    const key = "agent:main:cron:1";
    const modelUsage = [{ provider: "mock", model: "of-usage", count: 1 }];
    far.found.push({ key, sessionId: `id-${key}`, updatedAt: 1, usage: { modelUsage } });
    far.sessions.set(key, { n: 5, calls: 1, updatedAt: 1, sessionId: `id-${key}`, isSilent: true });
    await far.poll.discover(0);
    // Its message is looked for a few times.
    await far.settled(() => far.taken.length > 0);
    assert.deepEqual(
      far.taken.map(({ model }) => model),
      ["of-usage"],
    );
  });

  test("all pages of the list are read, and each session once until it changes", async () => {
    const far = await follow();
    for (let n = 1; n <= 5; n += 1) far.add(`agent:main:s${n}`, n);
    await far.settled(() => far.taken.length >= 5);
    assert.equal(far.taken.length, 5);
    assert.deepEqual(
      far.asked("sessions.list").map(({ params }) => params.offset ?? 0),
      [0, 2, 4],
    );
    assert.equal(far.readings(), 5);
    const session = far.sessions.get("agent:main:s3");
    if (session) Object.assign(session, { calls: 3, updatedAt: 99 });
    await far.tell("sessions.changed", { sessionKey: "agent:main:s3", phase: "message" });
    await far.settled(() => far.taken.length >= 7);
    assert.equal(far.taken.length, 7);
    assert.equal(far.readings(), 6);
    // With events it lists no sessions in between, and requests no totals.
    assert.equal(far.asked("sessions.list").length, 3);
    for (const method of ["usage.cost", "sessions.usage"]) assert.equal(far.asked(method).length, 0);
  });

  test("a call whose message comes late has its model, and a call without a message is counted too", async () => {
    const far = await follow();
    far.add("agent:main:late");
    far.add("agent:main:never", 7);
    for (const session of far.sessions.values()) session.isSilent = true;
    // Both were looked for in vain, and are looked for again.
    await far.stepUntil(() => far.readings() >= 2);
    assert.equal(far.taken.length, 0);
    const late = far.sessions.get("agent:main:late");
    if (late) late.isSilent = false;
    await far.settled(() => far.taken.length >= 2);
    assert.deepEqual(far.taken.map(({ model }) => model).sort(), ["m1", "named"]);
  });

  test("a burst of changes is one reading", async () => {
    const far = await follow();
    far.add("agent:main:a");
    await far.settled(() => far.readings() > 0);
    const before = far.readings();
    await far.tell("session.message", { sessionKey: "agent:main:a" }, 50);
    await far.settled(() => far.readings() > before);
    assert.equal(far.readings(), before + 1);
  });

  test("without events only sessions with another time of change are read", async () => {
    const far = await follow({ hasEvents: false, takesMaxChars: false });
    for (const key of ["agent:main:a", "agent:main:b"]) far.add(key);
    await far.settled(() => far.taken.length >= 2);
    const before = far.readings();
    assert.equal(before, 2);
    const session = far.sessions.get("agent:main:b");
    if (session) Object.assign(session, { calls: 2, updatedAt: 7 });
    await far.settled(() => far.taken.length >= 3);
    assert.deepEqual(
      far
        .asked("sessions.usage.timeseries")
        .slice(before)
        .map(({ params }) => params.key),
      ["agent:main:b"],
    );
    assert.equal(far.taken.length, 3);
    // It tries the unknown parameter once.
    assert.equal(far.asked("chat.history").filter(({ params }) => params.maxChars).length, 1);
  });

  test("events of runs wake it on a gateway without events of sessions", async () => {
    const far = await follow({ hasEvents: false });
    far.add("agent:main:a");
    await far.settled(() => far.taken.length >= 1);
    const session = far.sessions.get("agent:main:a");
    if (session) session.calls = 2;
    await far.tell("agent", { stream: "assistant", sessionKey: "agent:main:a", data: { text: "x" } });
    await far.settled();
    assert.equal(far.taken.length, 1);
    await far.tell("agent", { stream: "lifecycle", sessionKey: "agent:main:a", data: { phase: "end" } });
    await far.settled(() => far.taken.length >= 2);
    assert.equal(far.taken.length, 2);
  });

  test("a key with a new session: the calls of the session before are read by its id", async () => {
    const far = await follow();
    far.add("agent:main:a");
    await far.settled(() => far.taken.length >= 1);
    far.sessions.set("agent:main:id-agent:main:a", {
      n: 1,
      calls: 2,
      updatedAt: 1,
      sessionId: "id-agent:main:a",
    });
    const session = far.sessions.get("agent:main:a");
    if (session) Object.assign(session, { sessionId: "new", calls: 1, updatedAt: 9 });
    await far.tell("sessions.changed", {});
    await far.settled(() => far.taken.length >= 3);
    assert.equal(far.taken.length, 3);
  });
});

describe("calls of other senders", () => {
  const at = 1_795_000_000_000;
  /** @param {any[]} records @param {{ status?: number, features?: string[] | null }} [kind] */
  async function receiver(records, { status = 200, features = ["ids"] } = {}) {
    const server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? "", "http://x");
      const [limit, offset] = [Number(searchParams.get("limit")), Number(searchParams.get("offset"))];
      const body = pathname.endsWith("capabilities") ? { features } : records.slice(offset, offset + limit);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
    const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
    return { url: `http://127.0.0.1:${port}`, close: () => new Promise((resolve) => server.close(resolve)) };
  }
  const told = (id = "1", more = {}) => ({
    id,
    model: "mock/m1",
    prompt_tokens: 10,
    completion_tokens: 5,
    timestamp: new Date(at).toISOString(),
    gateway: "plugin-1",
    ...more,
  });
  const call = (more = {}) => ({
    row: [],
    model: "m1",
    prompt: 10,
    completion: 5,
    written: at + 900,
    ...more,
  });

  test("each record matches one call", async () => {
    const server = await receiver([told("2"), told("1")]);
    const others = new OtherSenders(server.url, undefined, "far");
    assert.equal((await others.without([call(), call(), call()])).length, 1);
    // The records matched these calls, and match no later ones.
    assert.equal((await others.without([call({ written: at + 1_500 })])).length, 1);
    await server.close();
  });

  test("of equal calls that follow each other closely each matches its own record", async () => {
    const times = [0, 1_500, 3_000].map((ms) => at + ms);
    // The newest first, as the receiver lists them.
    const records = times.map((ms) => told(String(ms), { timestamp: new Date(ms).toISOString() }));
    const server = await receiver(records.reverse());
    const others = new OtherSenders(server.url, undefined, "far");
    const left = [];
    for (const written of times) left.push(...(await others.without([call({ written })])));
    await server.close();
    assert.deepEqual(left, []);
  });

  for (const [what, record] of /** @type {[string, any][]} */ ([
    ["other tokens", told("1", { prompt_tokens: 11 })],
    ["another answer", told("1", { completion_tokens: 6 })],
    ["another model", told("1", { model: "mock/m2" })],
    ["another time", told("1", { timestamp: new Date(at - 5_000).toISOString() })],
    ["this command's own", told("1", { gateway: "far" })],
    ["no time", told("1", { timestamp: null })],
  ]))
    test(`${what} is another call`, async () => {
      const server = await receiver([record]);
      assert.equal((await new OtherSenders(server.url, undefined, "far").without([call()])).length, 1);
      await server.close();
    });

  test("older calls are on further pages", async () => {
    const newer = Array.from({ length: 1_500 }, (_, n) =>
      told(`n${n}`, { timestamp: new Date(at + 60_000).toISOString() }),
    );
    const server = await receiver([...newer, told("old")]);
    assert.equal((await new OtherSenders(server.url, undefined, "far").without([call()])).length, 0);
    await server.close();
  });

  test("a receiver without a list of calls is not asked, and calls wait for a receiver that cannot be reached", async () => {
    const stock = await receiver([told()], { features: null });
    assert.equal((await new OtherSenders(stock.url, undefined, "far").without([call()])).length, 1);
    await stock.close();
    const broken = await receiver([told()], { status: 503 });
    await assert.rejects(
      new OtherSenders(broken.url, undefined, "far").without([call()]),
      /cannot be reached \(HTTP 503\)/,
    );
    await broken.close();
    await assert.rejects(
      new OtherSenders(broken.url, undefined, "far").without([call()]),
      /cannot be reached/,
    );
    assert.equal((await new OtherSenders(undefined, undefined, "far").without([call()])).length, 1);
  });
});

describe("the commands of the documentation", () => {
  /** @type {Receiver} */
  let receiver;
  before(async () => {
    receiver = await Receiver.open();
  });
  after(() => receiver.close());

  /** A gateway with two calls in a session. @param {{ key: string, cert: string }} [tls] */
  const gatewayOf = (tls) => {
    // The calls of two gateways have different times.
    const at = Date.now() - (tls ? 60_000 : 90_000);
    const usage = { input: 10, output: 5, cacheRead: 0, cacheWrite: 0 };
    const points = [1, 2].map((n) => ({ timestamp: at + n, ...usage, cost: 0.25 * n }));
    const message = (/** @type {number} */ n) => ({
      role: "assistant",
      provider: "mock",
      model: "m1",
      stopReason: "stop",
      usage,
      timestamp: at + n,
    });
    const answers = /** @type {Record<string, object>} */ ({
      "sessions.list": {
        sessions: [
          { key: "agent:main:x", sessionId: "s", updatedAt: at, modelProvider: "mock", model: "m1" },
        ],
      },
      "sessions.usage.timeseries": { sessionId: "s", points },
      "chat.history": { sessionId: "s", messages: [message(1), message(2)] },
    });
    return startFakeGateway({ tls, answer: (method) => answers[method] ?? {} });
  };

  test("once, watching, and with a certificate that is pinned", async (t) => {
    const commands = await printed("docs/remote.md", "Asking a gateway from afar");
    assert.equal(commands.length, 3);
    const certificate = await makeCertificate();
    const [plain, secure] = [await gatewayOf(), certificate && (await gatewayOf(certificate))];
    t.after(() => Promise.all([plain.close(), secure?.close()]));
    for (const command of commands) {
      const isSecure = command.includes("wss://");
      if (isSecure && !secure) continue;
      const typed = command
        .replace("ws://127.0.0.1:18789", plain.url)
        .replace("wss://gateway.example:18789", secure?.url ?? "")
        .replace(/[0-9A-F]{2}(:[0-9A-F]{2}){31}/, certificate?.fingerprint.replace(/^.*=/, "") ?? "")
        .split(" ")
        .slice(1);
      const { status, said } = await typeCommand(typed, command.includes("--watch"));
      assert.equal(status, 0, `${command}\n${said}`);
      assert.ok(!said.includes(SECRET));
    }
    // Each address counts as a gateway of its own, and its calls count once.
    const requests = Object.values(receiver.totals).reduce((sum, row) => sum + row.requests, 0);
    assert.equal(requests, secure ? 4 : 2);
  });

  /** Runs a command; one that keeps running is stopped once it watches. @param {string[]} words @param {boolean} stays */
  async function typeCommand(words, stays) {
    const env = {
      PATH: process.env.PATH,
      HOME: folder,
      AGENTWATCH_URL: receiver.url,
      OPENCLAW_GATEWAY_TOKEN: SECRET,
    };
    const child = spawn(process.execPath, [CLI, ...words], { env, timeout: 120_000 });
    let said = "";
    let isAsked = false;
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => {
        said += text;
        if (isAsked || !stays || !/watching the gateway/.test(said)) return;
        isAsked = true;
        child.kill("SIGTERM");
      });
    const [status] = await once(child, "close");
    return { status, said };
  }

  test("a later time in --since leaves out no call since the last run", async () => {
    const at = Date.now() - 120_000;
    const usage = { input: 7, output: 3, cacheRead: 0, cacheWrite: 0 };
    const told = { calls: 1 };
    const times = () => Array.from({ length: told.calls }, (_, n) => at + n * 20_000);
    const gateway = await startFakeGateway({
      answer: (method) => {
        const row = { key: "agent:main:x", sessionId: "since", modelProvider: "mock", model: "since" };
        if (method === "sessions.list") return { sessions: [{ ...row, updatedAt: at + told.calls }] };
        if (method === "sessions.usage.timeseries")
          return {
            sessionId: "since",
            points: times().map((timestamp) => ({ timestamp, ...usage, cost: 0 })),
          };
        const message = { role: "assistant", provider: "mock", model: "since", stopReason: "stop", usage };
        if (method === "chat.history")
          return { messages: times().map((timestamp) => ({ ...message, timestamp })) };
        return {};
      },
    });
    try {
      const command = ["sync", "--gateway", gateway.url];
      assert.equal((await typeCommand(command, false)).status, 0);
      told.calls = 3;
      const later = await typeCommand([...command, "--since", new Date(at + 60_000).toISOString()], false);
      assert.equal(later.status, 0, later.said);
      assert.equal(receiver.totals["mock/since"]?.requests, 3, later.said);
    } finally {
      await gateway.close();
    }
  });

  test("invalid options are reported with their mend", async () => {
    for (const [words, says] of /** @type {[string[], RegExp][]} */ ([
      [["--gateway", "ws://10.1.2.3:1"], /^--gateway ws:\/\/10\.1\.2\.3:1: plain ws/m],
      [["--gateway", "ws://127.0.0.1:1", "--tls-fingerprint", "ab"], /^--tls-fingerprint/m],
      [["--tls-fingerprint", "ab"], /^--tls-fingerprint: .*--gateway/m],
      [["--gateway", "ws://127.0.0.1:1", "--history", "x"], /^--history x/m],
    ])) {
      const { status, said } = await typeCommand(["sync", ...words], false);
      assert.match(said, says);
      assert.equal(status, 2);
    }
  });
});
