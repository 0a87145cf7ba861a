import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { keyOf, startGateway } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { waitForTotals } from "./harness.mjs";
import { binary, versions } from "./options.mjs";
import { until } from "./scenarios.mjs";
import { StoreReader } from "./store-reader.mjs";
import { startSync } from "./sync.mjs";

/** @typedef {import("../../examples/gateway/provider.mjs").LedgerEntry} LedgerEntry */

const OLD = "2026.3.13";

/** No version stores the call of a compaction. @param {LedgerEntry} entry */
const isStored = ({ prompt }) => !prompt.includes("<conversation>");

/** Values of `session.store`, below a folder. Each agent's sessions are found wherever a version keeps them. */
const ELSEWHERE = ["fixed/sessions.json", "each/{agentId}/sessions.json"];

for (const version of versions)
  describe(`OpenClaw ${version}, session.store`, () => {
    for (const path of ELSEWHERE)
      test(`${path}: the calls of two agents`, async (t) => {
        const folder = await mkdtemp(join(tmpdir(), "openclaw-elsewhere-"));
        t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
        const stateDir = join(folder, "state");
        await mkdir(stateDir);
        const provider = await createProvider({ delayMs: 50 });
        t.after(() => provider.close());
        const config = { session: { store: join(folder, path) } };
        const gateway = await startGateway({ version, providerUrl: provider.baseUrl, stateDir, config });
        t.after(() => gateway.stop());
        const receiver = await startReceiver({ binary });
        t.after(() => receiver.stop());
        await gateway.agentTurn({ session: "one", message: "one" });
        await gateway.agentTurn({ agent: "ant", session: "two", message: "two" });
        const { status, said } = await startSync(stateDir, receiver.url).ended;
        assert.equal(status, 0, said);
        await waitForTotals(provider, receiver, { told: () => "all" });
      });
  });

/**
 * The session store of real gateways, read while they run: every answer of the provider that is stored, each once,
 * also of reset, deleted and compacted sessions. No plugin is loaded; the built shim in `dist/` reads, and `sync --watch` counts.
 */
