/** Parses spans of time. */

import { SettingError } from "./listen.js";

const UNITS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/**
 * The begin of a span, in ms since 1970: a duration such as `30d` before `now`, or a date (`2026-11-01`,
 * `2026-11-01T08:00Z`), by default in the machine's time zone.
 *
 * @throws SettingError
 */
export function parseSince(text: string, now: number): number {
  const [, count, unit = ""] = /^(\d{1,9})\s*([smhdw])$/.exec(text.trim()) ?? [];
  if (count) return Math.max(0, now - Number(count) * (UNITS[unit] ?? 0));
  const isDate = /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/.test(
    text.trim(),
  );
  // `Date.parse` takes a date without a time as UTC.
  const at = isDate
    ? Date.parse(/[T ]/.test(text.trim()) ? text.trim() : `${text.trim()}T00:00`)
    : Number.NaN;
  if (Number.isNaN(at))
    throw new SettingError(
      `--since ${text}: not a span of time; write 12h, 30d or 4w, or a date such as 2026-11-01 or 2026-11-01T08:00Z`,
    );
  if (at > now) throw new SettingError(`--since ${text}: that is in the future; write a time in the past`);
  return Math.max(0, at);
}
