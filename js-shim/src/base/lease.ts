/**
 * Who owns a state directory: one process, by a file with a heartbeat. Others tell it what they see (`spool.ts`),
 * and one of them takes over where the owner is gone.
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

/** How often the owner says that it lives, in ms. */
export const HEARTBEAT_MS = 2_000;
/** An owner that has said nothing for so long is gone, in ms. */
export const STALE_MS = 10_000;
/** Two starts of processes with the same number are the same one when they are this close, in ms. */
const SAME_START_MS = 2_000;

/** What the file says of the owner. */
export interface Owner {
  pid: number;
  host: string;
  /** When its process started, in ms since 1970: numbers of processes come again. */
  started: number;
  /** Drawn for this lease. */
  token: string;
  /** What the process is: `gateway`, `sync`, … */
  role: string;
}

/** A lease that this process holds. */
export class Lease {
  readonly #file: string;
  readonly owner: Owner;
  #heartbeatAt = performance.now();
  /** The time of its file that this process set last, in ms since 1970. */
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
   * Takes the lease of a folder where nobody living has it.
   *
   * @returns the lease, or `undefined` where another process has it
   * @throws what the file system says, where the folder cannot be written
   */
  static take(folder: string, role: string): Lease | undefined {
    makeFolder(folder);
    const file = ownerFile(folder);
    const owner = self(role);
    if (!statsOf(file) && createOnce(file, textOf(owner))) return new Lease(file, owner);
    // A worker of this process died with it.
    if (readOwner(file).value?.token === owner.token) return new Lease(file, owner);
    if (isAlive(file)) return undefined;
    return replaceStale(file, owner) ? new Lease(file, owner) : undefined;
  }

  /** Whether it is still ours. Asks the disk only where this process was held up for long enough to lose it. */
  isHeld(): boolean {
    if (!this.#isLost && performance.now() - this.#heartbeatAt > STALE_MS / 2) this.#heartbeat();
    return !this.#isLost;
  }

  /** Gives it back. */
  release(): void {
    clearInterval(this.#timer);
    if (this.isHeldSync()) rmSync(this.#file, { force: true });
  }

  /** Whether it is still ours, asking the disk at once. */
  isHeldSync(): boolean {
    return readOwner(this.#file).value?.token === this.owner.token;
  }

  #heartbeat(): void {
    const found = statsOf(this.#file);
    // As this process left it: nobody else made it.
    if (found && Math.round(found.mtimeMs) === this.#leftAt) return this.#touch();
    const { value: owner, fault } = readOwner(this.#file);
    if (owner && owner.token !== this.owner.token) {
      this.#isLost = true;
      clearInterval(this.#timer);
      return;
    }
    // Somebody cleared the folder, or damaged the file: whoever comes next has to find an owner.
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
      // As below.
    }
  }

  #touch(): void {
    const now = new Date();
    this.#leftAt = now.getTime();
    try {
      lutimesSync(this.#file, now, now);
    } catch {
      // A full or a read-only disk is no reason to give up: nobody else can take it either.
    }
    this.#heartbeatAt = performance.now();
  }
}

/** How often a file is looked at that is watched, in ms. */
const WATCH_EVERY_MS = 200;

/**
 * Who owns a folder of ours, if somebody living does, by the judgement of {@link Lease.take}. Where the file's date is not of
 * the last seconds it is watched for {@link STALE_MS}: its number may be another process's by now, or the clock was set.
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

/** What the file of the owner says, whether that one lives or not. */
export function writtenOwner(folder: string): Found<Owner> {
  return readOwner(ownerFile(folder));
}

/** Whether a process that named itself so still lives, as far as this machine can tell; `undefined` where not. */
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

/** When the process started, in ms since 1970, and the token of all its workers: this thread is one of these. */
let spokenFor: { started: number; token: string } | undefined;

/** From here on this thread names itself as the one that started it says. */
export function speakFor(process: { started: number; token: string }): void {
  spokenFor = process;
}

/** This process, under a new token, or under that of all its workers. */
export function self(role: string, token = spokenFor?.token ?? randomUUID()): Owner {
  return { pid: process.pid, host: hostname(), started: processStart(), token, role };
}

function processStart(): number {
  // Unlike the wall clock less the uptime, this stays when the clock is set.
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

/** Whether it is the number of a process: 0 and negative ones are groups of them. */
export function isPid(pid: unknown): boolean {
  return Number.isInteger(pid) && (pid as number) > 0 && (pid as number) < 2 ** 31;
}

/** Since when files of leases are as they are: see {@link Unchanged}. */
const unchanged = new Unchanged();

function isAlive(file: string): boolean {
  const found = statsOf(file);
  if (!found) return false;
  const owner = readOwner(file).value;
  // A process that is certainly gone need not be waited for; one that lives may still have lost its way.
  if (owner && lives(owner) === false) return false;
  return unchanged.ms(file, found) < STALE_MS;
}

/** One process at a time replaces a stale file: it holds a folder meanwhile, since making one is all or nothing. */
function replaceStale(file: string, owner: Owner): boolean {
  const guard = `${file}.takeover`;
  try {
    mkdirSync(guard, { mode: 0o700 });
  } catch {
    const found = statsOf(guard);
    // Who takes over holds it for some ms.
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
    // It is no folder, or not an empty one, and so none of ours.
    if (code === "ENOTDIR" || code === "ENOTEMPTY" || code === "EEXIST")
      renameSync(guard, `${guard}${ASIDE}${Date.now()}`);
    else if (code !== "ENOENT") throw error;
  }
}
