// The figures of a benchmark: printed, and written for `scripts/bench.mjs`.
import { appendFileSync } from "node:fs";

/**
 * Name → value and unit. Names must not change, since results are compared by name.
 *
 * @typedef {Record<string, readonly [value: number, unit: string]>} Figures
 */

/**
 * Prints a benchmark's figures. `BENCH_OUT` names a file that gets them as a line of JSON too.
 *
 * @param {Figures} figures
 */
export function report(figures) {
  const width = Math.max(...Object.keys(figures).map((name) => name.length));
  for (const [name, [value, unit]] of Object.entries(figures))
    console.log(`${name.padEnd(width)}  ${inWords(value)} ${unit}`);
  const { BENCH_OUT } = process.env;
  if (BENCH_OUT) appendFileSync(BENCH_OUT, `${JSON.stringify(figures)}\n`);
}

/** Three significant digits. @param {number} value */
export function inWords(value) {
  if (!Number.isFinite(value)) return String(value);
  const digits = Math.abs(value) < 1e-9 ? 0 : 2 - Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(Math.max(digits, 0), 4));
}

/** @param {ArrayLike<number>} values @param {number} share */
export function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** @param {ArrayLike<number>} values */
export const median = (values) => quantile(values, 0.5);
