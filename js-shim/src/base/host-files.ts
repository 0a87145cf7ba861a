/** Files of the plugin's folder, for the engine, by synchronous calls: the host of `crate/src/host.rs`. */

import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
} from "node:fs";
import { dirname, join } from "node:path";
import {
  asideOf,
  createOnce,
  faultOf,
  isMissing,
  kindOf,
  MOST_BYTES,
  makeFolder,
  moveFolderAside,
  openOwnSync,
  ownName,
  replaceOwnSync,
  statsOf,
  writeAllSync,
} from "./files.js";
import { type Process, runs, thisProcess } from "./process.js";

/** A file of a folder. */
export interface FileEntry {
  name: string;
  bytes: number;
  /** Changes with each change of the file. */
  stamp: string;
  /** Why the file is unreadable. */
  fault: string | undefined;
  /** Its date, in ms since 1970. */
  modifiedMs: number;
}

/** The files of a folder, and processes. */
export class HostFiles {
  readonly #folder: string;
  readonly #process = thisProcess();

  /** The first write creates the folder. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * A folder's files without the temporary `.new` files, sorted by name; empty if the folder is missing.
   *
   * @throws the file system's error
   */
  list(folder: string): FileEntry[] {
    const path = join(this.#folder, folder);
    let names: string[];
    try {
      names = readdirSync(path);
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
    return names
      .filter((name) => !name.endsWith(".new"))
      .sort()
      .map((name) => entry(join(path, name), name))
      .filter((file) => file !== undefined);
  }

  /** At most `most` bytes of a file from an offset on; undefined if it is missing. @throws the fault of the file */
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

  /**
   * Appends all bytes or none.
   *
   * @param end the expected size of the file, in bytes
   * @throws the file system's error, or that the file has another size
   */
  append(path: string, bytes: Uint8Array, end: number | undefined, durable: boolean): void {
    const handle = this.#opened(join(this.#folder, path));
    try {
      const { size } = fstatSync(handle);
      // A changed or new file lacks the earlier frames, so it must not get the later ones.
      if (end !== undefined && size !== end) throw new Error(`${path} was removed or changed`);
      try {
        writeAllSync(handle, bytes);
        if (durable) fsyncSync(handle);
      } catch (error) {
        // A partial append is useless and takes space on a full disk.
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

  /** Renames a file; a missing file is no error. @throws the file system's error */
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

  /** Removes a file; a missing file is no error. @throws the file system's error */
  remove(path: string): void {
    moveFolderAside(join(this.#folder, path));
    rmSync(join(this.#folder, path), { force: true });
  }

  /** A file or folder; a symbolic link itself. */
  stat(path: string): FileEntry | undefined {
    return entry(join(this.#folder, path), path);
  }

  /** Creates a file, if it is missing. @returns whether this process created it @throws the file system's error */
  create(path: string, text: string): boolean {
    const file = join(this.#folder, path);
    makeFolder(dirname(file));
    return createOnce(file, text);
  }

  /** Replaces a file. @throws the file system's error */
  replace(path: string, text: string): void {
    const file = join(this.#folder, path);
    replaceOwnSync(file, text, false, ownName(file));
  }

  /** Sets a file's date, in ms since 1970. @throws the file system's error */
  touch(path: string, wall: number): void {
    const date = new Date(wall);
    lutimesSync(join(this.#folder, path), date, date);
  }

  /** Creates a folder. @throws the file system's error; also where anything has that name */
  makeFolder(path: string): void {
    mkdirSync(join(this.#folder, path), { mode: 0o700 });
  }

  /** Removes an empty folder; gives anything else of that name another one. @throws the file system's error */
  removeFolder(path: string): void {
    const folder = join(this.#folder, path);
    try {
      rmdirSync(folder);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // It is no empty folder, so the plugin did not create it.
      if (code === "ENOTDIR" || code === "ENOTEMPTY" || code === "EEXIST")
        renameSync(folder, asideOf(folder));
      else if (code !== "ENOENT") throw error;
    }
  }

  /** The whole path of a file. */
  path(path: string): string {
    return join(this.#folder, path);
  }

  /** This process. */
  process(): Process {
    return this.#process;
  }

  /** Whether a process of this machine has an id. */
  runs(pid: number): boolean {
    return runs(pid);
  }

  /** Both clocks: ms since 1970, and ms of the monotonic clock. */
  now(): Float64Array {
    return Float64Array.of(Date.now(), performance.now());
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
  return {
    name,
    bytes: size,
    stamp: `${ino} ${size} ${mtimeMs}`,
    fault: fault(path, kindOf(found), size),
    modifiedMs: Math.max(0, Math.round(mtimeMs)),
  };
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
