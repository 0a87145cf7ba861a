// Recorded gateways replayed through the built package: the receiver's totals equal the provider's.
import { describe, test } from "node:test";
import { assertTotals, Gateway, providerTotals, Receiver, recorded } from "./world.mjs";

const SDKS = /** @type {const} */ ({
  "2026.3.13": "totals",
  "2026.6.11": "calls",
  "2026.8.2": "calls",
  "2026.9.6": "calls",
});

for (const [version, sdk] of Object.entries(SDKS)) {
  describe(version, () => {
    test("as recorded", () => replayed(version, sdk, (events) => events));
    test("messages alone", () =>
      replayed(version, sdk, (events) => events.filter(({ hook }) => hook === "before_message_write")));
    test("every event twice", () =>
      replayed(version, sdk, (events) => events.flatMap((event) => [event, event])));
  });
}

/**
 * @param {string} version @param {import("./world.mjs").Sdk} sdk
 * @param {(events: import("./world.mjs").Recorded[]) => import("./world.mjs").Recorded[]} change
 */
async function replayed(version, sdk, change) {
  const receiver = await Receiver.open();
  const gateway = new Gateway(sdk);
  try {
    gateway.register(await gateway.evaluate(), { url: receiver.url });
    await gateway.start();
    await gateway.replay(change(recorded(version)));
    await gateway.finish();
    assertTotals(receiver.totals, providerTotals(version), version);
  } finally {
    gateway.close();
    receiver.close();
  }
}
