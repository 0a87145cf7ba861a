// Each call is counted once under all faults of a receiver: exactly where it knows ids, and except for calls that the
// status reports as ambiguous where it does not.
import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  Clock,
  FAULTS,
  FaultyReceiver,
  inFolder,
  Run,
  random,
  sleep,
  until,
  wrong,
} from "./faulty-receiver.mjs";

/** Number of seeds. */
const SEEDS = Number(process.env.FAULT_SEEDS ?? 3);
const FIRST_SEED = Number(process.env.FAULT_SEED ?? 20261124);
/** Phases of a run, each with another fault. */
const PHASES = 16;

/** Calls under random faults, with stops and starts in between. @param {"ids" | "stock"} kind @param {number} seed @param {string} folder */
async function storm(kind, seed, folder) {
  const below = random(seed);
  const faulty = await FaultyReceiver.open(kind, below);
  const clock = new Clock(40);
  let run = new Run(folder, faulty.url, { clock });
  let count = 0;
  let ambiguous = 0;
  let refused = 0;
  try {
    await run.pipeline.open();
    for (let phase = 0; phase < PHASES; phase += 1) {
      faulty.fault = FAULTS[below(FAULTS.length)] ?? "well";
      for (let calls = below(40); calls > 0; calls -= 1) {
        count += 1;
        run.call(count);
        if (below(4) === 0) await sleep(1);
      }
      await sleep(60 + below(120));
      faulty.release();
      if (below(5) === 0) {
        await run.end(100);
        ambiguous += run.status.ambiguous;
        refused += run.status.dropped?.refused ?? 0;
        run = new Run(folder, faulty.url, { clock });
        await run.pipeline.open();
      }
    }
    faulty.fault = "well";
    await run.settle();
    ambiguous += run.status.ambiguous;
    refused += run.status.dropped?.refused ?? 0;
    const bad = wrong(faulty, count);
    const what = `${kind}, seed ${seed}: ${count} calls, ${JSON.stringify(faulty.met)}, ambiguous ${ambiguous}`;
    console.log(`${what}, not exact ${bad.length}`);
    assert.equal(run.status.waiting + run.status.open, 0, `${what}: something still waits`);
    assert.equal(refused, 0, `${what}: a good record was given up`);
    assert.deepEqual(
      bad.filter(([, times = 0]) => times > 1),
      [],
      `${what}: twice`,
    );
    if (kind === "ids") assert.deepEqual(bad, [], what);
    else assert.ok(bad.length <= ambiguous, `${what}: lost ${JSON.stringify(bad)}`);
    assert.equal(faulty.elsewhere, 0, "a redirect is not followed");
  } finally {
    await run.end(1);
    faulty.close();
  }
}

for (const kind of /** @type {const} */ (["ids", "stock"]))
  for (let index = 0; index < SEEDS; index += 1)
    test(`random faults, ${kind}, seed ${FIRST_SEED + index}`, () =>
      inFolder((folder) => storm(kind, FIRST_SEED + index, folder)));

for (const kind of /** @type {const} */ (["ids", "stock"]))
  test(`order is kept where nothing is refused, ${kind}`, () =>
    inFolder(async (folder) => {
      const faulty = await FaultyReceiver.open(kind);
      const run = new Run(folder, faulty.url, { clock: new Clock(40) });
      await run.pipeline.open();
      for (let tokens = 1; tokens <= 300; tokens += 1) {
        run.call(tokens);
        faulty.fault = ["refuse", "well", "slow-down", "lose", "slow"][Math.floor(tokens / 20) % 5] ?? "well";
        if (tokens % 10 === 0) await sleep(10);
      }
      faulty.fault = "well";
      await run.settle();
      await run.end();
      faulty.close();
      assert.deepEqual(wrong(faulty, 300), []);
      assert.deepEqual(
        faulty.order,
        [...faulty.order].sort((a, b) => a - b),
      );
    }));

