#!/usr/bin/env node
// The time from an event to its record in the journal's file, while ten events a second arrive: what a killed gateway can
// lose. Each event is a received message of which a log record is journalled, found by its time.
// `node tests/bench/journalled.mjs [events]`
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { messageStream } from "./lib/events.mjs";
import { quantile, report } from "./lib/figures.mjs";
import { startPlugin } from "./lib/plugin.mjs";
import { startSink } from "./lib/sink.mjs";

const EVENTS = Number(process.argv[2] ?? 300);
/** Time between two events, in ms. The prime number moves them against the worker's own intervals. */
const APART_MS = 97;
/** Time between two looks at the files, in ms. */
const LOOK_MS = 2;
const GIVE_UP_MS = 10_000;

const sink = await startSink();
const plugin = await startPlugin({ url: sink.url });
const folder = join(plugin.stateDir, "agentwatch", "journal");
const stream = messageStream();
/** Times of events that are not on disk yet: ms since 1970, and `performance.now()`. @type {Map<number, number>} */
const waiting = new Map();
/** @type {number[]} */
const took = [];

function look() {
  const files = readdirSync(folder).filter((name) => name.startsWith("records-"));
  const text = files.map((name) => readFileSync(join(folder, name), "latin1")).join("");
  const now = performance.now();
  for (const [time, begun] of waiting) {
    if (now - begun > GIVE_UP_MS) throw new Error(`${time} is not in ${folder}, after ${took.length} events`);
    // The record has the time at which the handler was called, perhaps a millisecond later.
    if (![time, time + 1].some((one) => text.includes(new Date(one).toISOString().slice(0, -1)))) continue;
    took.push(now - begun);
    waiting.delete(time);
  }
}

// The worker opens the journal.
while (!existsSync(folder)) await sleep(LOOK_MS);
let due = performance.now() + 1_000;
for (let sent = 0; sent < EVENTS || waiting.size > 0; ) {
  if (sent < EVENTS && performance.now() >= due) {
    let told = stream.next();
    // Of the two kinds of message this one has a time of its own.
    while (told.hook !== "message_received") told = stream.next();
    waiting.set(Date.now(), performance.now());
    plugin.handle(told);
    due += APART_MS;
    sent += 1;
  }
  look();
  await sleep(LOOK_MS);
}
await plugin.stop();
plugin.remove();
sink.close();
report({
  "event to the journal's file, p50": [quantile(took, 0.5), "ms"],
  "event to the journal's file, p95": [quantile(took, 0.95), "ms"],
  "event to the journal's file, most": [Math.max(...took), "ms"],
});
