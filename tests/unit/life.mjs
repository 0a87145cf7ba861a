// A process with the plugin of some checkout on a state directory, driven by its parent: `node life.mjs <options>`.
import { createRequire, syncBuiltinESMExports } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { Gateway, recorded, setClock } from "./world.mjs";

/** @type {import("./lives.mjs").LifeOptions} */
const { project, stateDir, url, collector, at, sdk } = JSON.parse(process.argv[2] ?? "{}");

// The name of the machine stands in files that are kept.
createRequire(import.meta.url)("node:os").hostname = () => "a-gateway";
syncBuiltinESMExports();

setClock(at);
const gateway = new Gateway(sdk);
gateway.stateDir = stateDir;
gateway.register(await gateway.evaluate("one", project), {
  url,
  flushIntervalMs: 50,
  otlp: { url: collector },
  // AgentWatch 0.1.0 dates what comes late by its arrival: it is told of it where somebody wants that.
  history: "usage",
});
await gateway.start();

process.on("disconnect", () => process.exit(1));
process.on("message", async (/** @type {any} */ order) => {
  if (order.replay) {
    const [version, from, to] = order.replay;
    const events = recorded(version).slice(from, to);
    await gateway.replay(events);
    // No time passes before whatever comes next.
    setClock(order.until ?? events.at(-1)?.ts);
  }
  if (order.sleep) await sleep(order.sleep);
  if (order.stop) await gateway.stop();
  process.send?.({ log: gateway.log });
  if (order.stop) process.exit(0);
});
process.send?.({ log: gateway.log });
