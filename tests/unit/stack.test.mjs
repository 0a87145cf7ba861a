// An instance's stack is far larger than what is used of it.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HostFiles, instantiate, Pack, passToEngine, SOURCES } from "../../dist/base.js";
import { gatewayStream } from "../bench/lib/events.mjs";
import { memories } from "../bench/lib/memories.mjs";
import { readMemory } from "../bench/lib/memory-store.mjs";

const EVENTS = 3_000;
/** rustc's size for WebAssembly, in bytes. */
const STACK = 1024 * 1024;
/** What may be used of it. */
const MOST = STACK / 16;
/** Nesting deeper than in any real document. */
const NESTED = 100_000;

/** How much of an instance's stack was used: it is at the beginning of memory, and grows towards it. */
function used() {
  const bytes = new Uint8Array(memories.at(-1)?.buffer ?? new ArrayBuffer(0), 0, STACK);
  return STACK - bytes.findIndex((byte) => byte !== 0);
}

test("counting uses a small part of its stack", (t) => {
  const instance = instantiate();
  const settings = { url: "http://receiver.test", identityKey: "00".repeat(16), installation: "test" };
  const core = new instance.Engine(settings, 1, 2);
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-stack-"));
  t.after(() => rmSync(folder, { recursive: true }));
  core.open(new HostFiles(folder), 1_795_000_000_000, 0);
  const pack = new Pack();
  const stream = gatewayStream();
  for (let told = 0; told < EVENTS; told += 1) {
    const { hook, event, ctx } = stream.next();
    const wall = 1_795_000_000_000 + told * 10;
    for (const { pick } of SOURCES[hook ?? event.type] ?? []) {
      if (!pick(event, ctx, pack, wall, told * 10)) continue;
      passToEngine(core, [pack], 0);
      core.observe();
    }
    core.advance(wall, told * 10);
    let order = core.begin(wall, told * 10, false);
    const reply = { status: 200, answer: { isTaken: true, knowsIds: true } };
    while (order) order = core.answered(reply, wall, told * 10);
  }
  assert.ok(used() > 1_000 && used() < MOST, `${used()} of ${STACK} bytes`);
});

test("an instance that reads foreign formats does too, at any depth of nesting", () => {
  const io = instantiate();
  const deep = Buffer.from(`${'{"a":['.repeat(NESTED)}\n`);
  readMemory(io, deep);
  const answer = new io.AnswerReader("POST", "/v1/chat/completions", 200);
  answer.feed(deep);
  answer.finish(0);
  const request = new io.RequestReader();
  request.feed(deep);
  assert.ok(used() > 500 && used() < MOST, `${used()} of ${STACK} bytes`);
});
