import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Uses of a gateway, each as one scenario. A scenario has its expected requests; the
 * provider's ledger shows them. Each has its own sessions, so scenarios run in any order on one gateway.
 *
 * @typedef {import("../../examples/gateway/provider.mjs").LedgerEntry} LedgerEntry
 * @typedef {import("../../examples/gateway/provider.mjs").Told} Told
 * @typedef {Record<Exclude<LedgerEntry["outcome"], "open">, number>} Outcomes
 *
 * @typedef {object} World
 * @property {import("../../examples/gateway/gateway.mjs").Gateway} gateway
 * @property {import("../../examples/gateway/provider.mjs").Provider} provider
 *
 * @typedef {object} Scenario
 * @property {string} name
 * @property {string[]} [versions] Only these versions of OpenClaw.
 * @property {Partial<Outcomes> | ((version: string) => Partial<Outcomes>)} expect Requests by outcome, exactly.
 * @property {(world: World) => Promise<unknown>} run
 * @property {(entries: LedgerEntry[], version: string) => void} [check] Further assertions about the requests.
 * @property {(entry: LedgerEntry, version: string) => Told} [told] The part of a request that the version
 *   reports to a plugin, as measured, where it is not all.
 */

/** The oldest and the newest version that are supported. */
export const VERSIONS = ["2026.3.13", "2026.9.6"];

const OLD = "2026.3.13";
const MAY = "2026.5.28";
const JUNE = "2026.6.11";
const JULY = "2026.7.1";
const AUGUST = "2026.8.2";
/** These versions do not retry after a broken stream, and retry once more than `settings.json` says after an error. */
const BETWEEN = [MAY, JUNE, JULY, AUGUST];

/** @type {Told} */
const NOTHING = "nothing";
/** @type {Told} */
const REQUEST = "request";

