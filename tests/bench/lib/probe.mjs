// Loaded into a gateway before its own code (`NODE_OPTIONS=--import …`). SIGUSR2 begins to profile its main thread, the next
// one ends it and writes the profile and the CPU that was spent to the file that `BENCH_PROBE` names.
import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { isMainThread } from "node:worker_threads";

const { BENCH_PROBE } = process.env;

if (isMainThread && BENCH_PROBE) {
  /** @type {{ session: Session, cpu: NodeJS.CpuUsage } | undefined} */
  let running;
  process.on("SIGUSR2", async () => {
    if (running) {
      const { session, cpu } = running;
      running = undefined;
      const { user, system } = process.threadCpuUsage(cpu);
      const { profile } = await session.post("Profiler.stop");
      session.disconnect();
      writeFileSync(BENCH_PROBE, JSON.stringify({ cpuUs: user + system, profile }));
      return;
    }
    const session = new Session();
    session.connect();
    await session.post("Profiler.enable");
    await session.post("Profiler.setSamplingInterval", { interval: 200 });
    await session.post("Profiler.start");
    running = { session, cpu: process.threadCpuUsage() };
    writeFileSync(`${BENCH_PROBE}.begun`, "");
  });
}
