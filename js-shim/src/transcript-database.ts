/**
 * Transcripts in the database of an agent, which OpenClaw 2026.8 and later keep. It is opened read-only and never
 * changed; the gateway may run.
 *
 * A row is a line of what would be the JSONL file, and so a session is read as if it were one: its rows in their
 * order, a newline behind each. OpenClaw itself writes it like that when the session is deleted.
 */

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { CHUNK_BYTES, StoreProblem, type Transcript } from "./transcript.js";

/** The versions of the schema whose first and last were looked at: 2026.8.2's and 2026.9.6's. */
const KNOWN_VERSIONS = { first: 19, last: 23 };
/** How long a gateway that makes or mends the file is waited for, in ms. */
const LOCKED_MS = 500;
/** How many sessions are listed at a time. */
const LISTED_AT_ONCE = 32;
/** Rows that are longer unpacked, in bytes, are unpacked on another thread. */
const LONG_ROW = 256 * 1024;

/** A session in a database. */
export interface Session {
  sessionId: string;
  sessionKey: string | undefined;
}

interface StoredRow {
  seq: number;
  json: Uint8Array | string | null;
  zstd: Uint8Array | null;
  size: number | null;
}

/** Whether there may be something to read: without a version and without a row, the gateway is still at it. */
function isBegun(database: DatabaseSync): boolean {
  const first = (query: string) => database.prepare(query).get();
  if (first("PRAGMA user_version")?.user_version !== 0) return true;
  if (!first("SELECT 1 FROM sqlite_schema WHERE name = 'transcript_events'")) return false;
  return first("SELECT 1 FROM transcript_events LIMIT 1") !== undefined;
}

/** One agent's database, open. */
export class TranscriptDatabase {
  readonly #database: DatabaseSync;
  readonly #name: string;
  readonly #rows: StatementSync;
  readonly #lengths: StatementSync;
  readonly #sessions: StatementSync;
  readonly #putAway: StatementSync[];
  readonly #key: StatementSync;

  /**
   * Opens a database; `undefined` where a gateway has made its file and has not got further.
   *
   * @throws StoreProblem where this Node has no SQLite, or the schema is not known
   */
  static async open(path: string): Promise<TranscriptDatabase | undefined> {
    const sqlite = await import("node:sqlite").catch(() => undefined);
    if (!sqlite)
      throw new StoreProblem(`${path} needs Node 22.16 or later; this is Node ${process.versions.node}`);
    const database = new sqlite.DatabaseSync(path, { readOnly: true, timeout: LOCKED_MS });
    try {
      if (!isBegun(database)) {
        database.close();
        return undefined;
      }
      return new TranscriptDatabase(database, path);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  private constructor(database: DatabaseSync, name: string) {
    this.#database = database;
    this.#name = name;
    const columns = this.#judge();
    const json = this.#pragma("encoding") === "UTF-8" ? "CAST(event_json AS BLOB)" : "event_json";
    const has = (column: string) => (columns.has(column) ? column : "NULL");
    const from = "FROM transcript_events WHERE session_id = ? AND seq > ? ORDER BY seq";
    const [zstd, size] = [has("event_zstd"), has("event_utf8_bytes")];
    this.#rows = database.prepare(`SELECT seq, ${json} AS json, ${zstd} AS zstd, ${size} AS size ${from}`);
    const length = `coalesce(${size}, length(CAST(event_json AS BLOB)))`;
    this.#lengths = database.prepare(`SELECT seq, ${length} AS size ${from} LIMIT 256`);
    // From one session to the next by the index, however many rows each has.
    const next = "SELECT min(session_id) FROM transcript_events WHERE session_id >";
    this.#sessions = database.prepare(`
      WITH RECURSIVE ids(id) AS (
        ${next} ?
        UNION ALL SELECT (${next} ids.id) FROM ids WHERE ids.id IS NOT NULL LIMIT ${LISTED_AT_ONCE})
      SELECT id, (SELECT session_key FROM session_windows WHERE session_id = id) AS key
      FROM ids WHERE id IS NOT NULL`);
    this.#key = database.prepare("SELECT session_key AS key FROM session_windows WHERE session_id = ?");
    this.#putAway = ["session_transcript_archives", "session_transcript_cold_archives"]
      .filter((table) => this.#columnsOf(table).size > 0)
      .map((table) => database.prepare(`SELECT 1 FROM ${table} WHERE session_id = ? LIMIT 1`));
  }

  /** Looks at the schema; the columns of the rows' table. */
  #judge(): Set<string> {
    const version = Number(this.#pragma("user_version"));
    const { first, last } = KNOWN_VERSIONS;
    if (version < first || version > last)
      throw new StoreProblem(
        `${this.#name} has schema version ${version}; ${first} to ${last} are known, so it is not read`,
      );
    const columns = this.#columnsOf("transcript_events");
    for (const column of ["session_id", "seq", "event_json"])
      if (!columns.has(column))
        throw new StoreProblem(`${this.#name} has no transcript_events.${column}, so it is not read`);
    if (columns.has("event_zstd") && typeof zlib.zstdDecompressSync !== "function")
      throw new StoreProblem(
        `${this.#name} is packed with zstd, which Node ${process.versions.node} cannot read`,
      );
    return columns;
  }

  #pragma(name: string): unknown {
    return this.#database.prepare(`PRAGMA ${name}`).get()?.[name];
  }

  #columnsOf(table: string): Set<string> {
    const columns = this.#database.prepare(`SELECT name FROM pragma_table_info(?)`).all(table);
    return new Set(columns.map(({ name }) => String(name)));
  }