/** @type {Scenario[]} */
export const scenarios = [
  {
    name: "warm-up",
    expect: { answered: 2 },
    run: ({ gateway }) => gateway.warmUp(),
  },
  {
    name: "plain turn",
    expect: { answered: 1 },
    run: ({ gateway }) => gateway.agentTurn({ session: "plain", message: "hello" }),
  },
  {
    name: "many turns in one session",
    expect: { answered: 5 },
    run: async ({ gateway }) => {
      for (let turn = 1; turn <= 5; turn += 1)
        await gateway.agentTurn({ session: "many", message: `turn ${turn}` });
    },
  },
  {
    name: "one round of tools",
    expect: { answered: 2 },
    run: ({ gateway }) => gateway.agentTurn({ session: "tools-1", message: "read it [[tools 1]]" }),
    check: (entries) =>
      assert.deepEqual(
        entries.map(({ plan }) => plan.tool?.name),
        ["read", undefined],
      ),
  },
  {
    name: "two rounds of tools",
    expect: { answered: 3 },
    run: ({ gateway }) => gateway.agentTurn({ session: "tools-2", message: "read it twice [[tools 2]]" }),
  },
  {
    name: "two agents on two providers",
    expect: { answered: 5 },
    run: ({ gateway }) =>
      Promise.all([
        gateway.agentTurn({ session: "pair", message: "hello [[tools 1]]" }),
        gateway.agentTurn({ agent: "ant", session: "pair", message: "hello [[tools 2]]" }),
      ]),
    check: (entries) => {
      const anthropic = entries.filter(({ api }) => api === "anthropic");
      assert.equal(anthropic.length, 3);
      assert.ok(anthropic.every(({ usage }) => usage && usage.cacheRead > 0 && usage.cacheWrite > 0));
    },
  },
  {
    name: "web chat",
    expect: { answered: 2 },
    run: async ({ gateway }) => {
      for (const message of ["hello", "hello again"]) {
        const { done } = await gateway.chatSend({ session: "chat", message });
        assert.equal((await done).state, "final");
      }
    },
  },
  ...httpScenarios(),
  {
    name: "cron job",
    expect: { answered: 1 },
    run: ({ gateway }) => gateway.cronRun({ message: "good morning" }),
  },
  {
    name: "subagent",
    // The call of the tool, the text after it, the subagent itself, and its announcement to the parent.
    expect: { answered: 4 },
    run: ({ gateway }) =>
      gateway.agentTurn({ session: "parent", message: "delegate [[spawn count the files]]" }),
    check: (entries) => {
      assert.ok(
        entries.some(({ prompt }) => prompt.includes("[Subagent Context]")),
        "the subagent ran",
      );
    },
  },
  {
    name: "/new in the web chat",
    // 2026.3.13 has the model greet in the new session.
    expect: (version) => ({ answered: version === OLD ? 3 : 2 }),
    run: async ({ gateway }) => {
      for (const message of ["hello", "/new", "hello again"]) {
        const { done } = await gateway.chatSend({ session: "new", message });
        await done;
      }
    },
  },
  {
    name: "reset of a session",
    expect: { answered: 2 },
    run: async ({ gateway }) => {
      await gateway.agentTurn({ session: "reset", message: "hello" });
      await gateway.sessionsReset({ session: "reset" });
      await gateway.agentTurn({ session: "reset", message: "hello again" });
    },
  },
  {
    name: "two sessions at the same moment, equal usage",
    expect: { answered: 2 },
    run: ({ gateway }) =>
      Promise.all(
        ["twin-1", "twin-2"].map((session) =>
          gateway.agentTurn({ session, message: "hello [[together 2]] [[usage 500 700 0 50]]" }),
        ),
      ),
  },
  {
    name: "one session twice at the same moment, equal usage",
    expect: { answered: 2 },
    run: ({ gateway }) =>
      Promise.all(
        ["one", "two"].map((word) =>
          gateway.agentTurn({
            session: "twin-same",
            message: `${word} [[delay 200]] [[usage 510 710 0 51]]`,
          }),
        ),
      ),
  },
  {
    name: "equal usage, one turn after the other",
    expect: { answered: 6 },
    run: async ({ gateway }) => {
      for (let turn = 0; turn < 2; turn += 1) {
        await gateway.agentTurn({
          session: "equal",
          message: `turn ${turn} [[tools 2]] [[usage 520 720 0 52]]`,
        });
      }
    },
  },
  {
    name: "repeated response ids",
    expect: { answered: 4 },
    run: async ({ gateway }) => {
      for (const message of [
        "one [[sameid]]",
        "two [[sameid]]",
        "same usage [[sameid]] [[usage 530 730 0 53]]",
      ]) {
        await gateway.agentTurn({ session: "same-id", message });
      }
      await gateway.agentTurn({
        session: "same-id-2",
        message: "same usage [[sameid]] [[usage 530 730 0 53]]",
      });
    },
    check: (entries) => assert.equal(new Set(entries.map(({ id }) => id)).size, 1),
  },
  {
    name: "one 500, then an answer",
    expect: { answered: 1, error: 1 },
    run: ({ gateway }) => gateway.agentTurn({ session: "hiccup", message: "hello [[fail 500 1]]" }),
  },
  {
    name: "one 429, then an answer",
    expect: { answered: 1, error: 1 },
    run: ({ gateway }) => gateway.agentTurn({ session: "limited", message: "hello [[fail 429 1]]" }),
  },
  {
    name: "one 500 on the Anthropic side",
    // Some versions do not retry.
    expect: (version) => ([MAY, AUGUST].includes(version) ? { error: 1 } : { answered: 1, error: 1 }),
    run: ({ gateway }) =>
      settled(gateway.agentTurn({ agent: "ant", session: "hiccup", message: "hello [[fail 500 1]]" })),
  },
  ...abortScenarios(),
  {
    name: "stream breaks in the middle",
    // Newer gateways then try the fallback too.
    expect: (version) => ({ cut: version === OLD || BETWEEN.includes(version) ? 2 : 4 }),
    run: ({ gateway }) =>
      settled(gateway.agentTurn({ session: "cut", message: "hello [[cut]] [[length 400]]" })),
  },
  {
    name: "stream breaks in the middle, Anthropic",
    expect: (version) => ({ cut: BETWEEN.includes(version) ? 1 : 2 }),
    run: ({ gateway }) =>
      settled(gateway.agentTurn({ agent: "ant", session: "cut", message: "hello [[cut]] [[length 400]]" })),
  },
  {
    name: "stream without usage",
    expect: { no_usage: 2 },
    run: async ({ gateway }) => {
      await gateway.agentTurn({ session: "silent", message: "hello [[nousage]]" });
      await gateway.agentTurn({ session: "silent", message: "hello again [[nousage]]" });
    },
  },
  {
    name: "stream without usage, Anthropic",
    expect: { no_usage: 1 },
    run: ({ gateway }) =>
      gateway.agentTurn({ agent: "ant", session: "silent", message: "hello [[nousage]]" }),
  },
  {
    name: "compaction",
    // Until 2026.6 the hooks of a compaction have no usage of its model calls.
    told: ({ prompt }, version) => {
      if (!prompt.includes("<conversation>")) return "all";
      return { [OLD]: NOTHING, [MAY]: NOTHING, [JUNE]: REQUEST }[version] ?? "all";
    },
    // Six turns, two summaries (of the older turns, and of the one that is cut in two), and one turn after it.
    expect: { answered: 9 },
    run: async ({ gateway }) => {
      for (let turn = 1; turn <= 6; turn += 1) {
        await gateway.agentTurn({ session: "compact", message: `turn ${turn} [[length 20000]]` });
      }
      await compact(gateway, "compact");
      await gateway.agentTurn({ session: "compact", message: "after it" });
    },
    check: (entries) => {
      assert.equal(
        entries.filter(({ prompt }) => prompt.includes("<conversation>")).length,
        2,
        "the model summarized",
      );
    },
  },
  {
    name: "long answers",
    expect: { answered: 3 },
    run: async ({ gateway }) => {
      await gateway.agentTurn({ session: "long", message: "more than a kilobyte [[length 1500]]" });
      await gateway.agentTurn({ session: "long", message: "fifty kilobytes [[length 50000]]" });
      await gateway.agentTurn({ agent: "ant", session: "long", message: "fifty kilobytes [[length 50000]]" });
    },
  },
  {
    name: "500 until the fallback takes over",
    expect: (version) => fallbackRequests(version),
    run: ({ gateway }) => gateway.agentTurn({ session: "fallback", message: "hello [[fail 500 m1]]" }),
    check: (entries) => assert.equal(entries.at(-1)?.model, "m2"),
  },
  {
    name: "429 until the fallback takes over",
    expect: (version) => fallbackRequests(version, 429),
    run: ({ gateway }) => gateway.agentTurn({ session: "fallback-429", message: "hello [[fail 429 m1]]" }),
    check: (entries) => assert.equal(entries.at(-1)?.model, "m2"),
  },
];

