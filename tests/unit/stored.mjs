// Makes session stores as OpenClaw writes them: JSONL files and databases.
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { instantiate } from "../../dist/base.js";
import { readStore } from "../../dist/store.js";

/** Time of the first row, in ms since 1970; each further row is a second later. */
export const BEGIN = Date.parse("2026-11-20T10:00:00.000Z");

/** Index of each fact of the source `stored`, by name. */
const FACTS =
  "provider model usage stop_reason response_id timestamp written entry run_id session_id agent session_key inherited".split(
    " ",
  );

/** The names of usage values, in the order of the core's table. */
const NAMES = ["input", "output", "cacheRead", "cacheWrite", "cacheWrite1h", "reasoningTokens", "total"];
const USAGE = [...NAMES, "totalTokens", "cost.total"];

/** A usage object from pairs of a name's number and its value. @param {any[] | null} pairs */
function usageOf(pairs) {
  /** @type {Record<string, unknown>} */
  const usage = {};
  for (let at = 0; at < (pairs?.length ?? 0); at += 2) usage[USAGE[pairs?.[at]] ?? "other"] = pairs?.[at + 1];
  return usage;
}

/** A stored answer; the number is its input tokens, which identify it. @param {number} number @param {object} [more] */
export function answer(number, more = {}) {
  const at = BEGIN + number * 1000;
  return {
    type: "message",
    id: `e${number}`,
    parentId: null,
    timestamp: new Date(at).toISOString(),
    message: {
      role: "assistant",
      content: [{ type: "text", text: `Answer ${number}.` }],
      provider: "mock",
      model: "m1",
      usage: { input: number, output: 1, cacheRead: 2, cacheWrite: 3, cost: { total: 0.25 } },
      stopReason: "stop",
      timestamp: at - 500,
      ...more,
    },
  };
}

/** A stored row without a call. @param {number} number @param {number} [length] */
export function question(number, length = 20) {
  const at = BEGIN + number * 1000;
  const message = { role: "user", content: "q".repeat(length), timestamp: at };
  return { type: "message", id: `q${number}`, timestamp: new Date(at).toISOString(), message };
}

/** A transcript's first row. @param {string} id @param {number} [number] */
export function header(id, number = 0) {
  return { type: "session", version: 3, id, timestamp: new Date(BEGIN + number * 1000).toISOString() };
}

/** @param {object[]} rows */
export const lines = (...rows) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** A state directory with a store, and a reader of the store. */
export class Store {
  stateDir = mkdtempSync(join(tmpdir(), "agentwatch-store-"));
  /** @type {Map<string, string>} */
  bookmarks = new Map();
  /** The problems of the last reading. @type {string[]} */
  problems = [];
  /** The lines that the last reading skipped, by reason. @type {Record<string, number>} */
  skipped = {};
  /** Number of batches of the last reading. */
  batches = 0;
  io = instantiate();

  /** @param {string} name below the sessions of an agent @param {string} [agent] */
  path(name, agent = "main") {
    const path = join(this.stateDir, "agents", agent, "sessions", name);
    mkdirSync(dirname(path), { recursive: true });
    return path;
  }

  /** @param {string} name @param {string | Uint8Array} text @param {string} [agent] */
  write(name, text, agent) {
    writeFileSync(this.path(name, agent), text);
  }

  /** @param {string} name @param {string} text @param {string} [agent] */
  append(name, text, agent) {
    appendFileSync(this.path(name, agent), text);
  }

  /** @param {string} from @param {string} to */
  rename(from, to) {
    renameSync(this.path(from), this.path(to));
  }

  /** @param {string} name */
  remove(name) {
    rmSync(this.path(name));
  }

  files() {
    return readdirSync(dirname(this.path("x")));
  }

