/** Events as NDJSON on standard input, for anything else that has them. */

import type { Readable } from "node:stream";
import type { Pipeline } from "./pipeline.js";

/** The longest line that is read, in bytes; a longer one is skipped, and takes no more memory than this. */
const MAX_LINE = 1024 * 1024;
/** How many bad lines are named; the rest is only counted. */
const MAX_NAMED = 20;

/** After so many lines reading waits until they are sent: memory stays bounded however long the input is. */
const RELIEF_LINES = 500;
/** How long that may take, in ms. */
const RELIEF_MS = 60_000;

/** What became of the lines. */
export interface IngestSummary {
  lines: number;
  accepted: number;
  /** Lines that were skipped, by reason. */
  skipped: Record<string, number>;
}

/**
 * Reads events, one a line: `{"type": "model:used", …}`, `{"type": "message", "action": "received", …}`, or a typed
 * hook's `{"hook": "before_message_write", "event": {…}, "ctx": {…}}`. A bad line is told with its number and skipped.
 */
export async function ingest(
  input: Readable,
  pipeline: Pipeline,
  tell: (text: string) => void,
): Promise<IngestSummary> {
  const summary: IngestSummary = { lines: 0, accepted: 0, skipped: {} };
  let named = 0;
  for await (const line of linesOf(input)) {
    summary.lines += 1;
    if (summary.lines % RELIEF_LINES === 0 && !(await pipeline.reduceBacklog(RELIEF_LINES, RELIEF_MS))) {
      tell(`line ${summary.lines}: the receiver takes nothing any more; reading ends here`);
      break;
    }
    const text = line && decoded(line);
    if (text?.trim() === "") continue;
    const problem = line ? takeLine(text, pipeline) : "too long";
    if (problem === undefined) {
      summary.accepted += 1;
      continue;
    }
    summary.skipped[problem] = (summary.skipped[problem] ?? 0) + 1;
    named += 1;
    if (named <= MAX_NAMED) tell(`line ${summary.lines}: ${problem}, skipped`);
    if (named === MAX_NAMED) tell("further bad lines are only counted");
  }
  return summary;
}

const [LF, CR] = [0x0a, 0x0d];

/**
 * The bytes of each line, whatever ends it (LF, CR LF, CR, the input's end); `undefined` for one that is too long. They
 * stand in one buffer, and are valid until the next line is asked for.
 */
async function* linesOf(input: Readable): AsyncGenerator<Buffer | undefined> {
  const line = Buffer.alloc(MAX_LINE);
  let size = 0;
  let isBehindCr = false;
  const end = () => {
    const bytes = size > MAX_LINE ? undefined : line.subarray(0, size);
    size = 0;
    return bytes;
  };
  for await (const given of input) {
    const chunk: Buffer = typeof given === "string" ? Buffer.from(given) : given;
    let from = 0;
    const add = (to: number) => {
      if (size + to - from <= MAX_LINE) chunk.copy(line, size, from, to);
      size += to - from;
    };
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at];
      const isPair = isBehindCr && byte === LF;
      isBehindCr = byte === CR;
      if (byte !== LF && byte !== CR) continue;
      add(at);
      from = at + 1;
      if (!isPair) yield end();
    }
    add(chunk.length);
  }
  if (size > 0) yield end();
}

/** The text of a line, without a byte order mark; `undefined` where it is no UTF-8. */
function decoded(line: Buffer): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(line);
  } catch {
    return undefined;
  }
}

function takeLine(line: string | undefined, pipeline: Pipeline): string | undefined {
  if (line === undefined) return "not UTF-8";
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    return "not JSON";
  }
  if (typeof event !== "object" || event === null || Array.isArray(event)) return "not an object";
  const { type, action, hook, event: inner, ctx } = event as Record<string, unknown>;
  if (typeof hook === "string") return takeFrom(pipeline, hook, [inner, ctx]);
  if (typeof type !== "string") return "no type";
  const joined = typeof action === "string" ? `${type}:${action}` : type;
  return takeFrom(pipeline, pipeline.hasSource(joined) ? joined : type, [event]);
}

function takeFrom(pipeline: Pipeline, source: string, args: readonly unknown[]): string | undefined {
  return pipeline.hasSource(source) ? pipeline.take(source, args) : "unknown type";
}
