/**
 * Files and databases of OpenClaw's session store, for the engine, by synchronous calls that only read: the host of
 * `crate/src/sessions/host.rs`. Errors are sentences that begin with the path.
 */

import { closeSync, readdirSync, readSync, realpathSync, statSync } from "node:fs";
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from "node:sqlite";
import { isMissing, kindOf, openOwnSync } from "../base/files.js";

/** How long to wait for a gateway that has locked the database, in ms. */
const LOCKED_MS = 500;

/** An open database with its prepared statements. */
interface Opened {
  database: DatabaseSync;
  statements: Map<string, StatementSync>;
}

/** The files and databases of the session store. */
export class StoreFiles {
  readonly #databases = new Map<string, Opened>();
  readonly #files = new Set<OpenedFile>();

  names(folder: string): string[] {
    return unlessMissing(folder, () => readdirSync(folder)) ?? [];
  }

  realPath(path: string): string | undefined {
    try {
      return realpathSync(path);
    } catch {
      return undefined;
    }
  }

  stat(path: string): { bytes: number; modifiedMs: number } | undefined {
    const stats = unlessMissing(path, () => statSync(path));
    return stats && { bytes: stats.size, modifiedMs: Math.max(0, Math.trunc(stats.mtimeMs)) };
  }

  open(path: string): OpenedFile {
    const handle = saying(path, () => openOwnSync(path, "foreign"));
    const file = new OpenedFile(path, handle, () => this.#files.delete(file));
    this.#files.add(file);
    return file;
  }

  query(path: string, sql: string, values: SQLInputValue[], mostBytes: number): SQLOutputValue[][] {
    return saying(path, () => {
      const rows: SQLOutputValue[][] = [];
      let weight = 0;
      for (const row of this.#statement(path, sql).iterate(...values)) {
        rows.push(Object.values(row));
        weight += weightOf(row);
        if (weight >= mostBytes) break;
      }
      return rows;
    });
  }

  close(path: string): void {
    this.#databases.get(path)?.database.close();
    this.#databases.delete(path);
  }

  /** Closes all open files and databases, since a module that trapped closes none. */
  closeAll(): void {
    for (const file of this.#files) file.close();
    for (const path of this.#databases.keys()) this.close(path);
  }

  #statement(path: string, sql: string): StatementSync {
    let opened = this.#databases.get(path);
    if (!opened) {
      opened = { database: openDatabase(path), statements: new Map() };
      this.#databases.set(path, opened);
    }
    const statement = opened.statements.get(sql) ?? opened.database.prepare(sql);
    opened.statements.set(sql, statement);
    return statement;
  }
}

/** An open file. */
class OpenedFile {
  readonly #path: string;
  readonly #handle: number;
  readonly #closed: () => boolean;

  /** `closed` removes the file from the open files. Returns whether it was still open. */
  constructor(path: string, handle: number, closed: () => boolean) {
    this.#path = path;
    this.#handle = handle;
    this.#closed = closed;
  }

  /** Reads bytes from an offset into the module's memory. Returns their number; 0 at the end. */
  read(from: number, into: Uint8Array): number {
    return saying(this.#path, () => readSync(this.#handle, into, 0, into.length, from));
  }

  close(): void {
    if (this.#closed()) closeSync(this.#handle);
  }
}

function openDatabase(path: string): DatabaseSync {
  // An import would fail on a Node without SQLite, and load SQLite at every start.
  const sqlite = process.getBuiltinModule?.("node:sqlite");
  if (!sqlite) throw new Problem(`${path} needs Node 22.16 or later; this is Node ${process.versions.node}`);
  // SQLite would block at a named pipe. The file is not opened to find out: closing any descriptor of it would release the
  // locks that the gateway's own connections, in this process, hold on it.
  const kind = kindOf(statSync(path));
  if (kind) throw new Problem(`${path} is ${kind}, not a file`);
  return new sqlite.DatabaseSync(path, { readOnly: true, timeout: LOCKED_MS });
}

function weightOf(row: Record<string, SQLOutputValue>): number {
  if (typeof row.bytes === "number") return row.bytes;
  return Object.values(row).reduce<number>((sum, value) => sum + sizeOf(value), 0);
}

function sizeOf(value: SQLOutputValue): number {
  return typeof value === "string" || value instanceof Uint8Array ? value.length : 0;
}

/** An error whose message is logged unchanged. */
class Problem extends Error {}

/** @throws a sentence that begins with the path */
function saying<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof Problem || message.startsWith(path)) throw error;
    throw new Problem(`${path} cannot be read: ${message}`);
  }
}

/** {@link saying}; undefined if the path is missing. */
function unlessMissing<T>(path: string, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (isMissing(error)) return undefined;
    return saying(path, () => {
      throw error;
    });
  }
}
