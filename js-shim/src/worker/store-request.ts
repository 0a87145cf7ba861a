/**
 * What a process that does not own the state directory asks of the one that does: to read the session store, and from
 * when on. A file, since the owner may be any process, and may have no other ear.
 */

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Found, ownName, readJson, replaceOwnSync } from "../base/files.js";
import { isTime } from "../base/shape.js";

/** A request. */
export interface StoreRequest {
  /** Calls before the owner began to count are to be filled in from this time on, in ms since 1970. */
  since_ms: number | null;
}

/** Leaves a request in our folder; one that is there already is joined with it. */
export function leaveRequest(folder: string, { since_ms }: StoreRequest): void {
  const earlier = readRequest(folder).value?.since_ms ?? null;
  const since = [earlier, since_ms].filter((ms) => ms !== null);
  const text = JSON.stringify({ since_ms: since.length > 0 ? Math.min(...since) : null });
  replaceOwnSync(file(folder), `${text}\n`, true, ownName(file(folder)));
}

/** The request in our folder, if there is one. */
export function readRequest(folder: string): Found<StoreRequest> {
  return readJson(file(folder), check);
}

function check(value: unknown): StoreRequest | undefined {
  const { since_ms } = (value ?? {}) as Record<string, unknown>;
  return since_ms === null || isTime(since_ms) ? { since_ms } : undefined;
}

/** Removes it: it stands in the journal now. */
export async function removeRequest(folder: string): Promise<void> {
  await rm(file(folder), { force: true });
}

function file(folder: string): string {
  return join(folder, "store-request.json");
}
