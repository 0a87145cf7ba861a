#!/usr/bin/env node
// How fast this machine is just now: µs that a fixed piece of work takes, the median of a second's. A shared machine is one
// and a half or two times slower on some days than on others, with nothing in its load that would say so.
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
