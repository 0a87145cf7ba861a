/**
 * Requests to the state directory's owner: to lift its allowances for a time, or to read the session store. Each is a file,
 * since the owner may be any process, or none: the next owner takes it. Who can write the folder is an operator.
 */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { type Found, ownName, readJson, replaceOwnSync } from "../base/files.js";
import { isTime } from "../base/shape.js";

/** A file with one request: a time in ms since 1970, or null. */
export class RequestFile<Key extends string> {
  readonly #name: string;
  readonly #key: Key;

  constructor(name: string, key: Key) {
    this.#name = name;
    this.#key = key;
  }

  /** Leaves a request in the plugin's folder, in place of an earlier one. @throws the file system's error */
  leave(folder: string, time: number | null): void {
    const file = join(folder, this.#name);
    replaceOwnSync(file, `${JSON.stringify({ [this.#key]: time })}\n`, true, ownName(file));
  }

  /** The request in the plugin's folder, if there is one. */
  read(folder: string): Found<Record<Key, number | null>> {
    return readJson(join(folder, this.#name), (value) => {
      const time = ((value ?? {}) as Record<string, unknown>)[this.#key];
      return time === null || isTime(time)
        ? ({ [this.#key]: time } as Record<Key, number | null>)
        : undefined;
    });
  }

  /** Removes the request, after the journal has it. @throws the file system's error */
  remove(folder: string): void {
    rmSync(join(folder, this.#name), { force: true });
  }
}

/** Until when all calls pass allowances; null ends a lift. */
export const LIFT = new RequestFile("lift-request.json", "until_ms");

/** The time from which on history is to be counted; null: only what is new. */
export const STORE = new RequestFile("store-request.json", "since_ms");

/** Asks for history, together with an earlier request: the earlier time is valid. @throws the file system's error */
export function askForHistory(folder: string, since: number | null): void {
  const times = [STORE.read(folder).value?.since_ms ?? null, since].filter((ms) => ms !== null);
  STORE.leave(folder, times.length > 0 ? Math.min(...times) : null);
}
