import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { createProvider } from "../../examples/gateway/provider.mjs";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { waitForTotals } from "./harness.mjs";
import { KillableGateway } from "./killable.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";

const HOUR_MS = 3_600_000;
/** Time within which the gateway reads its new clock, in ms. */
const MOVED_WITHIN_MS = 200;
/** Twice the interval of the plugin's readings of the session store, in ms: rows count when they are a minute old. */
const LOOKED_WITHIN_MS = 180_000;

/**
 * A gateway whose clock is set back and forth by hours, while it runs and while it is stopped: each call counts once, whatever
 * the times in its events and in the session store.
 */
for (const version of versions) {
  describe(`OpenClaw ${version}, its clock set`, { skip }, () => {
    /** @type {import("../../examples/gateway/provider.mjs").Provider} */
    let provider;
    /** @type {import("../../examples/gateway/receiver.mjs").Receiver} */
    let receiver;
    /** @type {KillableGateway} */
    let gateway;
    /** @type {string} */
    let folder;

    /** A client's signature contains the time, so a gateway starts with this machine's clock. */
    const start = async ({ enabled = true } = {}) => {
      await set(0);
      const env = {
        NODE_OPTIONS: `--import=${new URL("moved-clock.mjs", import.meta.url).href}`,
        MOVED_CLOCK: join(folder, "clock"),
      };
      const plugin = { id: "agentwatch", tgz: tgz ?? "", config: { url: receiver.url }, entry: { enabled } };
      const stateDir = join(folder, "state");
      const port = await freePort();
      const plugins = [plugin];
      gateway = new KillableGateway({ version, providerUrl: provider.baseUrl, stateDir, port, plugins, env });
      await gateway.start();
    };

    before(async () => {
      folder = await mkdtemp(join(tmpdir(), "agentwatch-clock-"));
      provider = await createProvider({ delayMs: 100 });
      receiver = await startReceiver({ binary });
      await start();
      await gateway.warmUp();
    });
    after(async () => {
      await gateway?.stop();
      await receiver?.stop();
      await provider?.close();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    });

    /** Sets the gateway's clock. @param {number} hours */
    async function set(hours) {
      await writeFile(join(folder, "clock"), String(hours * HOUR_MS));
      await sleep(MOVED_WITHIN_MS);
    }

    /** Turns in a known session, in one with tools, and in a new one. @param {string} name */
    async function turns(name) {
      await gateway.agentTurn({ session: "goes-on", message: "hello" });
      await gateway.agentTurn({ session: "tools", message: "read it [[tools 2]]" });
      await gateway.agentTurn({ agent: "ant", session: name, message: "hello" });
    }

    test("while it runs", async () => {
      for (const hours of [0, 3, -2, 1]) {
        await set(hours);
        await turns(`at ${hours}`);
      }
      await waitForTotals(provider, receiver);
    });

    test("while a turn runs", async () => {
      const turn = gateway.agentTurn({ session: "under-way", message: "read it [[tools 3]]" });
      await sleep(150);
      await set(-3);
      await turn;
      await waitForTotals(provider, receiver);
    });

    test("while it is stopped", async () => {
      await gateway.kill();
      await start();
      await turns("after");
      await set(2);
      await turns("after that");
      await waitForTotals(provider, receiver);
    });

    test("while only the session store has its calls", async () => {
      await gateway.stop();
      await start({ enabled: false });
      const before = provider.ledger.length;
      await turns("unheard");
      await set(2);
      await turns("unheard, and ahead");
      await gateway.stop();
      const unheard = provider.ledger.length - before;
      await start();
      await turns("heard again");
      await waitForTotals(provider, receiver, { timeoutMs: LOOKED_WITHIN_MS, settleMs: 5_000 });
      const status = await readFile(join(folder, "state", "agentwatch", "status.json"), "utf8");
      assert.equal(JSON.parse(status).status.from_store, unheard);
    });
  });
}
