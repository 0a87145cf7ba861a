/**
 * Names of the files in which processes that do not own a state directory tell the one that does what they hear; see
 * `crate/src/engine/spool.rs`. A name says who writes the file, and in which format.
 */

import { join } from "node:path";
import { isPid, lives, type Owner } from "./lease.js";

/** How often the owner looks, in ms. */
export const LOOK_MS = 1_000;
/** The format, in the files' names. */
const FORMAT = "v1";

/** The folder of these files. */
export function spoolFolder(folder: string): string {
  return join(folder, "spool");
}

/** How the names of a writer's files begin and end; their number stands between. */
export function spoolNames({ pid, host, started, token }: Owner): [prefix: string, suffix: string] {
  return [`${[FORMAT, pid, started, token.slice(0, 8)].join("_")}_`, `_${encodeURIComponent(host)}`];
}

/** Whether the process lives that writes a file of that name; undefined where this machine cannot tell. */
export function writerLives(name: string): boolean | undefined {
  const [format, pid, started, token, , ...host] = name.split("_");
  if (format !== FORMAT || !token || !isPid(Number(pid))) return undefined;
  try {
    return lives({ pid: Number(pid), started: Number(started), host: decodeURIComponent(host.join("_")) });
  } catch {
    // A name of somebody else's making.
    return undefined;
  }
}
