/** The command `agentwatch-openclaw ingest`: reads events as NDJSON from standard input. */

import type { Readable } from "node:stream";
import type { Pipeline } from "../worker/pipeline.js";

/** The longest line that is read, in bytes. A longer line is skipped, without more memory than this. */
const MAX_LINE = 1024 * 1024;
/** Number of bad lines that are logged; further ones are only counted. */
const MAX_LOGGED = 20;

/** After this many lines reading waits until they are sent, which bounds memory. */
const LINES_AT_ONCE = 500;
/** How long it waits, in ms. */
const SEND_BUDGET_MS = 60_000;

/** Counts of lines. */
export interface IngestSummary {
  lines: number;
  accepted: number;
  /** Number of skipped lines, by reason. */
  skipped: Record<string, number>;
}

/**
 * Reads events, one a line: `{"type": "model:used", …}`, `{"type": "message", "action": "received", …}`, or a typed
 * hook's `{"hook": "before_message_write", "event": {…}, "ctx": {…}}`. A bad line is logged with its number and skipped.
 */
export async function ingest(
  input: Readable,
  pipeline: Pipeline,
  log: (text: string) => void,
): Promise<IngestSummary> {
  const summary: IngestSummary = { lines: 0, accepted: 0, skipped: {} };
  let bad = 0;
  for await (const line of linesOf(input)) {
    summary.lines += 1;
    const isBatch = summary.lines % LINES_AT_ONCE === 0;
    if (isBatch && !(await pipeline.reduceBacklog(LINES_AT_ONCE, SEND_BUDGET_MS))) {
      log(`line ${summary.lines}: the receiver takes nothing any more; reading ends here`);
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
    bad += 1;
    if (bad <= MAX_LOGGED) log(`line ${summary.lines}: ${problem}, skipped`);
    if (bad === MAX_LOGGED) log("further bad lines are only counted");
  }
  return summary;
}

const [LF, CR] = [0x0a, 0x0d];

/**
 * The bytes of each line, which ends with LF, CR LF, CR or the input; `undefined` for a line that is too long. All lines
 * share one buffer: the bytes are valid until the next line is read.
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

/** The text of a line, without a byte order mark; `undefined` where it is not UTF-8. */
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