for (const version of versions) {
  describe(`OpenClaw ${version}, its session store`, () => {
    /** @type {import("../../examples/gateway/provider.mjs").Provider} */
    let provider;
    /** @type {import("../../examples/gateway/gateway.mjs").Gateway} */
    let gateway;
    /** @type {string} */
    let stateDir;
    /** @type {StoreReader} */
    let store;
    /** @type {Awaited<ReturnType<typeof startReceiver>>} */
    let receiver;
    /** @type {ReturnType<typeof startSync>} */
    let watch;
    /** @type {(() => Promise<unknown>)[]} */
    const closers = [];

    before(async () => {
      provider = await createProvider({ delayMs: 50 });
      closers.push(provider.close);
      // A given folder is not removed with the gateway.
      stateDir = await mkdtemp(join(tmpdir(), "openclaw-store-"));
      closers.push(() => rm(stateDir, { recursive: true, force: true, maxRetries: 5 }));
      gateway = await startGateway({ version, providerUrl: provider.baseUrl, stateDir });
      closers.push(gateway.stop);
      store = new StoreReader(stateDir);
      receiver = await startReceiver({ binary });
      closers.push(receiver.stop);
      watch = startSync(stateDir, receiver.url, "--watch");
      closers.push(watch.kill);
    });
    after(async () => {
      for (const closer of closers.reverse()) await closer();
    });

    /**
     * Runs work, and asserts that the store's new calls are its answers.
     *
     * @param {() => Promise<unknown>} work
     */
    async function gains(work) {
      const [asked, found] = [provider.ledger.length, store.found.length];
      await work();
      await until(() => provider.ledger.every(({ outcome }) => outcome !== "open"), "all answers", 60_000);
      const answered = provider.ledger.slice(asked).filter(({ outcome }) => outcome !== "error");
      const expected = answered.filter(isStored).map(toldBy);
      for (const deadline = Date.now() + 30_000; Date.now() < deadline; await sleep(100)) {
        await store.read();
        if (store.found.length - found >= expected.length) break;
      }
      // A second reading of a call often comes late.
      await sleep(300);
      await store.read();
      const calls = store.found.slice(found);
      assert.deepEqual(sorted(calls.map((call) => call.told)), sorted(expected));
      assert.deepEqual(store.problems, []);
      assert.ok(calls.every((call) => !call.inherited));
      return calls.map(({ facts }) => facts);
    }

    test("turns, tools and long answers of two agents", async () => {
      const calls = await gains(async () => {
        await gateway.warmUp();
        await Promise.all([
          gateway.agentTurn({ session: "tools", message: "read it [[tools 2]]" }),
          gateway.agentTurn({ session: "long", message: "fifty kilobytes [[length 50000]]" }),
          gateway.agentTurn({ agent: "ant", session: "long", message: "three [[length 3000]]" }),
          gateway.agentTurn({ session: "silent", message: "hello [[nousage]]" }),
        ]);
      });
      assert.deepEqual([...new Set(calls.map(({ agent }) => agent))].sort(), ["ant", "main"]);
      for (const { timestamp, written, session_key, run_id, cost } of calls) {
        assert.ok(timestamp <= written && written <= Date.now());
        assert.equal(typeof cost, "number");
        assert.deepEqual([session_key === null, run_id === null], [version === OLD, version === OLD]);
      }
    });

    test("recent rows are read later", async () => {
      await gains(async () => {
        const began = Date.now();
        await gateway.agentTurn({ session: "young", message: "hello" });
        assert.deepEqual(await store.read({ until: began }), []);
      });
    });

    test("/new, and a reset", async () => {
      await gains(async () => {
        for (const message of ["hello", "/new", "hello again"])
          await (await gateway.chatSend({ session: "new", message })).done;
        await gateway.agentTurn({ session: "reset", message: "hello" });
        await gateway.sessionsReset({ session: "reset" });
        await gateway.agentTurn({ session: "reset", message: "hello again" });
      });
    });

    test("a session that is deleted before it is read, and one that is deleted after it", async () => {
      await gains(async () => {
        for (const session of ["deleted-1", "deleted-2"])
          await gateway.agentTurn({ session, message: "hello" });
        await gateway.rpc("sessions.delete", { key: keyOf("main", "deleted-1") });
        await store.read();
        await gateway.rpc("sessions.delete", { key: keyOf("main", "deleted-2") });
        await store.read();
      });
    });

    test("a compaction", async () => {
      await gains(async () => {
        for (let turn = 1; turn <= 6; turn += 1)
          await gateway.agentTurn({ session: "compact", message: `turn ${turn} [[length 20000]]` });
        await store.read();
        if (version === OLD) await (await gateway.chatSend({ session: "compact", message: "/compact" })).done;
        else await gateway.compact({ session: "compact" });
        await gateway.agentTurn({ session: "compact", message: "after it" });
      });
    });

    test("a subagent, a cron job, a failure", async () => {
      await gains(async () => {
        const asked = provider.ledger.length;
        await gateway.agentTurn({ session: "parent", message: "delegate [[spawn count the files]]" });
        await until(() => provider.ledger.length - asked >= 4, "the subagent and its announcement", 60_000);
        await Promise.all([
          gateway.cronRun({ message: "good morning" }),
          gateway.agentTurn({ session: "hiccup", message: "hello [[fail 500 1]]" }),
        ]);
      });
    });

    test("forks and rewinds begin with copied rows", {
      skip: version === OLD && "it has neither",
    }, async () => {
      const sessionKey = keyOf("main", "forked");
      const originals = await gains(async () => {
        for (const message of ["one", "two"]) await gateway.agentTurn({ session: "forked", message });
      });
      const [one, two] = originals.map(({ entry }) => entry);
      const { messages } = await gateway.rpc("chat.history", { sessionKey });
      const questions = messages.filter((/** @type {any} */ { role }) => role === "user");
      const entryId = questions.at(-1).__openclaw.id;
      await gateway.rpc("sessions.fork", { sessionKey, entryId });
      await gateway.rpc("sessions.rewind", { sessionKey, entryId });
      const copies = await store.read();
      assert.ok(copies.every(({ inherited }) => inherited));
      assert.deepEqual(copies.map(({ facts }) => facts.entry).sort(), [one, one, two].sort());
      await gains(() => gateway.agentTurn({ session: "forked", message: "three" }));
    });

    const told = (/** @type {LedgerEntry} */ entry) => (isStored(entry) ? "all" : "nothing");

    test("sync --watch has counted the provider's totals, cost included", async () => {
      await waitForTotals(provider, receiver, { told });
      const { status, said } = await watch.stop();
      assert.equal(status, 0, said);
      const again = await startSync(stateDir, receiver.url, "--since", "30d").ended;
      assert.equal(again.status, 0, again.said);
      await waitForTotals(provider, receiver, { told });
    });

    test("a reading from the start finds all calls, also once the gateway has stopped", async () => {
      const entries = (/** @type {StoreReader} */ { found }) =>
        found.map(({ facts }) => `${facts.session_id}/${facts.entry}`).sort();
      const whole = new StoreReader(stateDir);
      await whole.read();
      assert.deepEqual(entries(whole), entries(store));
      await gateway.stop();
      assert.deepEqual(await store.read(), []);
      assert.deepEqual(await whole.read(), []);
      const later = new StoreReader(stateDir);
      await later.read();
      assert.deepEqual(entries(later), entries(store));
    });

    test("a single run of sync counts all calls of the store", async () => {
      const other = await startReceiver({ binary });
      closers.push(other.stop);
      // Without the state of earlier runs.
      await rm(join(stateDir, "agentwatch"), { recursive: true });
      const { status, said } = await startSync(stateDir, other.url).ended;
      assert.equal(status, 0, said);
      assert.match(said, /all calls of the session store/);
      await waitForTotals(provider, other, { told });
    });
  });
}

/** @param {LedgerEntry} entry @returns {import("./store-reader.mjs").Told} */
function toldBy({ model, usage }) {
  const { input = 0, output = 0, cacheRead = 0, cacheWrite = 0 } = usage ?? {};
  return { model, input, output, cacheRead, cacheWrite };
}

/** @param {import("./store-reader.mjs").Told[]} calls */
function sorted(calls) {
  return calls.map((call) => JSON.stringify(Object.entries(call).sort())).sort();
}
