/**
 * What a process that does not own the state directory asks of the one that does: to read the session store, and from
 * when on. A file, since the owner may be any process, and may have no other ear.
 */

import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A request. */
export interface StoreRequest {
  /** Calls before the owner began to count are to be filled in from this time on, in ms since 1970. */
  since_ms: number | null;
}

/** Leaves a request in our folder; one that is there already is joined with it. */
export async function leaveRequest(folder: string, { since_ms }: StoreRequest): Promise<void> {
  const earlier = (await readRequest(folder))?.since_ms ?? null;
  const since = [earlier, since_ms].filter((ms) => ms !== null);
  const text = JSON.stringify({ since_ms: since.length > 0 ? Math.min(...since) : null });
  await writeFile(`${file(folder)}.new`, `${text}\n`, { mode: 0o600 });
  await rename(`${file(folder)}.new`, file(folder));
}

/** The request in our folder, if there is one. */
export async function readRequest(folder: string): Promise<StoreRequest | undefined> {
  try {
    const { since_ms } = JSON.parse(await readFile(file(folder), "utf8")) as Partial<StoreRequest>;
    return { since_ms: typeof since_ms === "number" && since_ms >= 0 ? since_ms : null };
  } catch {
    // There is none, or none that can be read.
    return undefined;
  }
}

/** Removes it: it stands in the journal now. */
export async function removeRequest(folder: string): Promise<void> {
  await rm(file(folder), { force: true });
}

function file(folder: string): string {
  return join(folder, "store-request.json");
}
