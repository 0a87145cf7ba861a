/**
 * Marks of ours among the bookmarks that the journal keeps of sessions, whose names never begin with a slash.
 *
 * - `/inbox`: how far a worker read its ring; see `pipeline.ts`.
 * - `/floor`: calls that ended at this time (ms since 1970) or later are counted as they happen, or filled in from there.
 * - `/history`: the span before it that is being filled in, `<since>-<until>`.
 * - `/history/<session>`: how far each session was read for it.
 */

import { isTime } from "../base/shape.js";
import type { Engine } from "../base/wasm.js";

const FLOOR = "/floor";
const HISTORY = "/history";
/** What bookmarks of the history begin with. */
export const HISTORY_PREFIX = `${HISTORY}/`;

/** A span of time, ms since 1970; `until` is not in it. */
export interface Span {
  since: number;
  until: number;
}

/** What the journal knows of the session store. */
export interface Marks {
  /** From when on calls are counted; none where nobody counted yet. */
  floor: number | undefined;
  /** What is being filled in before that. */
  history: Span | undefined;
  /** How far sessions were read. */
  bookmarks: Map<string, string>;
  /** The same for the history. */
  historyBookmarks: Map<string, string>;
}

/** Reads them. */
export function readMarks(engine: Engine): Marks {
  const marks: Marks = {
    floor: undefined,
    history: undefined,
    bookmarks: new Map(),
    historyBookmarks: new Map(),
  };
  for (const [name, mark] of JSON.parse(engine.bookmarks()) as [string, string][]) {
    if (name === FLOOR) marks.floor = parseTime(mark);
    else if (name === HISTORY) marks.history = parseSpan(mark);
    else if (name.startsWith(HISTORY_PREFIX))
      marks.historyBookmarks.set(name.slice(HISTORY_PREFIX.length), mark);
    else if (!name.startsWith("/")) marks.bookmarks.set(name, mark);
  }
  return marks;
}

/** Sets marks, in this order; an empty one is removed. */
export class MarkWriter {
  readonly #engine: Engine;
  readonly #source: number;

  constructor(engine: Engine, source: number) {
    this.#engine = engine;
    this.#source = source;
  }

  floor(ms: number): void {
    this.#set(FLOOR, String(ms));
  }

  history(span: Span | undefined): void {
    this.#set(HISTORY, span ? `${span.since}-${span.until}` : "");
  }

  forgetHistory(files: Iterable<string>): void {
    for (const file of files) this.#set(HISTORY_PREFIX + file, "");
  }

  #set(name: string, mark: string): void {
    this.#engine.takeRows(this.#source, [], name, mark, false, Date.now(), performance.now());
  }
}

function parseSpan(text: string): Span | undefined {
  const [since, until] = text.split("-").map(parseTime);
  return since !== undefined && until !== undefined && since < until ? { since, until } : undefined;
}

function parseTime(text: string): number | undefined {
  const ms = text === "" ? undefined : Number(text);
  return isTime(ms) ? ms : undefined;
}
