/**
 * Opens, reads and replaces the plugin's own files. Another process may have put anything at their paths: opening a named
 * pipe blocks, a symbolic link may lead to another user's file. So only regular files are opened, and reads are bounded. A
 * folder at the path of a file is renamed, never removed.
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

/** Largest file with one JSON document, in bytes. */
const MAX_JSON_BYTES = 1024 * 1024;
/** Largest file of the journal, in bytes; the plugin writes much smaller ones. */
export const MOST_BYTES = 64 * 1024 * 1024;
/** Part of the new name of a folder that was at the path of a file. */
const ASIDE = ".damaged-";

// Windows has neither of these flags.
const NO_WAIT = constants.O_NONBLOCK ?? 0;
const SAFE = (constants.O_NOFOLLOW ?? 0) | NO_WAIT;
const FLAGS = {
  read: constants.O_RDONLY | SAFE,
  /** A file of the user, which may be a symbolic link. */
  foreign: constants.O_RDONLY | NO_WAIT,
  append: constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | SAFE,
  new: constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | SAFE,
};
/** The purpose of opening a file. */
export type Purpose = keyof typeof FLAGS;

const A_FOLDER = "a folder";

/** The kind of a path that is no regular file, such as `a named pipe`; undefined where it is one, or is missing. */
export function otherKind(path: string): string | undefined {
  const stats = statsOf(path);
  return stats && kindOf(stats);
}

/** The stats of a path, of a symbolic link itself; undefined where it is missing, or this user may not look. */
export function statsOf(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    // Opening the path reports the reason.
    return undefined;
  }
}

/** Whether a path is a folder, or a link to one. */
export function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    // Missing, not to be looked at, or a link that leads nowhere.
    return false;
  }
}

/** The kind that stats show; see {@link otherKind}. */
export function kindOf(
  stats: Pick<Stats, "isFile" | "isDirectory" | "isSymbolicLink" | "isFIFO" | "isSocket">,
) {
  if (stats.isFile()) return undefined;
  if (stats.isDirectory()) return A_FOLDER;
  if (stats.isSymbolicLink()) return "a symbolic link";
  if (stats.isFIFO()) return "a named pipe";
  return stats.isSocket() ? "a socket" : "a device";
}

/** Opens a regular file. @throws where the path is of another kind, and the file system's errors */
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

/** Replaces the codes for links and pipes (ELOOP, ENXIO) by a message that names the kind. */
function explained(path: string, error: unknown): unknown {
  const kind = otherKind(path);
  return kind ? new Error(`${path} is ${kind}, not a file`) : error;
}

function makeWay(path: string, purpose: Purpose): void {
  if (purpose === "new") moveFolderAside(path);
  if (purpose === "new" || (purpose === "append" && otherKind(path))) rmSync(path, { force: true });
}

/** Renames a folder at the path of a file. Does nothing where there is none. */
export function moveFolderAside(path: string): void {
  if (otherKind(path) !== A_FOLDER) return;
  try {
    // A path with a slash at its end names a folder only: another process may have created a file meanwhile.
    renameSync(`${path}/`, asideOf(path));
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** A new name for something that is no file at the path of one. */
export function asideOf(path: string): string {
  return `${path}${ASIDE}${Date.now()}`;
}

/** Makes a folder where there is none; a file at its path is renamed. */
export function makeFolder(folder: string): void {
  const make = () => mkdirSync(folder, { recursive: true, mode: 0o700 });
  try {
    make();
  } catch (error) {
    // A link that cannot be followed here is no reason to begin an empty folder: this throws.
    if (!statsOf(folder) || statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw error;
    renameSync(folder, asideOf(folder));
    make();
  }
}

/** Reads a file. @throws where it is no regular file or larger than `most` bytes, and the file system's errors */
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

/** The content of a file with one JSON document. A damaged file counts as absent. */
export interface Found<T> {
  value: T | undefined;
  /** The problem of the file, beginning with its path; undefined where it is valid or missing. */
  fault: string | undefined;
}

/** Reads a JSON document. @param check returns the document, or undefined where its shape is wrong */
export function readJson<T>(path: string, check: (value: unknown) => T | undefined): Found<T> {
  let text: string;
  try {
    text = readOwnSync(path, MAX_JSON_BYTES).toString("utf8");
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

/** Why a file could not be read, beginning with its path. */
export function faultOf(path: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ? `${path} cannot be read (${code})` : message;
}

/** Whether an error means that a file does not exist. */
export function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ENOTDIR";
}

/**
 * Writes a new file and renames it onto the path: a reader finds the old bytes or the new ones, even after a crash.
 *
 * @param isDurable whether the bytes survive a power cut
 * @param beside path of the new file; where several processes may write, a path that only this one uses
 */
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

/** A random path beside a file, which no other process uses. */
export function ownName(path: string): string {
  return `${path}.${randomBytes(4).toString("hex")}.new`;
}

/**
 * Creates a file with its complete text, where there is none. Of several processes one succeeds.
 *
 * @returns whether this process created it
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
    // The file system has no hard links.
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

/** Writes a file that this process has just created, and removes it where that fails. */
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
