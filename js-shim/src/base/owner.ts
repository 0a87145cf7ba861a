/** Who owns a state directory, for commands; `crate/src/lease` decides it. */

import { setTimeout as sleep } from "node:timers/promises";
import { HostFiles } from "./host-files.js";
import type { Process } from "./process.js";
import { instantiate } from "./wasm.js";

/** Interval at which {@link livingOwner} looks, in ms. */
const LOOK_EVERY_MS = 200;

/** The owner of a state directory. */
export interface Owner extends Process {
  /** Kind of the process: `gateway`, `sync`, … */
  role: string;
}

/** The living owner of a folder. Where its last heartbeat is not recent, this takes up to 10 s. */
export async function livingOwner(folder: string): Promise<Owner | undefined> {
  const watch = new (instantiate().OwnerWatch)(new HostFiles(folder));
  try {
    for (;;) {
      const found = watch.look();
      if (found) return JSON.parse(found) as Owner;
      if (found === undefined) return undefined;
      await sleep(LOOK_EVERY_MS);
    }
  } finally {
    watch.free();
  }
}

/** What the lease's file of a folder tells. */
export interface WrittenOwner {
  /** The owner that it names, whether the process lives or not. */
  owner: Owner | null;
  /** Whether that process lives; null for a process of another machine. */
  lives: boolean | null;
  /** Time since its last heartbeat, in s. */
  silent_s: number;
  /** The problem of the file, beginning with its path. */
  fault: string | null;
}

/** Reads the lease's file of a folder. */
export function writtenOwner(folder: string): WrittenOwner {
  return JSON.parse(instantiate().writtenOwner(new HostFiles(folder))) as WrittenOwner;
}
