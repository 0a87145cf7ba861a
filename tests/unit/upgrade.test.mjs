// A state directory of version 0.1.0 is taken over, and 0.1.0 takes over one of this version: nothing is lost, and nothing is
// counted twice. See tests/fixtures/upgrade/README.md.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { firstVersion } from "../fixtures/upgrade/first-version.mjs";
import { KINDS, live, outlets, PROJECT, recordsOf, spansOf, takeOver } from "./gateway-process.mjs";
import { lines } from "./world.mjs";

const GOLDEN = fileURLToPath(new URL("../fixtures/upgrade/0.1.0", import.meta.url));
const DAY = 86_400_000;

const temporary = mkdtempSync(join(tmpdir(), "agentwatch-upgrade-"));
after(() => rmSync(temporary, { recursive: true, force: true }));

/**
 * The records that receiver and collector had when the version's gateway was killed, and the records that the version would have
 * sent afterwards.
 *
 * @typedef {object} Ledger
 * @property {[id: string, prompt: number, completion: number, cost: number][]} calls
 * @property {string[]} records
 * @property {string[]} spans
 * @property {string} sums_begin When the collector's sums begin, in ns since 1970.
 * @property {{ calls: number, records: string[], spans: string[] }} waiting
 */

/** @param {string} name @returns {Ledger} */
const ledgerOf = (name) => JSON.parse(readFileSync(join(GOLDEN, name, "ledger.json"), "utf8"));

/** The providers' answers of a kind's recordings: prompt tokens, completion tokens, cost in millionths of a cent. @param {string} name */
function answered(name) {
  const kind = KINDS[name] ?? assert.fail(name);
  return Object.keys(kind.told)
    .flatMap((version) => lines(version, "provider.jsonl"))
    .flatMap(({ usage }) => (usage ? [usage] : []))
    .map(({ input, cacheRead = 0, output }) =>
      row(input + cacheRead, output, (input * 3 + output * 15 + cacheRead * 0.3) / 1e6),
    )
    .sort();
}

/** @param {number} prompt @param {number} completion @param {number} cost USD */
function row(prompt, completion, cost) {
  return `${prompt} and ${completion} tokens, ${Math.round(cost * 1e8)}`;
}

/** @param {import("./faulty-receiver.mjs").FaultyReceiver} faulty @param {Ledger["calls"]} earlier */
function counted({ usage }, earlier = []) {
  const later = usage.map(({ prompt_tokens, completion_tokens, cost_usd }) =>
    row(prompt_tokens, completion_tokens, cost_usd),
  );
  return [...earlier.map(([, ...figures]) => row(...figures)), ...later].sort();
}

/** Asserts that sums cover all calls and have one start time. @param {string} name @param {import("./collector.mjs").Collector} collector @param {string} begin */
function assertSums(name, { tokens }, begin) {
  const sums = answered(name).map((text) => text.split(/[^\d]+/).map(Number));
  const sum = (/** @type {number} */ index) => sums.reduce((all, figures) => all + (figures[index] ?? 0), 0);
  const { cost, ...rest } = tokens;
  assert.deepEqual(rest, { input: sum(0), output: sum(1), requests: sums.length, start: begin });
  assert.ok(Math.abs(cost * 1e8 - sum(2)) < 1, `${cost} USD`);
}

/** Asserts that each id came once. @param {string[]} found @param {string[]} expected @param {string} what */
function assertOnce(found, expected, what) {
  assert.deepEqual(
    expected.filter((id) => !found.includes(id)),
    [],
    `${what} that never came`,
  );
  assert.deepEqual(
    found.filter((id, index) => found.indexOf(id) !== index),
    [],
    `${what} that came twice`,
  );
}

/** @param {string} name @param {Ledger} ledger @param {"ids" | "stock"} receiver */
async function takenOverGolden(name, ledger, receiver) {
  const stateDir = mkdtempSync(join(temporary, `${name}-`));
  cpSync(join(GOLDEN, name, "agentwatch"), join(stateDir, "agentwatch"), { recursive: true });
  // Another process of this machine may have the killed owner's number.
  const owner = join(stateDir, "agentwatch", "owner.json");
  writeFileSync(owner, readFileSync(owner, "utf8").replace(/"pid":\d+/, `"pid":${NO_PID}`));
  const all = await outlets(receiver);
  for (const [id] of ledger.calls) all.faulty[receiver === "ids" ? "ids" : "costs"].add(id);
  return { stateDir, all };
}

/** 0.1.0 does not know the frames that say how far AgentWatch has come. */
const UNKNOWN_CURSORS = /pieces? of the journal w\w+ torn or corrupt/;

