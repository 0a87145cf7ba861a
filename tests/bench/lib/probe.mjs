// Loaded into a gateway before its own code (`NODE_OPTIONS=--import …`). Once the file `BENCH_PROBE` with `.begin` behind its
// name is there its main thread is profiled, until there is one with `.end`; then the profile and the CPU that was spent
// stand in a file with the process's id behind its name, since a gateway has other processes beside it. Files and no signals:
// gateways have their own use for those.
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { isMainThread } from "node:worker_threads";

const { BENCH_PROBE = "" } = process.env;
const LOOK_MS = 250;

/** @param {string} file @param {() => void} then */
function whenThere(file, then) {
  const timer = setInterval(() => {
    if (!existsSync(file)) return;
    clearInterval(timer);
    then();
  }, LOOK_MS);
  timer.unref();
}

async function profile() {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.setSamplingInterval", { interval: 200 });
  await session.post("Profiler.start");
  const cpu = process.threadCpuUsage();
  whenThere(`${BENCH_PROBE}.end`, async () => {
    const { user, system } = process.threadCpuUsage(cpu);
    const { profile } = await session.post("Profiler.stop");
    session.disconnect();
    const file = `${BENCH_PROBE}.${process.pid}`;
    writeFileSync(`${file}.new`, JSON.stringify({ cpuUs: user + system, profile }));
    renameSync(`${file}.new`, file);
  });
}

if (isMainThread && BENCH_PROBE) whenThere(`${BENCH_PROBE}.begin`, profile);
