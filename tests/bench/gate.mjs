#!/usr/bin/env node
// The check before a call: from the gateway's hook to the answer of the worker thread, on a quiet gateway and beside
// events at several rates, with a worker that only echoes as control; and the main thread's CPU for it.
// `node tests/bench/gate.mjs [rate…]`
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { streamOf } from "./lib/events.mjs";
import { quantile, report } from "./lib/figures.mjs";
import { startPlugin } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

/** Events a second beside the checks. */
const RATES = [0, 10, 1_000];
/** V8 compiles the module by use: of the first two thousand checks of a process the slowest percent takes twice as long. */
const WARM_UP = 2_000;
const CHECKS = 2_000;
/** Pause between two checks, in ms: calls of a gateway do not come one behind the other. */
const PAUSE_MS = 5;
/** None of these stops the stream's calls, and each is looked at. */
const ALLOWANCE = ["hour", "day", "month"].map((per) => ({ usd: 1_000_000, per, then: "stop" }));
/** Time between two events of the fastest stream, in ms. */
const TICK_MS = 10;

const only = process.argv.slice(2).map(Number);
const sink = await startSink();
const { handle, ask, stop, status, remove } = await startPlugin({ url: sink.url, allowance: ALLOWANCE });
const stream = streamOf("gateway");
/** @type {import("./lib/figures.mjs").Figures} */
const figures = {};

/** Sends events at a rate until it is ended. @param {number} rate */
function beside(rate) {
  const begun = performance.now();
  let told = 0;
  const timer = setInterval(() => {
    for (const due = ((performance.now() - begun) * rate) / 1_000; told < due; told += 1)
      handle(stream.next());
  }, TICK_MS);
  return () => clearInterval(timer);
}

const echo = new Worker(
  'const { parentPort } = require("node:worker_threads"); parentPort.on("message", (it) => parentPort.postMessage(it));',
  { eval: true },
);

/** The time of many questions in ms, one after the other with pauses. @param {(number: number) => Promise<void>} question */
async function timed(question) {
  const times = new Float64Array(CHECKS);
  for (let check = -WARM_UP; check < CHECKS; check += 1) {
    const begun = performance.now();
    await question(check);
    if (check >= 0) times[check] = performance.now() - begun;
    await sleep(PAUSE_MS);
  }
  return times;
}

/** @param {string} name @param {Float64Array} times */
function tell(name, times) {
  for (const [share, word] of /** @type {const} */ ([
    [0.5, "p50"],
    [0.99, "p99"],
    [0.999, "p99.9"],
  ]))
    figures[`${name}, ${word}`] = [quantile(times, share), "ms"];
}

tell(
  "echo of an idle worker",
  await timed(async (check) => {
    const answered = once(echo, "message");
    echo.postMessage({ check });
    await answered;
  }),
);
await echo.terminate();
for (const rate of RATES.filter((one) => only.length === 0 || only.includes(one))) {
  const end = beside(rate);
  const times = await timed(async (check) => {
    const session = `agent:main:s${check % 50}`;
    const refused = await ask({ agentId: "main", sessionKey: session, toolName: "exec", trigger: "user" });
    if (refused !== undefined) throw new Error("a call was refused");
  });
  end();
  tell(`check beside ${rate} events/s`, times);
}
// All at once, so that pauses do not count.
const begun = process.threadCpuUsage();
for (let check = 0; check < CHECKS; check += 1)
  await ask({ agentId: "main", sessionKey: "agent:main:s", toolName: "exec" });
const { user, system } = process.threadCpuUsage(begun);
figures["main thread a check"] = [(user + system) / CHECKS, "µs"];
const { brake_unanswered: unanswered } = await status();
if (unanswered > 0) console.log(`${unanswered} checks were not answered in time`);
report(figures);
await stop();
remove();
sink.close();
