/**
 * The lease of a state directory: one process owns it, by a file with a heartbeat. Other processes spool their events
 * for the owner (`spool.ts`). If the owner ends, one of them takes over.
 */

import { randomUUID } from "node:crypto";
import { lutimesSync, mkdirSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ASIDE,
  createOnce,
  type Found,
  makeFolder,
  moveFolderAside,
  ownName,
  readJson,
  replaceOwnSync,
  statsOf,
  Unchanged,
} from "./files.js";

/** Interval of the owner's heartbeat, in ms. */
export const HEARTBEAT_MS = 2_000;
/** Time without a heartbeat after which a lease is stale, in ms. */
export const STALE_MS = 10_000;
/** Start times of a process id that differ by less than this belong to the same process, in ms. */
const SAME_START_MS = 2_000;

/** The owner, as the lease's file names it. */
export interface Owner {
  pid: number;
  host: string;
  /** Start of the process, in ms since 1970: process ids are reused. */
  started: number;
  /** Random id of the lease, the same for all workers of a process. */
  token: string;
  /** Kind of the process: `gateway`, `sync`, … */
  role: string;
}

/** A lease that this process holds. */
export class Lease {
  readonly #file: string;
  readonly owner: Owner;
  #heartbeatAt = performance.now();
  /** Modification time of the file as this process set it last, in ms since 1970. */
  #leftAt: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isLost = false;

  private constructor(file: string, owner: Owner) {
    this.#file = file;
    this.owner = owner;
    this.#timer = setInterval(() => this.#heartbeat(), HEARTBEAT_MS);
    this.#timer.unref();
  }

  /**
   * Takes the lease of a folder, unless a living process has it.
   *
   * @returns the lease, or `undefined` if another process has it
   * @throws the file system's error, if the folder cannot be written
   */
  static take(folder: string, role: string): Lease | undefined {
    makeFolder(folder);
    const file = ownerFile(folder);
    const owner = self(role);
    if (!statsOf(file) && createOnce(file, textOf(owner))) return new Lease(file, owner);
    // An earlier worker of this process took the lease and died.
    if (readOwner(file).value?.token === owner.token) return new Lease(file, owner);
    if (isAlive(file)) return undefined;
    return replaceStale(file, owner) ? new Lease(file, owner) : undefined;
  }

