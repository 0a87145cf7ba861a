// The command `ingest`: each line of any input is read or counted as skipped, and none ends the command.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ingest } from "../../dist/commands.js";
import { random } from "./faulty-receiver.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "agentwatch-ingest-"));
after(() => rmSync(root, { recursive: true, force: true }));

const EVENT = { type: "model", action: "used", context: { model: "p/m", promptTokens: 1 } };
const GOOD = JSON.stringify(EVENT);
const MIB = 1024 * 1024;

/** The summary and the log of an input. @param {Iterable<Buffer>} chunks */
async function read(chunks) {
  /** @type {string[]} */
  const said = [];
  const pipeline = /** @type {any} */ ({
    reduceBacklog: async () => true,
    hasSource: (/** @type {string} */ source) => source === "model:used",
    take: () => undefined,
  });
  const { lines, accepted, skipped } = await ingest(Readable.from(chunks), pipeline, (text) =>
    said.push(text),
  );
  return { lines, accepted, skipped: { ...skipped }, said };
}

/** @param {Buffer} bytes @param {(below: number) => number} below */
function* torn(bytes, below) {
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + below(40);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

test("lines of every kind, with every line end, in pieces of every size", async () => {
  const below = random(16);
  const KINDS = /** @type {[Buffer, string | undefined][]} */ ([
    [Buffer.from(GOOD), undefined],
    [Buffer.from(`\uFEFF${GOOD}`), undefined],
    [Buffer.from(` ${GOOD}\t`), undefined],
    // These characters end no line.
    [Buffer.from(GOOD.replace("p/m", "p/\u2028m\u2029\u0085")), undefined],
    [Buffer.concat([Buffer.from('{"type":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]), "not UTF-8"],
    [Buffer.from([0xed, 0xa0, 0x80]), "not UTF-8"],
    [Buffer.from(GOOD, "utf16le").subarray(0, 2), "not JSON"],
    [Buffer.alloc(9), "not JSON"],
    [Buffer.from("{"), "not JSON"],
    [Buffer.from("null"), "not an object"],
    [Buffer.from("[".repeat(50_000)), "not JSON"],
    [Buffer.from('{"type":"__proto__"}'), "unknown type"],
    [Buffer.alloc(MIB + 1, 0x20), "too long"],
  ]);
  const ENDS = ["\n", "\r\n", "\r"].map((end) => Buffer.from(end));
  for (let times = 0; times < 60; times += 1) {
    const lines = Array.from(
      { length: 1 + below(8) },
      () => KINDS[below(KINDS.length - (below(8) ? 1 : 0))] ?? KINDS[0],
    );
    const end = ENDS[below(3)] ?? Buffer.from("\n");
    const isEnded = below(2) === 0;
    const bytes = Buffer.concat(
      lines.flatMap(([line] = [Buffer.alloc(0), ""], index) =>
        index < lines.length - 1 || isEnded ? [line, end] : [line],
      ),
    );
    /** @type {Record<string, number>} */
    const skipped = {};
    for (const [, why] of lines.flatMap((line) => (line ? [line] : [])))
      if (why) skipped[why] = (skipped[why] ?? 0) + 1;
    const found = await read(torn(bytes, bytes.length > MIB ? () => 65_535 : below));
    assert.equal(found.lines, lines.length, `time ${times}`);
    assert.deepEqual(found.skipped, skipped, `time ${times}`);
    assert.equal(found.accepted, lines.filter((line) => line && !line[1]).length, `time ${times}`);
  }
});

test("a line at the limit, and one byte above it", async () => {
  const padded = (/** @type {number} */ size) => Buffer.from(`${GOOD}${" ".repeat(size - GOOD.length)}\n`);
  assert.equal((await read([padded(MIB)])).accepted, 1);
  assert.deepEqual((await read([padded(MIB + 1), padded(GOOD.length)])).skipped, { "too long": 1 });
});

test("a line without an end needs little memory, and the next line is read", async () => {
  const args = [CLI, "ingest", "--url", "http://127.0.0.1:9", "--state-dir", join(root, "state")];
  const env = { PATH: process.env.PATH ?? "", HOME: root };
  const child = spawn(process.execPath, args, {
    env,
    stdio: ["pipe", "ignore", "pipe"],
    timeout: 120_000,
    killSignal: "SIGKILL",
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  const closed = once(child, "close");
  const chunk = Buffer.alloc(MIB, 0x61);
  for (let times = 0; times < 400; times += 1)
    if (!child.stdin.write(chunk)) await once(child.stdin, "drain");
  const peak = readFileSync(`/proc/${child.pid}/status`, "utf8").match(/VmHWM:\s+(\d+)/)?.[1];
  child.stdin.end(`\n${GOOD}\n${GOOD}`);
  await closed;
  assert.match(said, /^line 1: too long, skipped\n[^]*\n3 lines: 2 taken, 1 skipped\n {2}1 too long/);
  assert.ok(Number(peak) < 250 * 1024, `${peak} KiB`);
});

test("commands whose engine cannot run say so and end with 2", () => {
  const dist = join(root, "damaged", "dist");
  cpSync(fileURLToPath(new URL("../../dist/", import.meta.url)), dist, { recursive: true });
  cpSync(
    fileURLToPath(new URL("../../package.json", import.meta.url)),
    join(root, "damaged", "package.json"),
  );
  writeFileSync(
    join(dist, "agentwatch.wasm"),
    readFileSync(join(dist, "agentwatch.wasm")).subarray(0, 200_000),
  );
  const stateDir = join(root, "damaged", "state");
  mkdirSync(join(stateDir, "agents", "main", "sessions"), { recursive: true });
  const run = (/** @type {string[]} */ ...args) => {
    const all = [join(dist, "cli.js"), ...args, "--url", "http://127.0.0.1:9", "--state-dir", stateDir];
    return spawnSync(process.execPath, all, { input: `${GOOD}\n`, encoding: "utf8" });
  };
  const ingested = run("ingest");
  assert.deepEqual([ingested.status, ingested.stdout], [2, ""], ingested.stderr);
  assert.match(ingested.stderr, /1 lines: 0 taken, 1 skipped/);
  assert.match(ingested.stderr, /counting was switched off after repeated faults/);
  const synced = run("sync", "--json");
  assert.equal(synced.status, 2, synced.stderr);
  const { handed_over, problems } = JSON.parse(synced.stdout);
  assert.equal(handed_over, false);
  assert.match(problems[0], /counting was switched off/);
});