  close(): void {
    this.#database.close();
  }

  /** Some sessions that have rows, in the order of their ids, behind this one. */
  sessionsAfter(sessionId: string): Session[] {
    return this.#sessions.all(sessionId).map(({ id, key }) => ({
      sessionId: String(id),
      sessionKey: typeof key === "string" ? key : undefined,
    }));
  }

  /** A session's key. */
  keyOf(sessionId: string): string | undefined {
    const key = this.#key.get(sessionId)?.key;
    return typeof key === "string" ? key : undefined;
  }

  /** Whether a session's rows were put away: into a file that may not be there yet, or into cold storage. */
  hasPutAway(sessionId: string): boolean {
    return this.#putAway.some((statement) => statement.get(sessionId) !== undefined);
  }

  /** A session's rows as a transcript. */
  transcript({ sessionId, sessionKey }: Session): Transcript {
    return new RowTranscript(`${this.#name}, session ${sessionId}`, sessionKey, {
      rows: (seq, most) => this.#take(this.#rows, sessionId, seq, most),
      lengths: (seq) => this.#lengths.all(sessionId, seq) as unknown as StoredRow[],
    });
  }

  /** The rows behind one, until they have so many bytes; the snapshot that they are read from ends with them. */
  #take(statement: StatementSync, sessionId: string, seq: number, most: number): StoredRow[] {
    const rows: StoredRow[] = [];
    let bytes = 0;
    for (const row of statement.iterate(sessionId, seq) as Iterable<unknown>) {
      rows.push(row as StoredRow);
      bytes += sizeOf(row as StoredRow);
      if (bytes >= most) break;
    }
    return rows;
  }
}

/** What a row weighs, packed or not. */
function sizeOf({ json, size }: StoredRow): number {
  return size ?? json?.length ?? 0;
}

const unpack = typeof zlib.zstdDecompress === "function" ? promisify(zlib.zstdDecompress) : undefined;

async function textOf({ json, zstd, size }: StoredRow): Promise<Uint8Array> {
  if (typeof json === "string") return Buffer.from(json);
  if (json) return json;
  if (!zstd) return new Uint8Array();
  return unpack && (size ?? LONG_ROW) >= LONG_ROW ? unpack(zstd) : zlib.zstdDecompressSync(zstd);
}

interface Rows {
  /** The rows behind one, until they have so many bytes. */
  rows(seq: number, most: number): StoredRow[];
  /** Only the sizes of some rows behind one. */
  lengths(seq: number): Array<{ seq: number; size: number | null }>;
}

/** A session's rows, as if they were a file. */
class RowTranscript implements Transcript {
  readonly closed = undefined;
  #ends = new Map<number, number>();

  constructor(
    readonly name: string,
    readonly sessionKey: string | undefined,
    readonly rows: Rows,
  ) {}

  endsAt(): boolean {
    return false;
  }

  endIfOlder(): undefined {
    return undefined;
  }

  async tail({ offset, row }: { offset: number; row: number | undefined }): Promise<Uint8Array | undefined> {
    const seq = row ?? this.#ends.get(offset) ?? this.#find(offset);
    const [found] = seq === undefined ? [] : this.rows.rows(seq - 1, 1);
    return found?.seq === seq && found ? textOf(found) : undefined;
  }

  /** The row that ends at an offset, if one does. */
  #find(offset: number): number | undefined {
    for (let end = 0, seq = -1; ; ) {
      const rows = this.rows.lengths(seq);
      for (const row of rows) {
        end += (row.size ?? 0) + 1;
        seq = row.seq;
        if (end === offset) return seq;
        if (end > offset) return undefined;
      }
      if (rows.length === 0) return undefined;
    }
  }

  async *read({ offset, row }: { offset: number; row: number | undefined }): AsyncGenerator<Uint8Array> {
    let end = offset;
    let seq = offset === 0 ? -1 : (row ?? this.#find(offset) ?? -1);
    for (;;) {
      const rows = this.rows.rows(seq, CHUNK_BYTES / 2);
      if (rows.length === 0) return;
      const parts: Uint8Array[] = [];
      this.#ends.clear();
      for (const row of rows) {
        const text = await textOf(row);
        parts.push(text, NEWLINE);
        seq = row.seq;
        end += text.length + 1;
        this.#ends.set(end, seq);
      }
      const chunk = Buffer.concat(parts);
      for (let at = 0; at < chunk.length; at += CHUNK_BYTES) yield chunk.subarray(at, at + CHUNK_BYTES);
    }
  }

  rowAt(offset: number): number | undefined {
    return this.#ends.get(offset);
  }
}

const NEWLINE = Buffer.from("\n");
