/**
 * Who owns a state directory: one process, by a file with a heartbeat. Others tell it what they see (`spool.ts`),
 * and one of them takes over where the owner is gone.
 */

import { randomUUID } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { mkdir, open, readFile, rm, rmdir, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";

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
  #beat = performance.now();
  /** The time of its file that this process set last, in ms since 1970. */
  #leftAt: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isLost = false;
  #isReleased = false;

  private constructor(file: string, owner: Owner) {
    this.#file = file;
    this.owner = owner;
    this.#timer = setInterval(() => void this.#heartbeat(), HEARTBEAT_MS);
    this.#timer.unref();
  }

  /**
   * Takes the lease of a folder where nobody living has it.
   *
   * @returns the lease, or `undefined` where another process has it
   * @throws what the file system says, where the folder cannot be written
   */
  static async take(folder: string, role: string): Promise<Lease | undefined> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const file = ownerFile(folder);
    const owner = self(role);
    if (await create(file, owner)) return new Lease(file, owner);
    // A worker of this process died with it.
    if ((await ownerOf(file))?.token === owner.token) return new Lease(file, owner);
    if (await isAlive(file)) return undefined;
    const isOurs = await replaceStale(file, owner);
    return isOurs ? new Lease(file, owner) : undefined;
  }

  /** Whether it is still ours. Asks the disk only where this process was held up for long enough to lose it. */
  async isHeld(): Promise<boolean> {
    if (!this.#isLost && performance.now() - this.#beat > STALE_MS / 2) await this.#heartbeat();
    return !this.#isLost;
  }

  /** Whether this process was held up for so long that it may have lost it; `isHeld` tells. */
  get isDoubtful(): boolean {
    return this.#isLost || performance.now() - this.#beat > STALE_MS / 2;
  }

  /** Gives it back. */
  async release(): Promise<void> {
    this.#isReleased = true;
    clearInterval(this.#timer);
    if ((await ownerOf(this.#file))?.token === this.owner.token) await rm(this.#file, { force: true });
  }

  /** Gives it back at once: the process ends. */
  releaseSync(): void {
    if (this.isHeldSync()) rmSync(this.#file, { force: true });
  }

  /** Whether it is still ours, asking the disk at once. */
  isHeldSync(): boolean {
    try {
      return (JSON.parse(readFileSync(this.#file, "utf8")) as Owner).token === this.owner.token;
    } catch {
      // It is gone, or will be stale soon.
      return false;
    }
  }

  async #heartbeat(): Promise<void> {
    const found = await stat(this.#file).catch(() => undefined);
    // As this process left it: nobody else made it.
    if (found && Math.round(found.mtimeMs) === this.#leftAt) return this.#touch();
    if (!this.#isReleased && !found) {
      // Somebody cleared the folder: whoever comes next has to find an owner.
      await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 }).catch(() => {});
      await create(this.#file, this.owner).catch(() => {});
    }
    const owner = await ownerOf(this.#file);
    if (owner && owner.token !== this.owner.token) {
      this.#isLost = true;
      clearInterval(this.#timer);
      return;
    }
    await this.#touch();
  }

  async #touch(): Promise<void> {
    const now = new Date();
    this.#leftAt = now.getTime();
    // A full or a read-only disk is no reason to give up: nobody else can take it either.
    await utimes(this.#file, now, now).catch(() => {});
    this.#beat = performance.now();
  }
}

/** Who owns a folder of ours, if somebody living does, as far as one look tells. */
export async function livingOwner(folder: string): Promise<Owner | undefined> {
  const file = ownerFile(folder);
  const [owner, found] = [await ownerOf(file), await stat(file).catch(() => undefined)];
  if (!owner || !found) return undefined;
  return (lives(owner) ?? Math.abs(Date.now() - found.mtimeMs) < STALE_MS) ? owner : undefined;
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

async function ownerOf(file: string): Promise<Owner | undefined> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as Owner;
  } catch {
    return undefined;
  }
}

/** When a file was last seen to change, on the monotonic clock: wall clocks jump. */
const seen = new Map<string, { mtimeMs: number; since: number }>();

async function isAlive(file: string): Promise<boolean> {
  const [owner, found] = [await ownerOf(file), await stat(file).catch(() => undefined)];
  if (!found) return false;
  // A process that is certainly gone need not be waited for; one that lives may still have lost its way.
  if (owner && lives(owner) === false) return false;
  const before = seen.get(file);
  if (before?.mtimeMs === found.mtimeMs) return performance.now() - before.since < STALE_MS;
  seen.set(file, { mtimeMs: found.mtimeMs, since: performance.now() });
  return true;
}

async function create(file: string, owner: Owner): Promise<boolean> {
  try {
    const handle = await open(file, "wx", 0o600);
    try {
      await handle.writeFile(`${JSON.stringify(owner)}\n`).finally(() => handle.close());
    } catch (error) {
      // On a full disk an empty file is made, which would keep everybody out.
      await rm(file, { force: true });
      throw error;
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** One process at a time replaces a stale file: it holds a folder meanwhile, since making one is all or nothing. */
async function replaceStale(file: string, owner: Owner): Promise<boolean> {
  const guard = `${file}.takeover`;
  try {
    await mkdir(guard, { mode: 0o700 });
  } catch {
    const found = await stat(guard).catch(() => undefined);
    if (found && Date.now() - found.mtimeMs > STALE_MS) await rmdir(guard).catch(() => {});
    return false;
  }
  try {
    if (await isAlive(file)) return false;
    await rm(file, { force: true });
    return await create(file, owner);
  } finally {
    await rmdir(guard).catch(() => {});
  }
}
