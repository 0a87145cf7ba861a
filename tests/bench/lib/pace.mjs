#!/usr/bin/env node
// The present speed of this machine: µs for a fixed piece of work, the median of a second. A shared machine is up to two
// times slower on some days, which its load does not show.
import { quantile } from "./figures.mjs";

const WORK = JSON.stringify({
  model: "gpt-5",
  usage: { input: 1_200, output: 80, total: 1_280 },
  tags: ["a", "b"],
});
const PIECES = 2_000;

const times = [];
for (const end = performance.now() + 1_000; performance.now() < end; ) {
  const begun = performance.now();
  for (let piece = 0; piece < PIECES; piece += 1) JSON.parse(WORK);
  times.push(((performance.now() - begun) * 1_000) / PIECES);
}
console.log(quantile(times, 0.5));