/** @param {string} stateDir @param {string[]} log @param {boolean} [knowsCursors] */
function assertNoFault(stateDir, log, knowsCursors = true) {
  const faults = log.filter((line) => /corrupt|fault|another version|left out|trap/.test(line));
  assert.deepEqual(
    faults.filter((line) => knowsCursors || !UNKNOWN_CURSORS.test(line)),
    [],
  );
  const { status } = JSON.parse(readFileSync(join(stateDir, "agentwatch", "status.json"), "utf8"));
  const { journal_corrupt, journal_error, core_restarts, dropped } = status;
  const corrupt = knowsCursors ? journal_corrupt : 0;
  assert.deepEqual([corrupt, journal_error, core_restarts, dropped], [0, null, 0, {}]);
}

/** Above Linux's largest process id. */
const NO_PID = 2 ** 22 + 1;

const HOW = {
  "by an update under way: it hears the rest": { getsRest: true },
  "by a new process: the rest is in the session store": {},
  "three months later": { later: 90 * DAY },
};

describe("a state directory of 0.1.0 is taken over", { concurrency: 4 }, () => {
  for (const name of Object.keys(KINDS))
    for (const receiver of /** @type {const} */ (["ids", "stock"]))
      for (const [what, how] of Object.entries(HOW))
        test(`${name}, ${receiver}, ${what}`, async () => {
          const ledger = ledgerOf(name);
          const { stateDir, all } = await takenOverGolden(name, ledger, receiver);
          const { faulty, collector } = all;
          try {
            const log = await takeOver(name, { project: PROJECT, stateDir, temporary, outlets: all }, how);
            assertNoFault(stateDir, log);
            assert.deepEqual(counted(faulty, ledger.calls), answered(name), log.join("\n"));
            const { waiting } = ledger;
            // Records whose answer was lost are sent again under their ids.
            assertOnce(recordsOf(faulty), waiting.records, "records");
            assertOnce([...ledger.spans, ...spansOf(collector)], waiting.spans, "spans");
            assertSums(name, collector, ledger.sums_begin);
          } finally {
            faulty.close();
            collector.close();
          }
        });
});

/** Takes a state directory over while AgentWatch and the collector are away. @param {Parameters<typeof takeOver>} args */
async function takeOverUnheard(...args) {
  const { faulty, collector } = args[1].outlets;
  faulty.fault = "refuse";
  collector.reply = () => ({ status: 503 });
  const log = await takeOver(...args);
  faulty.fault = "well";
  collector.reply = () => ({});
  return log;
}

describe("0.1.0 takes over a state directory of this version", { concurrency: 8 }, () => {
  const old = firstVersion();
  for (const name of Object.keys(KINDS))
    for (const receiver of /** @type {const} */ (["ids", "stock"])) {
      test(`${name}, ${receiver}, after a kill; then this version again`, async () => {
        const stateDir = mkdtempSync(join(temporary, `${name}-`));
        const all = await outlets(receiver);
        const place = { stateDir, temporary, outlets: all };
        try {
          await live(name, { project: PROJECT, ...place });
          const { start } = all.collector.tokens;
          for (const [later, project] of [old, PROJECT, old].entries()) {
            const log = await takeOver(name, { project, ...place }, { later: (later + 1) * 120_000 });
            assertNoFault(stateDir, log, project === PROJECT);
            assert.deepEqual(counted(all.faulty), answered(name), log.join("\n"));
            assertOnce(spansOf(all.collector), [], "spans");
            assertSums(name, all.collector, start);
          }
        } finally {
          all.faulty.close();
          all.collector.close();
        }
      });

      test(`${name}, ${receiver}, which took it over from 0.1.0`, async () => {
        const ledger = ledgerOf(name);
        const { stateDir, all } = await takenOverGolden(name, ledger, receiver);
        const place = { stateDir, temporary, outlets: all };
        try {
          await takeOverUnheard(name, { project: PROJECT, ...place }, {});
          assert.deepEqual(counted(all.faulty), []);
          const log = await takeOver(name, { project: old, ...place }, { later: 240_000 });
          assertNoFault(stateDir, log, false);
          assert.deepEqual(counted(all.faulty, ledger.calls), answered(name), log.join("\n"));
          assertOnce(recordsOf(all.faulty), ledger.waiting.records, "records");
          assertOnce([...ledger.spans, ...spansOf(all.collector)], ledger.waiting.spans, "spans");
          assertSums(name, all.collector, ledger.sums_begin);
        } finally {
          all.faulty.close();
          all.collector.close();
        }
      });
    }
});
