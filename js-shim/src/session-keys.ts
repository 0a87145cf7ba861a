/** The keys of sessions in files. OpenClaw up to 2026.7 keeps them in a file of their own, later in the database. */

import { MOST_BYTES, readOwnSync } from "./files.js";
import type { TranscriptDatabase } from "./transcript-database.js";
import { isMissing } from "./transcript-file.js";

/** What an index holds: entries of sessions by their keys. Anything may stand in it. */
type Index = Record<string, { sessionId?: unknown } | null> | null;

/** The keys of one place's sessions, looked up once somebody asks. */
export class SessionKeys {
  readonly #indexes: readonly string[];
  readonly #database: TranscriptDatabase | undefined;
  #found: Map<string, string> | undefined;
  /** Which indexes could not be read, and why. */
  readonly problems: string[] = [];

  constructor(indexes: readonly string[], database: TranscriptDatabase | undefined) {
    this.#indexes = indexes;
    this.#database = database;
  }

  /** A session's key, as far as anything tells it. */
  of(sessionId: string): string | undefined {
    this.#found ??= this.#read();
    return this.#database?.keyOf(sessionId) ?? this.#found.get(sessionId);
  }

  #read(): Map<string, string> {
    const found = new Map<string, string>();
    for (const index of this.#indexes) {
      for (const [key, entry] of Object.entries(this.#parse(index) ?? {}))
        if (typeof entry?.sessionId === "string") found.set(entry.sessionId, key);
    }
    return found;
  }

  #parse(index: string): Index {
    try {
      return JSON.parse(readOwnSync(index, MOST_BYTES, "foreign").toString("utf8")) as Index;
    } catch (error) {
      if (!isMissing(error))
        this.problems.push(`${index} cannot be read: its sessions are counted for the store's owner`);
      return null;
    }
  }
}
