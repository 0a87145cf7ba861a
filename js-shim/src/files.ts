/**
 * Opens, reads and replaces the plugin's own files. Anything may stand in the place of one: a named pipe holds up whoever
 * opens it, a symbolic link leads to a file of somebody else's. So each is opened as a regular file or not at all, and
 * read within a bound. A folder that stands in the way of a file is renamed, never removed.
 */

import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";

/** The largest of the files that hold one JSON document, in bytes. */
const MOST_JSON = 1024 * 1024;
/** The largest file of the journal, in bytes; those that the plugin writes are far smaller. */
export const MOST_BYTES = 64 * 1024 * 1024;
/** What is renamed, since it stood in the way of a file, has this in its name. */
export const ASIDE = ".damaged-";

// Windows has neither of the two.
const NO_WAIT = constants.O_NONBLOCK ?? 0;
const SAFE = (constants.O_NOFOLLOW ?? 0) | NO_WAIT;
const FLAGS = {
  read: constants.O_RDONLY | SAFE,
  /** A file that is not the plugin's: people keep those behind symbolic links. */
  foreign: constants.O_RDONLY | NO_WAIT,
  change: constants.O_WRONLY | SAFE,
  append: constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | SAFE,
  new: constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | SAFE,
};
/** What a file is opened for. */
export type Purpose = keyof typeof FLAGS;

const A_FOLDER = "a folder";

/** What stands at a path where it is no regular file: `a named pipe`, …; nothing where it is one, or is missing. */
export function otherKind(path: string): string | undefined {
  const stats = statsOf(path);
  return stats && kindOf(stats);
}

/** What stands at a path, itself and not what it leads to; nothing where it is missing, or not for this user to see. */
export function statsOf(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    // Who opens it is told why.
    return undefined;
  }
}

/** The same of what is known. */
export function kindOf(
  stats: Pick<Stats, "isFile" | "isDirectory" | "isSymbolicLink" | "isFIFO" | "isSocket">,
) {
  if (stats.isFile()) return undefined;
  if (stats.isDirectory()) return A_FOLDER;
  if (stats.isSymbolicLink()) return "a symbolic link";
  if (stats.isFIFO()) return "a named pipe";
  return stats.isSocket() ? "a socket" : "a device";
}

/** Opens a regular file. @throws what is wrong: it is none, or what the file system says */
async function openOwn(path: string, purpose: Purpose): Promise<FileHandle> {
  makeWay(path, purpose);
  const handle = await open(path, FLAGS[purpose], 0o600).catch((error) => {
    throw explained(path, error);
  });
  const kind = kindOf(await handle.stat());
  if (!kind) return handle;
  await handle.close();
  throw new Error(`${path} is ${kind}, not a file`);
}

/** The same at once. */
export function openOwnSync(path: string, purpose: Purpose): number {
  makeWay(path, purpose);
  let handle: number;
  try {
    handle = openSync(path, FLAGS[purpose], 0o600);
  } catch (error) {
    throw explained(path, error);
  }
  const kind = kindOf(fstatSync(handle));
  if (!kind) return handle;
  closeSync(handle);
  throw new Error(`${path} is ${kind}, not a file`);
}

/** What opening says of a link or a pipe is a riddle (ELOOP, ENXIO). */
function explained(path: string, error: unknown): unknown {
  const kind = otherKind(path);
  return kind ? new Error(`${path} is ${kind}, not a file`) : error;
}

function makeWay(path: string, purpose: Purpose): void {
  if (purpose === "new") moveFolderAside(path);
  if (purpose === "new" || (purpose === "append" && otherKind(path))) rmSync(path, { force: true });
}

