// A wall clock that is set back and forth by hours while the session store is compared with counted calls: every call
// counts once, whichever source reports it.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { Clock, FaultyReceiver, Run, random, wrong } from "./faulty-receiver.mjs";
import { lines, Store } from "./stored.mjs";

const [MINUTE, HOUR] = [60_000, 3_600_000];

/** @type {(() => void)[]} */
const endings = [];
after(() => {
  for (const end of endings) end();
});

/** A gateway with a plugin and a session store, and a clock that the test sets. */
class ClockScenario {
  clock = new Clock();
  store = new Store();
  /** Number of calls; a call's number is its prompt tokens. */
  count = 0;
  #sessions = new Set();

  /** @param {{ aheadMs?: number }} [how] How far the clock is ahead when the plugin starts. */
  static async begin({ aheadMs = 0 } = {}) {
    const scenario = new ClockScenario();
    scenario.faulty = await FaultyReceiver.open("ids");
    endings.push(
      () => scenario.store.close(),
      () => scenario.faulty.close(),
    );
    scenario.clock.jump(aheadMs);
    await scenario.open();
    return scenario;
  }

  async open() {
    const store = {
      stateDir: this.store.stateDir,
      begins: true,
      settledAfterMs: () => MINUTE,
      most: { history: 100_000, gaps: 100_000 },
    };
    const { clock } = this;
    this.run = new Run(join(this.store.stateDir, "agentwatch"), this.faulty.url, { clock, host: { store } });
    await this.run.pipeline.open();
  }

  /** Replaces the process. */
  async restart() {
    await this.run.end();
    await this.open();
  }

