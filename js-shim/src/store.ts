/**
 * Reads the model calls that OpenClaw's session store holds, in increments, while the gateway runs.
 *
 * What the store does, as seen on real gateways:
 *
 * - Up to 2026.7: `agents/<agent>/sessions/<session>.jsonl`, appended to. `/new` and `sessions.reset` rename it to
 *   `.jsonl.reset.<time>`, `sessions.delete` to `.jsonl.deleted.<time>`; the session then gets a new id. Compaction
 *   appends a row. Only `sessions.compact` with `maxLines` of 2026.3 cuts a file: the last lines stay, without the
 *   header, and the whole is copied to `.jsonl.bak.<time>`.
 * - From 2026.8: rows of `transcript_events` in `agents/<agent>/agent/openclaw-agent.sqlite`, in the order of `seq`
 *   from 0. `/new`, `sessions.reset` and compaction append rows to the same session; `sessions.delete` deletes its
 *   rows and writes them, one a line, to `sessions/<session>.jsonl.deleted.<time>.<generation>.zst`, a moment later.
 *   `rowid` tells nothing: SQLite may give it out again.
 * - Forks, rewinds, switches of branches and restored checkpoints make a new session (often under the same key) that
 *   begins with copies of the rows: same entry ids, same times. The facts say `inherited` of these.
 *
 * - The move into the database archives the files: `session-sqlite-import-archive/<key>.<file>.imported-<time>` beside
 *   the folder of sessions.
 *
 * `store-places.ts` says where all of this may be. So a session is one stretch of bytes, however it is kept, and a bookmark is an offset in it with a hash of the line
 * before: it holds through renaming, packing, and a move from files into the database that leaves the lines as they
 * are. Where the hash differs, the transcript was rewritten, and is read again from its start; its rows are known by
 * their entry ids.
 */

import { stat } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { SessionKeys } from "./session-keys.js";
import { type SessionStore, type StorePlace, storePlaces } from "./store-places.js";
import {
  fromBookmark,
  hashOfLine,
  MOST_TAIL_BYTES,
  type Place,
  StoreProblem,
  type Transcript,
  toBookmark,
} from "./transcript.js";
import { TranscriptDatabase } from "./transcript-database.js";
import {
  isMissing,
  listTranscripts,
  parseArchived,
  type TranscriptFile,
  transcriptInFile,
} from "./transcript-file.js";
import type { Fact, Instance, TranscriptReader } from "./wasm.js";

/** What is asked of the stores. Times are ms since 1970. */
export interface StoreOptions {
  /** The module that reads transcripts. Where it traps, the error passes through: it has to be made anew. */
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
  /** Facts in the order of the core's source `stored`, one array a call. */
  rows: Fact[][];
  /** Lines that could not be used since reading this session began, by reason. */
  skipped?: Record<string, number>;
  /** What could not be read, and why. The bookmark is the one that was given. */
  problem?: string;
}

/** Sessions without anything new that are looked at in one turn of the event loop. */
const AT_ONCE = 32;

/** A session, and all that is kept of it, the oldest first. */
interface StoredSession {
  file: string;
  agent: string;
  sessionId: string;
  transcripts: Transcript[];
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
  options: StoreOptions,
): AsyncGenerator<StoreBatch> {
  const kept = new Set<string>();
  for (const place of await storePlaces(stateDir, options.store))
    yield* readPlace(place, bookmarks, kept, options);
  for (const file of bookmarks.keys()) if (!kept.has(file)) yield { file, bookmark: "", rows: [] };
}

/** Reads one place's sessions; `kept` gets those that are still there. */
async function* readPlace(
  place: StorePlace,
  bookmarks: ReadonlyMap<string, string>,
  kept: Set<string>,
  options: StoreOptions,
): AsyncGenerator<StoreBatch> {
  const { name, agent } = place;
  const known = [...bookmarks.keys()].filter((file) => file.startsWith(`${name}/`));
  let database: TranscriptDatabase | undefined;
  try {
    database = await databaseOf(place);
    let looked = 0;
    const keys = new SessionKeys(place.indexes, database);
    for await (const found of sessionsOf(place, database, keys)) {
      const session = { ...found, agent, file: `${name}/${found.sessionId}` };
      kept.add(session.file);
      yield* readSession(session, bookmarks.get(session.file), options);
      if (options.progress) options.progress.sessions += 1;
      looked += 1;
      if (looked % AT_ONCE === 0) await nextTurn();
    }
    for (const problem of keys.problems) yield { file: `${name}/`, bookmark: "", rows: [], problem };
    // What was put away while we read was met in neither place.
    const again = new Set((await filesOf(place)).map(({ sessionId }) => sessionId));
    for (const file of known) {
      const sessionId = file.slice(name.length + 1);
      if (again.has(sessionId) || database?.hasPutAway(sessionId)) kept.add(file);
    }
  } catch (error) {
    // Nothing of this place's is known to be gone.
    for (const file of known) kept.add(file);
    const problem = reasonOf(error, place.database ?? place.folder ?? name);
    yield { file: `${name}/`, bookmark: "", rows: [], problem };
  } finally {
    database?.close();
  }
}

