/**
 * Time zones for the engine, which has none of its own: the changes of a zone's offset around now, found with `Intl`.
 * See `crate/src/spending/zones.rs`.
 */

/** A zone: its name, its first offset, and each change as a time (s since 1970) and the offset from then on (s). */
export type Zone = [name: string, ...numbers: number[]];

/** The years of changes before and after now: settings are read again at each start. */
const YEARS = { before: 1, after: 5 };
const DAY_S = 86_400;
/** Name of a machine's own zone that has no usable one. */
const NAMELESS = "local";
/** No zone has two changes within this many days, except Morocco around Ramadan, with 28 at least. */
const STEP_DAYS = 14;

/** The machine's own zone, and those of the settings `zone` and `allowance`. The engine names unknown ones. */
export function zonesOf({ zone, allowance }: Record<string, unknown>, now = Date.now()): Zone[] {
  const now_s = Math.floor(now / 1_000);
  const own = ownZone();
  const [first] = (own === undefined ? undefined : zoneOf(own, now_s)) ?? [
    changes(NAMELESS, now_s, machineOffset),
  ];
  const entries: ({ zone?: unknown } | null)[] = Array.isArray(allowance) ? allowance : [];
  const given = [zone, ...entries.map((entry) => entry?.zone)];
  const names = new Set(given.filter((name) => typeof name === "string"));
  names.delete(own ?? "");
  return [first, ...[...names].slice(0, 64).flatMap((name) => zoneOf(name, now_s) ?? [])];
}

/** The name of the machine's own zone; undefined where it has none, as with `TZ=:/etc/localtime`. */
export function ownZone(): string | undefined {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** The offset of the machine's own zone at a time, in s. */
function machineOffset(at: number): number {
  return -60 * new Date(at * 1_000).getTimezoneOffset();
}

/** The zone with this name; nothing if there is none. `now` is in s. */
export function zoneOf(name: string, now: number): [Zone] | undefined {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat("en-US", {
      ...{ timeZone: name, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric" },
      ...{ hour: "numeric", minute: "numeric", second: "numeric" },
    });
  } catch {
    return undefined;
  }
  return [changes(name, now, (at) => offset(format, at))];
}

/** A zone with the offsets that a function has. `now` is in s. */
function changes(name: string, now: number, offsetAt: (at: number) => number): Zone {
  const from = Math.floor(now / DAY_S) * DAY_S - YEARS.before * 366 * DAY_S;
  const until = now + YEARS.after * 366 * DAY_S;
  const zone: Zone = [name, offsetAt(from)];
  let before = offsetAt(from);
  for (let at = from; at < until; at += STEP_DAYS * DAY_S) {
    const after = offsetAt(at + STEP_DAYS * DAY_S);
    if (after === before) continue;
    zone.push(changeWithin(at, at + STEP_DAYS * DAY_S, before, offsetAt), after);
    before = after;
  }
  return zone;
}

/** The first second after a change of offset. */
function changeWithin(from: number, until: number, before: number, offsetAt: (at: number) => number): number {
  let [low, high] = [from, until];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (offsetAt(middle) === before) low = middle;
    else high = middle;
  }
  return high;
}

/** The offset at a time, in s. */
function offset(format: Intl.DateTimeFormat, at: number): number {
  const parts = format.formatToParts(at * 1_000);
  const of = (type: string) => Number(parts.find((part) => part.type === type)?.value);
  const local = Date.UTC(of("year"), of("month") - 1, of("day"), of("hour"), of("minute"), of("second"));
  return local / 1_000 - at;
}