/** Gives a folder that stands at the path of a file another name. Does nothing where none does. */
export function moveFolderAside(path: string): void {
  if (otherKind(path) !== A_FOLDER) return;
  try {
    // With a slash at its end a path names folders alone: another process may have put a file there meanwhile.
    renameSync(`${path}/`, asideOf(path));
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

function asideOf(path: string): string {
  return `${path}${ASIDE}${Date.now()}`;
}

/** Makes a folder where there is none; what stands in its place is renamed. */
export function makeFolder(folder: string): void {
  const make = () => mkdirSync(folder, { recursive: true, mode: 0o700 });
  try {
    make();
  } catch (error) {
    if (!statsOf(folder) || statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw error;
    renameSync(folder, asideOf(folder));
    make();
  }
}

/** A file's bytes. @throws what is wrong: it is no regular file, too large, or what the file system says */
export async function readOwn(path: string, most = MOST_BYTES): Promise<Uint8Array> {
  const handle = await openOwn(path, "read");
  try {
    checkSize(path, await handle.stat(), most);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** The same at once. */
export function readOwnSync(path: string, most = MOST_BYTES, purpose: Purpose = "read"): Buffer {
  const handle = openOwnSync(path, purpose);
  try {
    checkSize(path, fstatSync(handle), most);
    return readFileSync(handle);
  } finally {
    closeSync(handle);
  }
}

function checkSize(path: string, { size }: Stats, most: number): void {
  if (size > most) throw new Error(`${path} holds ${size} bytes, more than the ${most} that it may`);
}

/** What a file with one JSON document holds. A damaged one counts for absent. */
export interface Found<T> {
  value: T | undefined;
  /** What is wrong with it, beginning with its path; nothing where it is well, or is not there. */
  fault: string | undefined;
}

/** Reads a JSON document. `check` gives what it holds, or nothing where that is none of ours. */
export function readJson<T>(path: string, check: (value: unknown) => T | undefined): Found<T> {
  let text: string;
  try {
    text = readOwnSync(path, MOST_JSON).toString("utf8");
  } catch (error) {
    return { value: undefined, fault: isMissing(error) ? undefined : faultOf(path, error) };
  }
  const wrong = (what: string) => ({ value: undefined, fault: `${path} ${what}` });
  if (text.trim() === "") return wrong("is empty");
  try {
    const value = check(JSON.parse(text));
    return value === undefined ? wrong("does not hold what it should") : { value, fault: undefined };
  } catch {
    return wrong("is no JSON");
  }
}

/** What is wrong with a file that could not be read, beginning with its path. */
export function faultOf(path: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ? `${path} cannot be read (${code})` : message;
}

/** Whether an error says that there is no such file. */
export function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ENOTDIR";
}

/**
 * Writes a file's bytes beside it and renames that: a reader finds the old bytes or the new ones, whenever this ends.
 *
 * @param isDurable whether it is to survive a power cut too
 */
export async function replaceOwn(
  path: string,
  bytes: string | Uint8Array,
  isDurable: boolean,
): Promise<void> {
  const beside = `${path}.new`;
  const handle = await openOwn(beside, "new");
  try {
    await handle.writeFile(bytes);
    if (isDurable) await handle.sync();
  } catch (error) {
    // On a full disk the part that was written helps nobody.
    await rm(beside, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  moveFolderAside(path);
  await rename(beside, path);
}

/** The same at once. Where several processes may write the file, `beside` has to be a name of this one's. */
export function replaceOwnSync(
  path: string,
  bytes: string | Uint8Array,
  isDurable: boolean,
  beside = `${path}.new`,
): void {
  writeNew(beside, bytes, isDurable);
  moveFolderAside(path);
  renameSync(beside, path);
}

/** A name beside a file that no other process has. */
export function ownName(path: string): string {
  return `${path}.${randomBytes(4).toString("hex")}.new`;
}

/**
 * Makes a file that is not there, whole or not at all: of several processes one does.
 *
 * @returns whether this one did
 */
export function createOnce(path: string, text: string): boolean {
  const beside = ownName(path);
  writeNew(beside, text, true);
  try {
    linkSync(beside, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    if (code === "ENOENT" || code === "ENOTDIR") throw error;
    // This file system has no links.
    return createUnlinked(path, text);
  } finally {
    rmSync(beside, { force: true });
  }
}

function createUnlinked(path: string, text: string): boolean {
  let handle: number;
  try {
    handle = openSync(path, FLAGS.new, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
  fill(handle, path, text, true);
  return true;
}

function writeNew(path: string, bytes: string | Uint8Array, isDurable: boolean): void {
  fill(openOwnSync(path, "new"), path, bytes, isDurable);
}

/** Writes a file that this process has just made, or removes it. */
function fill(handle: number, path: string, bytes: string | Uint8Array, isDurable: boolean): void {
  try {
    writeAllSync(handle, Buffer.from(bytes));
    if (isDurable) fsyncSync(handle);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(handle);
  }
}

/** Writes all of the bytes. */
export function writeAllSync(handle: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(handle, bytes, done);
}

/**
 * How long files have stayed as they are, by this process's monotonic clock from its first look on. A file's date is of a
 * wall clock, which may be wrong, or set, and of whoever wrote the file.
 */
export class Unchanged {
  readonly #seen = new Map<string, { as: string; since: number }>();

  /** In ms; 0 at the first look. */
  ms(path: string, { ino, size, mtimeMs }: Pick<Stats, "ino" | "size" | "mtimeMs">): number {
    const as = `${ino} ${size} ${mtimeMs}`;
    const now = performance.now();
    const before = this.#seen.get(path);
    if (before?.as === as) return now - before.since;
    this.#seen.set(path, { as, since: now });
    return 0;
  }

  /** Forgets all other files. */
  retain(paths: ReadonlySet<string>): void {
    for (const path of this.#seen.keys()) if (!paths.has(path)) this.#seen.delete(path);
  }
}
