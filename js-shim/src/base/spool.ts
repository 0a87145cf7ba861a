/** The folder in which processes that do not own the state directory write their events; see `crate/src/engine/spool.rs`. */

import { join } from "node:path";

/** Interval at which the owner reads the spool, in ms. */
export const LOOK_MS = 1_000;

/** The folder of the spool files. */
export function spoolFolder(folder: string): string {
  return join(folder, "spool");
}