/** How many sessions the stores hold; those of places that cannot be read are left out. */
export async function countSessions(stateDir: string, store?: SessionStore): Promise<number> {
  let count = 0;
  for (const place of await storePlaces(stateDir, store).catch(() => [])) {
    const ids = new Set<string>();
    try {
      for (const { sessionId } of await filesOf(place)) ids.add(sessionId);
      const database = await databaseOf(place);
      for (let last = ""; database; ) {
        const sessions = database.sessionsAfter(last);
        for (const { sessionId } of sessions) ids.add(sessionId);
        last = sessions.at(-1)?.sessionId ?? "";
        if (sessions.length === 0) break;
      }
      database?.close();
    } catch {
      // Reading it says why.
    }
    count += ids.size;
  }
  return count;
}

async function databaseOf({ database: path }: StorePlace): Promise<TranscriptDatabase | undefined> {
  return path && (await isThere(path)) ? TranscriptDatabase.open(path) : undefined;
}

/** A place's transcripts in files. What was archived when it was moved into the database may not all have arrived there. */
async function filesOf({ folder, archive }: StorePlace): Promise<TranscriptFile[]> {
  return [...(await listTranscripts(archive, parseArchived)), ...(await listTranscripts(folder))];
}

/** A place's sessions with all that is kept of each. */
async function* sessionsOf(
  place: StorePlace,
  database: TranscriptDatabase | undefined,
  keys: SessionKeys,
): AsyncGenerator<{ sessionId: string; transcripts: Transcript[] }> {
  const files = new Map<string, TranscriptFile[]>();
  for (const file of await filesOf(place))
    files.set(file.sessionId, [...(files.get(file.sessionId) ?? []), file]);
  for (let last = ""; database; ) {
    const sessions = database.sessionsAfter(last);
    for (const session of sessions) {
      const { sessionId } = session;
      const before = await inFiles(files.get(sessionId) ?? [], keys);
      files.delete(sessionId);
      yield { sessionId, transcripts: [...before, database.transcript(session)] };
      last = sessionId;
    }
    if (sessions.length === 0) break;
  }
  for (const [sessionId, found] of files) yield { sessionId, transcripts: await inFiles(found, keys) };
}

