/** Reads the model calls of OpenClaw's session store; see `crate/src/sessions/reader.rs`. */

import { sep } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Fact, Instance, StoreReader } from "../base/wasm.js";
import type { SessionStore } from "../plugin/session-store.js";
import { StoreFiles } from "./host.js";

/** Options of a reader. Times are in ms since 1970. */
export interface StoreOptions {
  /** The instance of the module that reads the store. If it traps, the error is thrown and the instance is unusable. */
  io: Instance;
  /** The store in the configuration, read in addition to the state directory. */
  store?: SessionStore | undefined;
  /** Calls written at this time or later wait for a later reading. */
  until?: number | undefined;
  /**
   * Reading of a session stops before the first call that waits, unless it was written after this time. Without it, calls
   * that wait are left out, since another reading takes them.
   */
  future?: number | undefined;
  /** Calls written before this time are skipped. */
  since?: number | undefined;
  /** Is updated after each step. */
  progress?: ReadProgress | undefined;
}

/** Progress of a reader. */
export interface ReadProgress {
  /** Number of sessions that are read. */
  sessions: number;
  /** Number of bytes of transcripts that are read, decompressed. */
  bytes: number;
}

/** Some calls of one session. */
export interface StoreBatch {
  /** The session's name in the store, `<agent>/<session id>`: the key of its bookmark. */
  file: string;
  /**
   * The bookmark after these rows, to be stored together with them. Empty: the session is gone or nothing of it was
   * read, and its bookmark may be removed.
   */
  bookmark: string;
  /** The calls: an array of facts each, in the order of the engine's source `stored`. */
  rows: Fact[][];
  /** Number of lines that could not be used, by reason, since the reading of this transcript began. */
  skipped?: Record<string, number>;
  /** The fault, if a session, a place or an index could not be read. */
  problem?: string;
}

/**
 * Reads the store's rows after the bookmarks.
 *
 * @param stateDir the gateway's state directory
 * @param bookmarks by session, as in {@link StoreBatch.file}
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
    reader = new io.StoreReader(files, stateDir, withSlashes(store), marks, since, until, future);
    for (let text = reader.step(); text !== undefined; text = reader.step()) {
      if (progress) Object.assign(progress, { sessions: reader.sessions(), bytes: reader.bytes() });
      if (text !== "") yield JSON.parse(text) as StoreBatch;
      await nextTurn();
    }
    if (progress) progress.sessions = reader.sessions();
  } catch (error) {
    // The reader's module may have trapped, so it cannot be freed.
    reader = undefined;
    throw error;
  } finally {
    reader?.free();
    files.closeAll();
  }
}

/** Number of sessions in all places. Unreadable places count 0. */
export function countSessions(io: Instance, stateDir: string, store?: SessionStore): number {
  const files = new StoreFiles();
  try {
    return io.countSessions(files, stateDir, withSlashes(store));
  } finally {
    files.closeAll();
  }
}

/** Whether the store in the configuration exists. @throws if its folder cannot be listed */
export function hasStore(io: Instance, stateDir: string, store: SessionStore): boolean {
  const files = new StoreFiles();
  try {
    return io.hasStore(files, stateDir, withSlashes(store));
  } finally {
    files.closeAll();
  }
}

/** The store as the module takes it, with `/` in its path on every system. */
function withSlashes<T extends SessionStore | undefined>(store: T): T {
  return store && { ...store, path: store.path.replaceAll(sep, "/") };
}