/**
 * One try more than the retries in `settings.json`; 2026.3.13 makes three requests for each, 2026.8.2 many after a 429.
 *
 * @param {string} version
 * @param {number} [status]
 */
function fallbackRequests(version, status = 500) {
  if (version === OLD) return { error: 6, answered: 1 };
  if (version === AUGUST && status === 429) return { error: 12, answered: 1 };
  return { error: BETWEEN.includes(version) ? 3 : 2, answered: 1 };
}

/**
 * Newer gateways have the model summarize; the method of the same name of 2026.3.13 only cuts lines off, there it is
 * the chat command that asks the model.
 *
 * @param {World["gateway"]} gateway
 * @param {string} session
 */
async function compact(gateway, session) {
  if (gateway.version === OLD) return (await gateway.chatSend({ session, message: "/compact" })).done;
  const result = await gateway.compact({ session });
  assert.equal(result?.compacted, true, JSON.stringify(result));
}

/** The gateway's own HTTP endpoints, streamed and not. @returns {Scenario[]} */
function httpScenarios() {
  const endpoints = /** @type {const} */ (["chat/completions", "responses"]);
  return endpoints.flatMap((endpoint) =>
    [true, false].map((stream) => ({
      name: `HTTP /v1/${endpoint}${stream ? ", streamed" : ""}`,
      expect: { answered: 1 },
      run: async (/** @type {World} */ { gateway }) => {
        const session = `http-${endpoint.replace("/", "-")}-${stream}`;
        const { status, text } = await gateway.httpChat({ session, message: "hello", endpoint, stream });
        assert.equal(status, 200, text);
        assert.match(text, stream ? /Ans/ : /Answer \d+/);
      },
    })),
  );
}