/** The transcripts in some files, without those that were renamed meanwhile. */
async function inFiles(files: TranscriptFile[], keys: SessionKeys): Promise<Transcript[]> {
  const transcripts: Transcript[] = [];
  for (const file of files) {
    try {
      transcripts.push(await transcriptInFile(file, () => keys.of(file.sessionId)));
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
  return transcripts;
}

/** Reads one session from its bookmark on. */
async function* readSession(
  session: StoredSession,
  bookmark: string | undefined,
  options: StoreOptions,
): AsyncGenerator<StoreBatch> {
  const { file, transcripts } = session;
  let kept = bookmark ?? "";
  try {
    const place = fromBookmark(bookmark);
    if (place && transcripts.length === 1 && transcripts[0]?.endsAt(place)) return;
    const { index, from } = await locate(transcripts, place, options);
    for (const [at, transcript] of transcripts.entries()) {
      if (at < index) continue;
      const reading = new Reading(session, transcript, at === index ? from : START, options);
      for await (const batch of reading.batches()) {
        const isNew = batch.bookmark !== "" && batch.bookmark !== kept;
        if (isNew) kept = batch.bookmark;
        if (isNew || batch.rows.length > 0 || batch.skipped) yield { file, ...batch, bookmark: kept };
      }
      if (reading.isStopped) return;
    }
  } catch (error) {
    yield { file, bookmark: kept, rows: [], problem: reasonOf(error, transcripts[0]?.name ?? file) };
  }
}

const START: Place = { offset: 0, hash: "", heritage: undefined, row: undefined, closed: undefined };

/** In which transcript a place is, the youngest if in several; the start of all where it is in none. */
async function locate(
  transcripts: Transcript[],
  place: Place | undefined,
  { since }: StoreOptions,
): Promise<{ index: number; from: Place }> {
  for (let index = transcripts.length - 1; place && index >= 0; index -= 1) {
    const tail = await transcripts[index]?.tail(place);
    if (tail && hashOfLine(tail) === place.hash) return { index, from: place };
  }
  const [only] = transcripts;
  const end = !place && transcripts.length === 1 && since !== undefined && only?.endIfOlder(since);
  if (!end) return { index: 0, from: START };
  const tail = await only?.tail({ offset: end, row: undefined });
  return { index: 0, from: tail ? { ...START, offset: end, hash: hashOfLine(tail) } : START };
}

/** The reading of one transcript. */
class Reading {
  readonly #transcript: Transcript;
  readonly #from: Place;
  readonly #progress: ReadProgress | undefined;
  readonly #reader: TranscriptReader;
  #place: Place;
  /** What was read last, before the chunk at hand. */
  #tail: Uint8Array = new Uint8Array();
  #end: number;
  isStopped = false;

  constructor(
    { agent, sessionId }: StoredSession,
    transcript: Transcript,
    from: Place,
    { io, since, until, future, progress }: StoreOptions,
  ) {
    this.#progress = progress;
    this.#transcript = transcript;
    this.#from = from;
    this.#place = from;
    this.#end = from.offset;
    const { sessionKey, agent: own = agent } = transcript;
    const { heritage } = from;
    this.#reader = new io.TranscriptReader(own, sessionId, sessionKey, heritage, since, until, future);
  }

  /** What the transcript holds; the last one tells where reading ended, whether there was something or not. */
  async *batches(): AsyncGenerator<Omit<StoreBatch, "file">> {
    const reader = this.#reader;
    try {
      for await (const chunk of this.#transcript.read(this.#from)) {
        const rows = parse(reader.feed(chunk));
        if (this.#progress) this.#progress.bytes += chunk.length;
        this.#follow(chunk);
        if (rows.length > 0) yield { bookmark: this.#bookmark(), rows };
        this.isStopped = reader.isStopped();
        if (this.isStopped) break;
        await nextTurn();
      }
      yield this.#last();
    } finally {
      reader.free();
    }
  }

  #last(): Omit<StoreBatch, "file"> {
    const { closed } = this.#transcript;
    let rows: Fact[][] = [];
    if (closed !== undefined && !this.isStopped) {
      rows = parse(this.#reader.finish());
      this.isStopped = this.#reader.isStopped();
      this.#follow(new Uint8Array());
      if (!this.isStopped) this.#place = { ...this.#place, closed };
    }
    const skipped = JSON.parse(this.#reader.skipped()) as Record<string, number>;
    const batch = { bookmark: this.#bookmark(), rows };
    return Object.keys(skipped).length > 0 ? { ...batch, skipped } : batch;
  }

  /** Moves the place to behind the last line that is done with. */
  #follow(chunk: Uint8Array): void {
    const offset = this.#from.offset + this.#reader.consumed();
    const done = offset - this.#end;
    const before = (length: number) =>
      length >= MOST_TAIL_BYTES
        ? chunk.subarray(length - MOST_TAIL_BYTES, length)
        : Buffer.concat([this.#tail, chunk.subarray(0, length)]).subarray(-MOST_TAIL_BYTES);
    if (offset > this.#place.offset) {
      const row = this.#transcript.rowAt(offset);
      const hash = hashOfLine(before(Math.max(0, done)));
      this.#place = { offset, hash, heritage: undefined, row, closed: undefined };
    }
    this.#tail = Buffer.from(before(chunk.length));
    this.#end += chunk.length;
  }

  #bookmark(): string {
    if (this.#place.offset === 0) return "";
    return toBookmark({ ...this.#place, heritage: this.#reader.heritage() });
  }
}

function parse(rows: string): Fact[][] {
  return rows === "" ? [] : (JSON.parse(`[${rows}]`) as Fact[][]);
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error) => {
      if (isMissing(error)) return false;
      throw error;
    },
  );
}

/**
 * What an error says, for the operator.
 *
 * @throws what is none of the store's: a trap of the module, say
 */
function reasonOf(error: unknown, path: string): string {
  if (error instanceof StoreProblem) return error.message;
  const { code, message, path: at = path } = error as NodeJS.ErrnoException;
  if (typeof code !== "string") throw error;
  return `${at} cannot be read: ${message}`;
}
