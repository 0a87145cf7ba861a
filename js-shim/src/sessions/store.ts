/** Reads the model calls that OpenClaw's session store holds; see `crate/src/sessions/reader.rs`. */

import { sep } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Fact, Instance, StoreReader } from "../base/wasm.js";
import type { SessionStore } from "../plugin/session-store.js";
import { StoreFiles } from "./host.js";

/** What is asked of the stores. Times are ms since 1970. */
export interface StoreOptions {
  /** The module that reads them. Where it traps, the error passes through: it has to be made anew. */
  io: Instance;
  /** Where the configuration says that sessions are, besides the state directory. */
  store?: SessionStore | undefined;
  /** Calls written at this time or later are left for later, and so are those behind them in the same session. */
  until?: number | undefined;
  /** But for those that say to have been written after this time: the clock was ahead, and was set back since. */
  future?: number | undefined;
  /** Calls written before this time are left out for good. */
  since?: number | undefined;
  /** Is told how far reading is. */
  progress?: ReadProgress | undefined;
}

/** How far a reading of the store is. */
export interface ReadProgress {
  /** Sessions that were looked at. */
  sessions: number;
  /** Bytes of transcripts that were read, unpacked. */
  bytes: number;
}

/** Some calls of one session. */
export interface StoreBatch {
  /** The session's name in the store, `<agent>/<session id>`: the key of its bookmark. */
  file: string;
  /**
   * How far the session was read, with these rows: to be kept once they are. Empty: it is gone, or nothing was read
   * of it, and the bookmark may be dropped.
   */
  bookmark: string;
  /** Facts in the order of the engine's source `stored`, one array a call. */
  rows: Fact[][];
  /** Lines that could not be used since reading this session began, by reason. */
  skipped?: Record<string, number>;
  /** What could not be read, and why. The bookmark is the one that was given. */
  problem?: string;
}

/**
 * Reads what the store holds behind the bookmarks.
 *
 * @param stateDir the gateway's state directory
 * @param bookmarks by session, as {@link StoreBatch.file} names it
 */
export async function* readStore(
  stateDir: string,
  bookmarks: ReadonlyMap<string, string>,
  { io, store, since, until, future, progress }: StoreOptions,
): AsyncGenerator<StoreBatch> {
  const files = new StoreFiles();
  let reader: StoreReader | undefined;
  try {
    const marks = [...bookmarks];
    reader = new io.StoreReader(files, stateDir, partsOf(store), marks, since, until, future);
    for (let text = reader.step(); text !== undefined; text = reader.step()) {
      if (progress) Object.assign(progress, { sessions: reader.sessions(), bytes: reader.bytes() });
      if (text !== "") yield JSON.parse(text) as StoreBatch;
      await nextTurn();
    }
    if (progress) progress.sessions = reader.sessions();
  } catch (error) {
    // Its module is dead.
    reader = undefined;
    throw error;
  } finally {
    reader?.free();
    files.closeAll();
  }
}

/** How many sessions the stores hold; those of places that cannot be read are left out. */
export function countSessions(io: Instance, stateDir: string, store?: SessionStore): number {
  return io.countSessions(new StoreFiles(), stateDir, partsOf(store));
}

/** Whether the store that the configuration names has anything in it. @throws where its folder cannot be listed */
export function hasStore(io: Instance, stateDir: string, store: SessionStore): boolean {
  return io.hasStore(new StoreFiles(), stateDir, partsOf(store) ?? []);
}

/** As the module takes it: its paths have slashes on every system. */
function partsOf(store: SessionStore | undefined): string[] | undefined {
  return store && [store.path.replaceAll(sep, "/"), ...(store.owner ? [store.owner] : [])];
}
