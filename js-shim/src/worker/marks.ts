/**
 * The shim's marks among the journal's bookmarks. Their names begin with a slash, unlike those of sessions.
 *
 * - `/inbox`: the place up to which a worker has read its ring; see `pipeline.ts`.
 * - `/floor`: calls that ended at this time (ms since 1970) or later are counted.
 * - `/history`: the span before the floor that is being filled in, `<since>-<until>` in ms since 1970.
 * - `/history/<session>`: the bookmark of a session for that span.
 */

import { isTime } from "../base/shape.js";
import type { Engine } from "../base/wasm.js";

const FLOOR = "/floor";
const HISTORY = "/history";
/** Prefix of the bookmarks of the history. */
export const HISTORY_PREFIX = `${HISTORY}/`;

/** A span of time, in ms since 1970, without `until`. */
export interface Span {
  since: number;
  until: number;
}

/** The journal's marks about the session store. */
export interface Marks {
  /** Time from which calls are counted, in ms since 1970; undefined before the first owner. */
  floor: number | undefined;
  /** The span before the floor that is being filled in. */
  history: Span | undefined;
  /** Bookmarks by session. */
  bookmarks: Map<string, string>;
  /** Bookmarks of the history by session. */
  historyBookmarks: Map<string, string>;
}

/** Reads the marks. */
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

/** Sets marks, in the order of the calls. An empty mark is removed. */
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
