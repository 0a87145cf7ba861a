import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startGateway } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { buildHook } from "../../scripts/build-hook.mjs";
import { waitForTotals } from "./harness.mjs";
import { binary, tgz, versions } from "./options.mjs";

/**
 * The drop-in hook, copied into a gateway's hooks folder as its HOOK.md says, with and without the plugin.
 * `AGENTWATCH_TGZ` is the packed plugin.
 */

const ENABLED = { hooks: { internal: { enabled: true, entries: { agentwatch: { enabled: true } } } } };

/** Whether a version stores sessions in files; later versions have a database. @param {string} version */
const keepsFiles = (version) => Number(version.split(".")[1]) < 8;

for (const version of versions) {
  for (const withPlugin of [false, true]) {
    const name = `OpenClaw ${version}, the hook ${withPlugin ? "beside the plugin" : "alone"}`;
    describe(name, { skip: withPlugin && !tgz && "AGENTWATCH_TGZ is not set" }, () => {
      /** @type {Awaited<ReturnType<typeof startReceiver>>} */
      let receiver;
      /** @type {import("../../examples/gateway/gateway.mjs").Gateway} */
      let gateway;
      /** @type {import("../../examples/gateway/provider.mjs").Provider} */
      let provider;
      /** @type {(() => Promise<unknown>)[]} */
      const closers = [];

      before(async () => {
        provider = await createProvider({ delayMs: 50 });
        closers.push(provider.close);
        receiver = await startReceiver({ binary });
        closers.push(receiver.stop);
        const stateDir = await mkdtemp(join(tmpdir(), "openclaw-hook-"));
        closers.push(() => rm(stateDir, { recursive: true, force: true, maxRetries: 5 }));
        await cp(await buildHook(), join(stateDir, "hooks", "agentwatch"), { recursive: true });
        gateway = await startGateway({
          version,
          stateDir,
          providerUrl: provider.baseUrl,
          plugins: withPlugin ? [{ id: "agentwatch", tgz, config: { url: receiver.url } }] : [],
          env: { AGENTWATCH_URL: receiver.url },
          config: ENABLED,
        });
        closers.push(gateway.stop);
      });
      after(async () => {
        for (const closer of closers.reverse()) await closer();
      });

      /**
       * `/new` makes a model call to name a memory file. Gateways with files store it in no session; the
       * plugin gets an event of it.
       *
       * @param {import("../../examples/gateway/provider.mjs").LedgerEntry} entry
       */
      const told = ({ prompt }) =>
        !withPlugin && keepsFiles(version) && /filename slug/.test(prompt) ? "nothing" : "all";

      /** The receiver's records of a kind. @param {string} path @returns {Promise<any[]>} */
      const read = async (path) => (await fetch(`${receiver.url}/api/${path}`)).json();

      test("messages, commands and the start arrive once each", { timeout: 120_000 }, async () => {
        // A gateway takes requests before it has loaded its hooks; its start event comes after.
        for (const deadline = Date.now() + 30_000; Date.now() < deadline; await sleep(100))
          if ((await read("health")).length > 0) break;
        for (const message of ["hello", "/new", "hello again"]) {
          const { done } = await gateway.chatSend({ session: "hooked", message });
          await done;
        }
        const count = async () => ({
          starts: (await read("health")).length,
          received: (await read("metrics?name=messages_received")).length,
          commands: (await read("logs?limit=200")).filter(({ message }) => message === "Command: /new")
            .length,
          commandTraces: (await read("traces?limit=200")).filter(({ name }) => name === "command:new").length,
        });
        const wanted = { starts: 1, received: 3, commands: 1, commandTraces: 1 };
        const deadline = Date.now() + 20_000;
        while (JSON.stringify(await count()) !== JSON.stringify(wanted) && Date.now() < deadline)
          await sleep(250);
        assert.deepEqual(await count(), wanted);
        // A second record often comes late.
        await sleep(2_500);
        assert.deepEqual(await count(), wanted);
      });

      test("the Models tab has every call once, a moment after its turn", { timeout: 120_000 }, async (t) => {
        // In succession: the first turn of an agent beside another turn can fail on 2026.9.6.
        await gateway.agentTurn({ session: "tools", message: "read it [[tools 2]]" });
        await gateway.agentTurn({ agent: "ant", session: "long", message: "three [[length 3000]]" });
        const ended = Date.now();
        await waitForTotals(provider, receiver, { told, settleMs: 0 });
        t.diagnostic(`shown ${((Date.now() - ended) / 1000).toFixed(1)} s after the turns`);
        // A second count of a call often comes late.
        await waitForTotals(provider, receiver, { told, settleMs: 4_000 });
      });

      test("no message's text is in the received records", async () => {
        const all = JSON.stringify([await read("logs?limit=200"), await read("traces?limit=200")]);
        assert.doesNotMatch(all, /hello/);
      });

      test("the gateway logs no warning about the hook", () => {
        // The path of this OpenClaw's installation has this project's name.
        const lines = gateway.log.recent().replaceAll("agentwatch-openclaw/openclaw", "").split("\n");
        const complaints = lines.filter(
          (line) => /agentwatch/i.test(line) && /warn|error|fail|unknown/i.test(line),
        );
        // 2026.3.13 always notes that a package's name is not its plugin's id.
        assert.deepEqual(
          complaints.filter((line) => !/plugin id mismatch|plugins\.allow/.test(line)),
          [],
        );
      });
    });
  }
}