/** Aborts of a slow answer, on both wire formats. @returns {Scenario[]} */
function abortScenarios() {
  return ["main", "ant"].map((agent) => ({
    name: `abort of a slow answer${agent === "ant" ? ", Anthropic" : ""}`,
    // The usage at the start of an aborted Anthropic stream is billed; newer gateways do not report it.
    told: (entry, version) => {
      if (entry.announced === null || [OLD, MAY, JUNE, JULY].includes(version)) return "all";
      return NOTHING;
    },
    expect: { cut: 1 },
    run: async (/** @type {World} */ { gateway, provider }) => {
      const before = provider.ledger.length;
      const run = await gateway.chatSend({
        agent,
        session: "abort",
        message: "slowly [[drip 60 250]] [[length 600]]",
      });
      await until(() => provider.ledger.length > before, "the request of the turn to abort", 30_000);
      await sleep(1500);
      await gateway.chatAbort(run);
      assert.equal((await run.done).state, "aborted");
    },
    check: ([entry]) => assert.equal(entry?.clientClosed, true),
  }));
}

/**
 * Runs one scenario and asserts its expected requests.
 *
 * @param {Scenario} scenario
 * @param {World} world
 * @returns {Promise<LedgerEntry[]>} Its requests.
 */
export async function runScenario(scenario, world) {
  const { gateway, provider } = world;
  const first = provider.ledger.length;
  const expected = typeof scenario.expect === "function" ? scenario.expect(gateway.version) : scenario.expect;
  const wanted = Object.values(expected).reduce((sum, count) => sum + count, 0);
  await scenario.run(world);
  await until(() => provider.ledger.length - first >= wanted, `${wanted} requests`, 60_000);
  await quiet(provider);
  const entries = provider.ledger.slice(first);
  assert.deepEqual(outcomes(entries), expected, JSON.stringify(entries, null, 1));
  scenario.check?.(entries, gateway.version);
  return entries;
}

/**
 * The unreported requests of a version, as scenarios cause them.
 *
 * @param {string} version
 */
export function limits(version) {
  /** @type {Map<number, { entry: LedgerEntry, told: Told, scenario: string }>} By number of the request. */
  const noted = new Map();
  return {
    noted,
    told: (/** @type {LedgerEntry} */ { k }) => noted.get(k)?.told ?? "all",
    note: (/** @type {Scenario} */ { name, told }, /** @type {readonly LedgerEntry[]} */ entries) => {
      for (const entry of entries) {
        const known = told?.(entry, version) ?? "all";
        if (known !== "all") noted.set(entry.k, { entry, told: known, scenario: name });
      }
    },
  };
}

/** @param {LedgerEntry[]} entries */
function outcomes(entries) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const { outcome } of entries) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** Waits until no request runs and no new one has come for a moment. @param {World["provider"]} provider */
export async function quiet(provider, forMs = 400) {
  for (let since = Date.now(), seen = provider.ledger.length; Date.now() - since < forMs; await sleep(50)) {
    if (provider.ledger.length === seen && provider.ledger.every(({ outcome }) => outcome !== "open"))
      continue;
    since = Date.now();
    seen = provider.ledger.length;
  }
}

/**
 * @param {() => boolean | Promise<boolean>} condition
 * @param {string} what
 * @param {number} timeoutMs
 */
export async function until(condition, what, timeoutMs) {
  for (const deadline = Date.now() + timeoutMs; !(await condition()); await sleep(25)) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
  }
}

/** Ignores the error of work that is meant to fail. @param {Promise<unknown>} work */
function settled(work) {
  return work.catch((error) => error);
}