  /** A call. @param {{ told?: boolean, stored?: boolean, session?: string, agoMs?: number }} [how] */
  call({ told = true, stored = true, session = "s", agoMs = 0 } = {}) {
    this.count += 1;
    // Stored rows of calls that begin within 50 ms of each other cannot be matched one to one.
    this.clock.pass(1_500);
    if (told) {
      this.run.call(this.count);
      this.run.pipeline.drain();
    }
    if (!stored) return;
    const at = this.clock.wall() - agoMs;
    const timestamp = new Date(at).toISOString();
    const usage = { input: this.count, output: 1, cacheRead: 0, cacheWrite: 0, cost: { total: 0.25 } };
    const answer = { role: "assistant", provider: "p", model: "m", stopReason: "stop", usage };
    const message = { ...answer, timestamp: at - 50 };
    const header = { type: "session", version: 3, id: session, timestamp };
    const row = { type: "message", id: `e${this.count}`, timestamp, message };
    this.store.append(`${session}.jsonl`, this.#sessions.has(session) ? lines(row) : lines(header, row));
    this.#sessions.add(session);
  }

  /** Sends the diagnostic event of the last call, with the present time. */
  diagnostic() {
    const usage = { input: this.count, output: 1, cacheRead: 0, cacheWrite: 0, cost: { total: 0.25 } };
    const call = { provider: "p", model: "m", usage, durationMs: 50, sessionKey: "agent:main:s" };
    this.run.pipeline.accept("model.call.completed", [{ ...call, ts: this.clock.wall() }]);
  }

  /** Lets time pass, and reads the store in between. @param {number} ms @param {number} [step] */
  async pass(ms, step = MINUTE) {
    for (let left = ms; left > 0; left -= step) {
      this.clock.pass(Math.min(step, left));
      this.run.pipeline.drain();
      await this.run.pipeline.store?.look();
      await this.run.pipeline.stop(2_000);
    }
  }

  /** @param {string} [what] */
  assertEachOnce(what) {
    assert.deepEqual(wrong(this.faulty, this.count), [], what);
    assert.equal(this.faulty.counted.size, this.count, what);
  }

  async end() {
    await this.run.settle();
    await this.run.end();
  }
}

/** Adds calls of each kind, in a known session and in a new one. @param {ClockScenario} scenario */
function addCalls(scenario) {
  for (const session of ["s", `t${scenario.count}`]) {
    scenario.call({ session });
    scenario.call({ session, told: false });
    scenario.call({ session });
  }
}

test("calls that only the store has count after the clock was set back by hours", async () => {
  const scenario = await ClockScenario.begin();
  addCalls(scenario);
  await scenario.pass(3 * MINUTE);
  scenario.assertEachOnce("before");
  scenario.clock.jump(-5 * HOUR);
  for (let round = 0; round < 4; round += 1) {
    addCalls(scenario);
    await scenario.pass(3 * MINUTE);
    scenario.assertEachOnce(`round ${round}`);
  }
  // Hours later the clock reaches the time at which it was set back.
  await scenario.pass(6 * HOUR, 20 * MINUTE);
  addCalls(scenario);
  await scenario.pass(3 * MINUTE);
  scenario.assertEachOnce("in the end");
  await scenario.end();
});

test("no call counts twice while and after the clock is ahead by hours", async () => {
  const scenario = await ClockScenario.begin();
  addCalls(scenario);
  await scenario.pass(20_000, 10_000);
  scenario.clock.jump(5 * HOUR);
  addCalls(scenario);
  await scenario.pass(3 * MINUTE);
  scenario.assertEachOnce("ahead");
  addCalls(scenario);
  scenario.clock.jump(-5 * HOUR);
  addCalls(scenario);
  await scenario.pass(15 * MINUTE);
  await scenario.restart();
  addCalls(scenario);
  await scenario.pass(5 * HOUR, 10 * MINUTE);
  await scenario.pass(30 * MINUTE);
  scenario.assertEachOnce("in the end");
  await scenario.end();
});

test("a plugin that started with a clock that was ahead counts older calls of the store once", async () => {
  const scenario = await ClockScenario.begin({ aheadMs: 5 * HOUR });
  await scenario.pass(10_000, 10_000);
  scenario.clock.jump(-5 * HOUR);
  for (let ago = 48; ago > 0; ago -= 1) scenario.call({ told: false, session: "old", agoMs: ago * HOUR });
  await scenario.pass(MINUTE, 10_000);
  addCalls(scenario);
  await scenario.pass(10 * MINUTE);
  const { store } = scenario.run.pipeline;
  assert.ok(store?.plan(scenario.clock.wall() - 72 * HOUR), "there is history");
  for (let looks = 0; looks < 100 && store?.planned(); looks += 1) await scenario.pass(MINUTE);
  await scenario.pass(6 * HOUR, 20 * MINUTE);
  scenario.assertEachOnce();
  await scenario.end();
});

test("two observations of one call match when the clock is set between them", async () => {
  const scenario = await ClockScenario.begin();
  scenario.run.pipeline.expectDiagnostics(true);
  const jumps = [5 * HOUR, -5 * HOUR, 2 * MINUTE, -2 * MINUTE, 3_000, -3_000, -9 * HOUR, 4 * HOUR];
  for (const isTogether of [true, false])
    for (const by of jumps) {
      scenario.call();
      // Both are in the queue, or the core has the first one already.
      if (isTogether) {
        scenario.count += 1;
        scenario.clock.pass(1_500);
        scenario.run.call(scenario.count);
      }
      scenario.clock.jump(by);
      scenario.diagnostic();
      await scenario.pass(scenario.count % 3 === 0 ? 3 * MINUTE : 5_000, 5_000);
      scenario.assertEachOnce(`${by} ms, ${isTogether ? "together" : "one by one"}`);
    }
  await scenario.pass(3 * MINUTE);
  scenario.assertEachOnce("in the end");
  await scenario.end();
});

test("events that wait while the clock is set are not late", async () => {
  const scenario = await ClockScenario.begin();
  scenario.run.pipeline.expectDiagnostics(true);
  for (const by of [5 * HOUR, -5 * HOUR]) {
    scenario.count += 1;
    scenario.run.call(scenario.count);
    scenario.clock.jump(by);
    scenario.diagnostic();
    scenario.run.pipeline.drain();
    assert.equal(scenario.run.status.late, 0, "they were one call before that was final");
    await scenario.pass(5_000, 5_000);
  }
  scenario.assertEachOnce();
  await scenario.end();
});

// SEEDS=25 runs more seeds.
test("a clock that jumps at random, with restarts", async () => {
  for (let seed = 1; seed <= Number(process.env.SEEDS ?? 3); seed += 1) {
    const below = random(seed * 7919);
    const scenario = await ClockScenario.begin();
    let ahead = 0;
    for (let step = 0; step < 12; step += 1) {
      addCalls(scenario);
      await scenario.pass((1 + below(4)) * MINUTE);
      if (below(3) === 0) {
        const next = (below(9) - 4) * HOUR;
        scenario.clock.jump(next - ahead);
        ahead = next;
      }
      if (below(4) === 0) await scenario.restart();
    }
    await scenario.pass(12 * HOUR, 20 * MINUTE);
    await scenario.pass(3 * MINUTE);
    scenario.assertEachOnce(`seed ${seed}`);
    await scenario.end();
  }
});