  /** Reads new rows, and stores the bookmarks. @param {{ until?: number, since?: number, future?: number }} [options] @returns {Promise<any[]>} */
  async read(options = {}) {
    this.problems = [];
    this.skipped = {};
    this.batches = 0;
    const found = [];
    for await (const batch of readStore(this.stateDir, new Map(this.bookmarks), {
      io: this.io,
      future: Number.MAX_SAFE_INTEGER,
      ...options,
    })) {
      this.batches += 1;
      if (batch.problem) this.problems.push(batch.problem);
      Object.assign(this.skipped, batch.skipped);
      if (batch.bookmark) this.bookmarks.set(batch.file, batch.bookmark);
      else if (!batch.problem) this.bookmarks.delete(batch.file);
      for (const row of batch.rows) {
        const { usage, ...call } = Object.fromEntries(FACTS.map((name, index) => [name, row[index]]));
        found.push({ ...call, ...usageOf(usage) });
      }
    }
    return found;
  }

  /** The numbers of new calls. @param {{ until?: number, since?: number }} [options] @returns {Promise<number[]>} */
  async numbers(options) {
    return (await this.read(options)).map(({ input }) => input);
  }

  close() {
    rmSync(this.stateDir, { recursive: true, force: true });
  }
}

/** Rows of at least this length are compressed, as OpenClaw 2026.9 does. */
const PACKED_FROM = 1024;

/** An agent's database, with the tables that the plugin reads. */
export class Database {
  /** @type {import("node:sqlite").DatabaseSync} */
  #database;
  #packs;

  /** @param {Store} store @param {number} version of the schema @param {string} [agent] */
  static async make(store, version = 23, agent = "main") {
    const { DatabaseSync } = await import("node:sqlite");
    const folder = join(store.stateDir, "agents", agent, "agent");
    mkdirSync(folder, { recursive: true });
    return new Database(new DatabaseSync(join(folder, "openclaw-agent.sqlite")), version);
  }

  /** @param {import("node:sqlite").DatabaseSync} database @param {number} version */
  constructor(database, version) {
    this.#database = database;
    this.#packs = version >= 23;
    const more = this.#packs ? ", event_zstd BLOB, event_utf8_bytes INTEGER, navigation_json TEXT" : "";
    database.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA user_version = ${version};
      CREATE TABLE session_windows (session_id TEXT NOT NULL PRIMARY KEY, session_key TEXT NOT NULL) STRICT;
      CREATE TABLE transcript_events (
        session_id TEXT NOT NULL, seq INTEGER NOT NULL, event_json TEXT, created_at INTEGER NOT NULL${more},
        PRIMARY KEY (session_id, seq)) STRICT;
      CREATE TABLE session_transcript_archives (session_id TEXT NOT NULL, generation TEXT NOT NULL) STRICT;`);
  }

  /** @param {string} sql @param {import("node:sqlite").SQLInputValue[]} values */
  run(sql, ...values) {
    this.#database.prepare(sql).run(...values);
  }

  /** Appends rows to a session. @param {string} session @param {object[]} rows */
  append(session, ...rows) {
    this.run("INSERT OR IGNORE INTO session_windows VALUES (?, ?)", session, `agent:main:${session}`);
    for (const row of rows) {
      const text = JSON.stringify(row);
      const packed = this.#packs && text.length >= PACKED_FROM;
      const next = "(SELECT coalesce(max(seq), -1) + 1 FROM transcript_events WHERE session_id = ?)";
      this.run(
        `INSERT INTO transcript_events (session_id, seq, event_json, created_at) VALUES (?, ${next}, ?, 1)`,
        session,
        session,
        packed ? null : text,
      );
      if (packed)
        this.run(
          `UPDATE transcript_events SET event_zstd = ?, event_utf8_bytes = ? WHERE session_id = ? AND seq = ${next} - 1`,
          zstdCompressSync(text),
          Buffer.byteLength(text),
          session,
          session,
        );
    }
  }

  /** Deletes a session's rows. @param {string} session */
  delete(session) {
    this.run("DELETE FROM transcript_events WHERE session_id = ?", session);
  }

  close() {
    this.#database.close();
  }
}
