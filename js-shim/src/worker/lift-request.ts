/**
 * A request to the state directory's owner to lift its allowances for a time. It is a file, since the owner may be any
 * process, or none: the next owner takes it. Who can write the folder is an operator.
 */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { type Found, ownName, readJson, replaceOwnSync } from "../base/files.js";
import { isTime } from "../base/shape.js";

/** A request. */
export interface LiftRequest {
  /** Until when all calls pass, in ms since 1970; null ends a lift. */
  until_ms: number | null;
}

/** Leaves a request in the plugin's folder, in place of an earlier one. @throws the file system's error */
export function leaveLift(folder: string, request: LiftRequest): void {
  replaceOwnSync(file(folder), `${JSON.stringify(request)}\n`, true, ownName(file(folder)));
}

/** The request in the plugin's folder, if there is one. */
export function readLift(folder: string): Found<LiftRequest> {
  return readJson(file(folder), check);
}

/** Removes the request, after the journal has the lift. @throws the file system's error */
export function removeLift(folder: string): void {
  rmSync(file(folder), { force: true });
}

function check(value: unknown): LiftRequest | undefined {
  const { until_ms } = (value ?? {}) as Record<string, unknown>;
  return until_ms === null || isTime(until_ms) ? { until_ms } : undefined;
}

function file(folder: string): string {
  return join(folder, "lift-request.json");
}
