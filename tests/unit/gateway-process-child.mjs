// A gateway's process with the plugin of a checkout, controlled by its parent: `node gateway-process-child.mjs <options>`.
import { createRequire, syncBuiltinESMExports } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { Gateway, recorded, setClock } from "./world.mjs";

/** @type {import("./gateway-process.mjs").GatewayProcessOptions} */
const { project, stateDir, url, collector, at, sdk } = JSON.parse(process.argv[2] ?? "{}");

// The host name is in committed fixtures.
createRequire(import.meta.url)("node:os").hostname = () => "a-gateway";
syncBuiltinESMExports();

setClock(at);
const gateway = new Gateway(sdk);
gateway.stateDir = stateDir;
gateway.register(await gateway.evaluate("one", project), {
  url,
  flushIntervalMs: 50,
  otlp: { url: collector },
  // Without it AgentWatch 0.1.0 gets no usage of older calls, which it dates by their arrival.
  history: "usage",
});
await gateway.start();

process.on("disconnect", () => process.exit(1));
process.on("message", async (/** @type {any} */ order) => {
  if (order.replay) {
    const [version, from, to] = order.replay;
    const events = recorded(version).slice(from, to);
    await gateway.replay(events);
    // The clock stands still until the next order.
    setClock(order.until ?? events.at(-1)?.ts);
  }
  if (order.sleep) await sleep(order.sleep);
  if (order.stop) await gateway.stop();
  process.send?.({ log: gateway.log });
  if (order.stop) process.exit(0);
});
process.send?.({ log: gateway.log });
