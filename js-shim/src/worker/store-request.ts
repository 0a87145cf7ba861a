/**
 * A request to the state directory's owner to read the session store, and from which time on. It is a file, since the
 * owner may be any process and has no other interface.
 */

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Found, ownName, readJson, replaceOwnSync } from "../base/files.js";
import { isTime } from "../base/shape.js";

/** A request. */
export interface StoreRequest {
  /** Time from which history is to be filled in, in ms since 1970; null without history. */
  since_ms: number | null;
}

/** Writes a request to the plugin's folder, merged with an existing one: the earlier time is valid. */
export function leaveRequest(folder: string, { since_ms }: StoreRequest): void {
  const earlier = readRequest(folder).value?.since_ms ?? null;
  const since = [earlier, since_ms].filter((ms) => ms !== null);
  const text = JSON.stringify({ since_ms: since.length > 0 ? Math.min(...since) : null });
  replaceOwnSync(file(folder), `${text}\n`, true, ownName(file(folder)));
}

/** The request in the plugin's folder, if there is one. */
export function readRequest(folder: string): Found<StoreRequest> {
  return readJson(file(folder), check);
}

function check(value: unknown): StoreRequest | undefined {
  const { since_ms } = (value ?? {}) as Record<string, unknown>;
  return since_ms === null || isTime(since_ms) ? { since_ms } : undefined;
}

/** Removes the request, after the journal has its span. */
export async function removeRequest(folder: string): Promise<void> {
  await rm(file(folder), { force: true });
}

function file(folder: string): string {
  return join(folder, "store-request.json");
}
