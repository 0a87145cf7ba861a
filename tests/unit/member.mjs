// A process on a state directory, driven by its parent: `{call: tokens}`, `{stop: true}`, `{exit: true}`.
import { Run } from "./flaky.mjs";

const [folder = "", url = "", settings = "{}"] = process.argv.slice(2);
// Time as it is: leases are a matter between processes.
const clock = /** @type {any} */ ({ wall: () => Date.now(), mono: () => performance.now(), pass() {} });
const run = new Run(folder, url, { clock, settings: JSON.parse(settings) });
await run.pipeline.open();

const say = () => process.send?.({ ...run.status, log: run.log });
process.on("message", async (/** @type {any} */ order) => {
  for (const tokens of order.calls ?? []) run.call(tokens);
  if (order.kept) await run.pipeline.journalled();
  if (order.exit) process.exit(0);
  if (order.stop) {
    await run.end();
    process.disconnect();
    return;
  }
  say();
});
say();
