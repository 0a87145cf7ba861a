/**
 * Names of spool files, in which a process that does not own the state directory writes its events for the owner; see
 * `crate/src/engine/spool.rs`. A name has the format and the writer.
 */

import { join } from "node:path";
import { isPid, lives, type Owner } from "./lease.js";

/** Interval at which the owner reads the spool, in ms. */
export const LOOK_MS = 1_000;
/** Version of the format, in the files' names. */
const FORMAT = "v1";

/** The folder of the spool files. */
export function spoolFolder(folder: string): string {
  return join(folder, "spool");
}

/** Prefix and suffix of the names of a writer's files; the file's number stands between them. */
export function spoolNames({ pid, host, started, token }: Owner): [prefix: string, suffix: string] {
  return [`${[FORMAT, pid, started, token.slice(0, 8)].join("_")}_`, `_${encodeURIComponent(host)}`];
}

/** Whether the writer of a file lives; undefined if this machine cannot tell. */
export function writerLives(name: string): boolean | undefined {
  const [format, pid, started, token, , ...host] = name.split("_");
  if (format !== FORMAT || !token || !isPid(Number(pid))) return undefined;
  try {
    return lives({ pid: Number(pid), started: Number(started), host: decodeURIComponent(host.join("_")) });
  } catch {
    // The plugin did not write this name.
    return undefined;
  }
}
