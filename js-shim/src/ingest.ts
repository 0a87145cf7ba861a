/** Events as NDJSON on standard input, for anything else that has them. */

import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { Pipeline } from "./pipeline.js";

/** The longest line that is read, in characters; a longer one is refused. */
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
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    summary.lines += 1;
    if (summary.lines % RELIEF_LINES === 0 && !(await pipeline.relieve(RELIEF_LINES, RELIEF_MS))) {
      tell(`line ${summary.lines}: the receiver takes nothing any more; reading ends here`);
      break;
    }
    if (line.trim() === "") continue;
    const problem = takeLine(line, pipeline);
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

function takeLine(line: string, pipeline: Pipeline): string | undefined {
  if (line.length > MAX_LINE) return "too long";
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
  return takeFrom(pipeline, pipeline.knows(joined) ? joined : type, [event]);
}

function takeFrom(pipeline: Pipeline, source: string, args: readonly unknown[]): string | undefined {
  return pipeline.knows(source) ? pipeline.take(source, args) : "unknown type";
}
