/** A stored transcript as a stretch of bytes, wherever it is kept, and a place in it. */

import { createHash } from "node:crypto";

/** What cannot be read, told to the operator: it names files and settings, never content. */
export class StoreProblem extends Error {
  override name = "StoreProblem";
}

/** How much is read at a time, in bytes: the core takes about a ms for it. */
export const CHUNK_BYTES = 128 * 1024;

/** How much of a line tells it from others, in bytes: its times and ids are at its end. */
const TAIL_BYTES = 256;

/** A place in a transcript: everything before it was handed out. */
export interface Place {
  /** Bytes from the start. */
  offset: number;
  /** A hash of the line before it. */
  hash: string;
  /** What the reader has to know to go on there. */
  heritage: number | undefined;
  /** The row before it, where rows have numbers. */
  row: number | undefined;
  /** The size of the file, where it was read to its end and is never written to again. */
  closed: number | undefined;
}

/** One transcript. The same session's may have been kept in several, one after the other. */
export interface Transcript {
  /** Where it is, for problems. */
  readonly name: string;
  /** The session's key, where it is told. */
  readonly sessionKey: string | undefined;
  /** The session's agent, where its place says more than the folder's. */
  readonly agent?: string | undefined;
  /** Its size in bytes, where nobody writes to it any more. */
  readonly closed: number | undefined;
  /** Whether it certainly holds nothing behind the place. */
  endsAt(place: Place): boolean;
  /** Where it ends, if nothing was written to it at this time (ms since 1970) or later and that is known. */
  endIfOlder(ms: number): number | undefined;
  /** The last bytes before a place, at least a line or {@link TAIL_BYTES}; undefined if there is no such place. */
  tail(place: Pick<Place, "offset" | "row">): Promise<Uint8Array | undefined>;
  /** The bytes behind a place, in chunks of at most {@link CHUNK_BYTES}. */
  read(place: Pick<Place, "offset" | "row">): AsyncIterable<Uint8Array>;
  /** The number of the row that ends at an offset in what was read last, where rows have numbers. */
  rowAt(offset: number): number | undefined;
}

/** How many bytes {@link Transcript.tail} has to give at most: such a piece of a line, and the newline. */
export const MOST_TAIL_BYTES = TAIL_BYTES + 1;

/** A hash of the last line in bytes that end behind it. */
export function hashOfLine(bytes: Uint8Array): string {
  const end = bytes.at(-1) === 0x0a ? bytes.length - 1 : bytes.length;
  const start = Math.max(end - TAIL_BYTES, bytes.subarray(0, end).lastIndexOf(0x0a) + 1);
  return createHash("sha256").update(bytes.subarray(start, end)).digest("base64url").slice(0, 12);
}

/** A place as a short text. */
export function toBookmark({ offset, hash, heritage, row, closed }: Place): string {
  const rest = [heritage, row, closed].map((number) => number?.toString(36) ?? "");
  return [offset.toString(36), hash, ...rest].join(".").replace(/\.+$/, "");
}

/** The place that a text stands for; undefined if it is none. */
export function fromBookmark(text: string | undefined): Place | undefined {
  const [first = "", hash = "", ...rest] = (text ?? "").split(".");
  const number = (part: string | undefined) => (part ? Number.parseInt(part, 36) : undefined);
  const offset = number(first);
  const [heritage, row, closed] = rest.map(number);
  const isSound = [offset, heritage, row, closed].every(
    (n) => n === undefined || (Number.isSafeInteger(n) && n >= 0),
  );
  return offset && hash && isSound ? { offset, hash, heritage, row, closed } : undefined;
}
