// A process with a pipeline on a state directory, controlled by its parent: `{calls: [tokens]}`, `{stop: true}`, `{exit: true}`.
import { Run } from "./faulty-receiver.mjs";

const [folder = "", url = "", settings = "{}", role = "gateway"] = process.argv.slice(2);
// The real clock, since leases are compared between processes.
const clock = /** @type {any} */ ({ wall: () => Date.now(), mono: () => performance.now(), pass() {} });
const host = { role, claims: () => role === "gateway" };
const run = new Run(folder, url, { clock, settings: JSON.parse(settings), host });
await run.pipeline.open();

const report = () => process.send?.({ ...run.status, log: run.log });
process.on("message", async (/** @type {any} */ order) => {
  for (const tokens of order.calls ?? []) run.call(tokens);
  if (order.kept) await run.pipeline.journalled();
  if (order.exit) process.exit(0);
  if (order.stop) {
    await run.end();
    process.disconnect();
    return;
  }
  report();
});
report();