test("two gateways write to one stock receiver at the same time", () =>
  inFolder((one) =>
    inFolder(async (other) => {
      const below = random(7);
      const faulty = await FaultyReceiver.open("stock", below);
      const clock = new Clock(40);
      const runs = [one, other].map((folder) => new Run(folder, faulty.url, { clock }));
      for (const run of runs) await run.pipeline.open();
      for (let tokens = 1; tokens <= 200; tokens += 1) {
        runs[tokens % 2]?.call(tokens);
        faulty.fault = ["lose", "well", "refuse", "slow"][below(4)] === "lose" ? "lose" : "well";
        if (tokens % 5 === 0) await sleep(5);
      }
      faulty.fault = "well";
      for (const run of runs) await run.settle();
      for (const run of runs) await run.end();
      faulty.close();
      assert.deepEqual(wrong(faulty, 200), []);
    }),
  ));

test("a refused record is stored with its reason, and the others are sent", () =>
  inFolder(async (folder) => {
    const faulty = await FaultyReceiver.open("ids");
    faulty.poison = new Set([7, 31]);
    const run = new Run(folder, faulty.url, { clock: new Clock(40) });
    await run.pipeline.open();
    for (let tokens = 1; tokens <= 60; tokens += 1) run.call(tokens);
    await run.settle();
    await run.end();
    faulty.close();
    assert.deepEqual(
      wrong(faulty, 60).map(([tokens]) => tokens),
      [7, 31],
    );
    assert.equal(run.status.dropped.refused, 2);
    const file = join(folder, "journal", "refused.ndjson");
    const text = readFileSync(file, "utf8");
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.equal(text.trim().split("\n").length, 2);
    assert.ok(!text.includes("top-secret"));
    for (const line of text.trim().split("\n")) assert.match(JSON.stringify(JSON.parse(line)), /422/);
  }));

test("refused records have a bound on disk", () =>
  inFolder(async (folder) => {
    const faulty = await FaultyReceiver.open("ids");
    faulty.poison = new Set(Array.from({ length: 900 }, (_, index) => index + 1));
    const run = new Run(folder, faulty.url, { clock: new Clock(40) });
    await run.pipeline.open();
    for (let tokens = 1; tokens <= 900; tokens += 1) run.call(tokens);
    await run.settle(120_000);
    await run.end();
    faulty.close();
    assert.equal(run.status.dropped.refused, 900);
    for (const name of ["refused.ndjson", "refused-older.ndjson"])
      assert.ok((statSync(join(folder, "journal", name), { throwIfNoEntry: false })?.size ?? 0) < 300 * 1024);
  }));

test("a receiver without batches gets calls for hours", () =>
  inFolder(async (folder) => {
    const faulty = await FaultyReceiver.open("stock");
    faulty.fault = "no-batch";
    const run = new Run(folder, faulty.url, { clock: new Clock(40) });
    await run.pipeline.open();
    for (let hour = 1; hour <= 4; hour += 1) {
      run.call(hour);
      await run.settle();
      assert.equal(run.status.delivered, hour);
      run.clock.pass(3_600_000);
    }
    await run.end();
    faulty.close();
  }));

test("a refused token is logged, and sending continues once the token is valid", () =>
  inFolder(async (folder) => {
    const faulty = await FaultyReceiver.open("ids");
    faulty.fault = "token";
    const run = new Run(folder, faulty.url, { clock: new Clock(40) });
    await run.pipeline.open();
    for (let tokens = 1; tokens <= 5; tokens += 1) run.call(tokens);
    await until(() => run.log.some((line) => line.includes("set token")));
    const { requests } = faulty;
    await sleep(50);
    assert.ok(faulty.requests - requests < 20, "a refused token is not tried without pauses");
    faulty.fault = "well";
    run.clock.pass(20_000);
    run.call(6);
    await until(() => faulty.counted.size === 6);
    await run.end();
    faulty.close();
    assert.ok(!run.log.join("\n").includes("top-secret"));
    assert.deepEqual(wrong(faulty, 6), []);
  }));
