/** Files of the plugin's own folder, for the engine, by synchronous calls; see `crate/src/host.rs`. */

import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
} from "node:fs";
import { dirname, join } from "node:path";
import {
  faultOf,
  isMissing,
  kindOf,
  MOST_BYTES,
  makeFolder,
  moveFolderAside,
  openOwnSync,
  statsOf,
  writeAllSync,
} from "./files.js";

/** A file of a folder; `stamp` changes whenever the file does, `fault` says why it cannot be read. */
export type FileEntry = [name: string, bytes: number, stamp: string, fault: string | undefined];

/** A folder's files, and whose they are. */
export class HostFiles {
  readonly #folder: string;
  readonly owns: () => boolean;
  readonly lives: (spoolFile: string) => boolean | undefined;

  /**
   * The folder is made when something is written.
   *
   * @param owns whether this process owns the folder; throws where it could not be made the owner
   * @param lives whether the process lives that writes a file of `spool/`; undefined where this machine cannot tell
   */
  constructor(
    folder: string,
    owns: () => boolean = () => true,
    lives: (spoolFile: string) => boolean | undefined = () => undefined,
  ) {
    this.#folder = folder;
    this.owns = owns;
    this.lives = lives;
  }

  /** All files of a folder but those that are being written, sorted by name; empty where it is missing. */
  list(folder: string): FileEntry[] {
    const path = join(this.#folder, folder);
    let names: string[];
    try {
      names = readdirSync(path);
    } catch {
      return [];
    }
    return names
      .filter((name) => !name.endsWith(".new"))
      .sort()
      .map((name) => entry(join(path, name), name))
      .filter((file) => file !== undefined);
  }

  /** At most so many bytes of a file, from an offset on; undefined where it is missing. @throws what is wrong with it */
  read(path: string, from: number, most: number): Uint8Array | undefined {
    let handle: number;
    try {
      handle = openOwnSync(join(this.#folder, path), "read");
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
    try {
      const size = Math.max(0, Math.min(fstatSync(handle).size - from, most));
      const bytes = new Uint8Array(size);
      return bytes.subarray(0, readSync(handle, bytes, 0, size, from));
    } finally {
      closeSync(handle);
    }
  }

  /** Appends all of the bytes or none, where the file ends at `end`, if that is told. @throws what the file system says */
  append(path: string, bytes: Uint8Array, end: number | undefined, durable: boolean): void {
    const handle = this.#opened(join(this.#folder, path));
    try {
      const { size } = fstatSync(handle);
      // What was written before would be missed by whoever reads the new file.
      if (end !== undefined && size !== end) throw new Error(`${path} was removed or changed`);
      try {
        writeAllSync(handle, bytes);
        if (durable) fsyncSync(handle);
      } catch (error) {
        // A part of it helps nobody, least of all a full disk.
        ftruncateSync(handle, size);
        throw error;
      }
    } finally {
      closeSync(handle);
    }
  }

  #opened(path: string): number {
    moveFolderAside(path);
    try {
      return openOwnSync(path, "append");
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    makeFolder(dirname(path));
    return openOwnSync(path, "append");
  }

  /** Gives a file another name; does nothing where it is missing. @throws what the file system says */
  rename(from: string, to: string, durable: boolean): void {
    const path = join(this.#folder, to);
    try {
      moveFolderAside(path);
      renameSync(join(this.#folder, from), path);
    } catch (error) {
      if (isMissing(error)) return;
      throw error;
    }
    if (durable) syncFolder(dirname(path));
  }

  /** Removes a file, if it is there. @throws what the file system says */
  remove(path: string): void {
    moveFolderAside(join(this.#folder, path));
    rmSync(join(this.#folder, path), { force: true });
  }
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function entry(path: string, name: string): FileEntry | undefined {
  const found = statsOf(path);
  if (!found) return undefined;
  const { ino, size, mtimeMs } = found;
  return [name, size, `${ino} ${size} ${mtimeMs}`, fault(path, kindOf(found), size)];
}

function fault(path: string, kind: string | undefined, size: number): string | undefined {
  if (kind) return `${path} is ${kind}, not a file`;
  if (size > MOST_BYTES) return `${path} holds ${size} bytes, more than any process writes`;
  try {
    accessSync(path, constants.R_OK);
    return undefined;
  } catch (error) {
    return isMissing(error) ? undefined : faultOf(path, error);
  }
}