  /** Whether this process still has the lease. Reads the file only if the last heartbeat is late. */
  isHeld(): boolean {
    if (!this.#isLost && performance.now() - this.#heartbeatAt > STALE_MS / 2) this.#heartbeat();
    return !this.#isLost;
  }

  /** Ends the lease and removes its file. */
  release(): void {
    clearInterval(this.#timer);
    if (this.isHeldSync()) rmSync(this.#file, { force: true });
  }

  /** Whether this process still has the lease. Reads the file. */
  isHeldSync(): boolean {
    return readOwner(this.#file).value?.token === this.owner.token;
  }

  #heartbeat(): void {
    const found = statsOf(this.#file);
    // The time is the one that this process set, so the file is unchanged.
    if (found && Math.round(found.mtimeMs) === this.#leftAt) return this.#touch();
    const { value: owner, fault } = readOwner(this.#file);
    if (owner && owner.token !== this.owner.token) {
      this.#isLost = true;
      clearInterval(this.#timer);
      return;
    }
    // The file is missing or damaged: restore it, so that other processes find the owner.
    if (!found || fault) this.#restore(fault !== undefined);
    this.#touch();
  }

  #restore(isDamaged: boolean): void {
    try {
      makeFolder(dirname(this.#file));
      const text = textOf(this.owner);
      if (isDamaged) replaceOwnSync(this.#file, text, false, ownName(this.#file));
      else createOnce(this.#file, text);
    } catch {
      // Ignored for the same reason as in `#touch`.
    }
  }

  #touch(): void {
    const now = new Date();
    this.#leftAt = now.getTime();
    try {
      lutimesSync(this.#file, now, now);
    } catch {
      // A full or read-only disk does not end the lease: no other process can take it either.
    }
    this.#heartbeatAt = performance.now();
  }
}

/** Interval at which {@link livingOwner} reads the file, in ms. */
const WATCH_EVERY_MS = 200;

/**
 * The living owner of a folder, judged as {@link Lease.take} does. If the file's time is not recent, the file is
 * watched for {@link STALE_MS}: another process may have the process id by now, or the clock was set.
 */
export async function livingOwner(folder: string): Promise<Owner | undefined> {
  const file = ownerFile(folder);
  for (let first: number | undefined; ; await sleep(WATCH_EVERY_MS)) {
    const found = statsOf(file);
    const owner = readOwner(file).value;
    if (!found || !owner || !isAlive(file)) return undefined;
    first ??= found.mtimeMs;
    if (found.mtimeMs !== first || Math.abs(Date.now() - found.mtimeMs) < STALE_MS) return owner;
  }
}

/** The owner that the lease's file names, whether the process lives or not. */
export function writtenOwner(folder: string): Found<Owner> {
  return readOwner(ownerFile(folder));
}

/** Whether a process still lives; `undefined` for a process of another machine. */
export function lives({ pid, host, started }: Pick<Owner, "pid" | "host" | "started">): boolean | undefined {
  if (host !== hostname()) return undefined;
  if (pid === process.pid) return Math.abs(started - processStart()) < SAME_START_MS;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** In a worker thread: the process's start, in ms since 1970, and the token of all its workers. */
let spokenFor: { started: number; token: string } | undefined;

/** Makes this thread use the start and the token of the thread that started it. */
export function speakFor(process: { started: number; token: string }): void {
  spokenFor = process;
}

/** This process as an owner, with the token of all its workers or a new token. */
export function self(role: string, token = spokenFor?.token ?? randomUUID()): Owner {
  return { pid: process.pid, host: hostname(), started: processStart(), token, role };
}

function processStart(): number {
  // Unlike the wall clock minus the uptime, this does not change when the clock is set.
  return spokenFor?.started ?? Math.round(performance.timeOrigin);
}

function ownerFile(folder: string): string {
  return join(folder, "owner.json");
}

function textOf(owner: Owner): string {
  return `${JSON.stringify(owner)}\n`;
}

function readOwner(file: string): Found<Owner> {
  return readJson(file, check);
}

function check(value: unknown): Owner | undefined {
  const { pid, host, started, token, role } = (value ?? {}) as Partial<Owner>;
  const areTexts = [host, token, role].every(
    (text) => typeof text === "string" && /^\P{C}{1,255}$/u.test(text),
  );
  return areTexts && isPid(pid) && Number.isFinite(started) ? (value as Owner) : undefined;
}

/** Whether a value is a process id. 0 and negative numbers are process groups. */
export function isPid(pid: unknown): boolean {
  return Number.isInteger(pid) && (pid as number) > 0 && (pid as number) < 2 ** 31;
}

/** Since when the files of leases have not changed. */
const unchanged = new Unchanged();

function isAlive(file: string): boolean {
  const found = statsOf(file);
  if (!found) return false;
  const owner = readOwner(file).value;
  // An ended process's lease is stale at once. A living process keeps its lease only by its heartbeat.
  if (owner && lives(owner) === false) return false;
  return unchanged.ms(file, found) < STALE_MS;
}

/** Replaces a stale file. The folder `.takeover`, which is created atomically, lets one process do so at a time. */
function replaceStale(file: string, owner: Owner): boolean {
  const guard = `${file}.takeover`;
  try {
    mkdirSync(guard, { mode: 0o700 });
  } catch {
    const found = statsOf(guard);
    // A takeover takes some ms, so an old folder is left over from a process that died.
    if (found && unchanged.ms(guard, found) > STALE_MS) removeGuard(guard);
    return false;
  }
  try {
    if (isAlive(file)) return false;
    moveFolderAside(file);
    rmSync(file, { force: true });
    return createOnce(file, textOf(owner));
  } finally {
    removeGuard(guard);
  }
}

function removeGuard(guard: string): void {
  try {
    rmdirSync(guard);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // It is no empty folder, so the plugin did not create it.
    if (code === "ENOTDIR" || code === "ENOTEMPTY" || code === "EEXIST")
      renameSync(guard, `${guard}${ASIDE}${Date.now()}`);
    else if (code !== "ENOENT") throw error;
  }
}
