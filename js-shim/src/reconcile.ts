/** Fills in what the session store has and nobody told: after a crash, or while nobody listened. */

import { reason } from "./promises.js";
import { readStore } from "./store.js";
import type { Core, Io } from "./wasm.js";

/** A row is looked at when it is this old, in ms: by then every other surface has spoken. */
export const SETTLED_AFTER_MS = 60_000;
/** How long after its start a gateway looks first, and how often then, in ms. */
export const FIRST_LOOK_MS = 5_000;
export const LOOK_EVERY_MS = 60_000;

/** What reconciling needs of the pipeline. */
export interface Reconciler {
  /** The gateway's state directory. */
  stateDir: string;
  /** The core's number of the source `stored`. */
  source: number;
  /** Runs something in the core; false where that went wrong. */
  run(work: (core: Core) => void): boolean;
  /** Makes the module that reads transcripts. */
  instantiateIo(): Io;
  wall(): number;
  mono(): number;
}

/**
 * Marks where the store's rows begin to be ours: what was there before the plugin was is history, and not a gap. To
 * be called as soon as the journal is open, since a first life may be a short one.
 */
export function beginReconciling({ run, wall }: Pick<Reconciler, "run" | "wall">): void {
  run((core) => {
    if (core.reconciledMs() === undefined) core.setReconciled(wall());
  });
}

/**
 * Reads what the session store has beyond the bookmarks, and hands it to the core, which matches it with what it was
 * told and counts the rest.
 *
 * @returns what could not be read, for the log
 */
export async function reconcile(reconciler: Reconciler): Promise<string[]> {
  const { run, wall, mono } = reconciler;
  const until = wall() - SETTLED_AFTER_MS;
  let since: number | undefined;
  let bookmarks = new Map<string, string>();
  const isWell = run((core) => {
    since = core.reconciledMs();
    bookmarks = new Map(JSON.parse(core.bookmarks()) as [string, string][]);
  });
  if (!isWell || since === undefined || since >= until) return [];
  const problems: string[] = [];
  try {
    const options = { io: reconciler.instantiateIo(), since, until };
    for await (const { file, bookmark, rows, problem } of readStore(
      reconciler.stateDir,
      bookmarks,
      options,
    )) {
      if (problem) problems.push(problem);
      // A problem changes no bookmark.
      const mark = problem || bookmarks.get(file) === bookmark ? undefined : bookmark;
      const isKept = run((core) => core.takeRows(reconciler.source, rows, file, mark, wall(), mono()));
      if (!isKept) return problems;
    }
    // What could not be read has its turn when it can: the time stays where it was.
    if (problems.length === 0) run((core) => core.setReconciled(until));
  } catch (error) {
    problems.push(`the session store could not be read (${reason(error)})`);
  }
  return problems;
}
