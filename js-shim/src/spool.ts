/**
 * What processes that do not own a state directory tell the one that does: each appends to a file of its own, the
 * owner reads them all. A file's name says who writes it, and in which format.
 */

import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Change, Disk } from "./disk.js";
import { FolderDisk } from "./disk.js";
import { faultOf, isMissing, kindOf, openOwn, statsOf, Unchanged } from "./files.js";
import { isPid, lives, type Owner } from "./lease.js";
import type { Core } from "./wasm.js";

/** How often the owner looks, in ms. */
export const LOOK_MS = 1_000;
/** The most bytes that are taken in at once, so that the gateway is not held up. */
const MOST_AT_ONCE = 256 * 1024;
/** A writer on another host is gone when its file did not change for so long, in ms. */
const ABANDONED_MS = 3_600_000;
/** The most bytes of one writer's files; what comes beyond is lost, since nobody reads it. */
const MOST_BYTES = 16 * 1024 * 1024;
/** A writer begins a new file behind so many bytes. */
const FILE_BYTES = 1024 * 1024;
/** The most bytes that a writer keeps in memory for a disk that takes nothing. */
const MOST_PENDING = 8 * 1024 * 1024;
/** Beyond the longest frame; what is not whole within so many bytes never will be. */
const MOST_FRAME = 2 * 1024 * 1024;
/** The largest file that a writer can have made, generously. */
const MOST_FILE = 2 * MOST_BYTES;
/** How many files that cannot be read are named at a look. */
const MOST_NAMED = 5;
/** The format, in the files' names. */
const FORMAT = "v1";

/** The folder of these files. */
export function spoolFolder(folder: string): string {
  return join(folder, "spool");
}

/** A disk on which a process that does not own the journal has files of its own: what it tells the owner. */
export class SpoolDisk implements Disk {
  readonly #disk: FolderDisk;
  readonly #folder: string;
  readonly #self: Owner;
  /** What is not certainly on disk. */
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #number = 0;
  /** Bytes in the current file. */
  #bytes = 0;
  #flushing: Promise<void> | undefined;
  /** Observations that nobody will ever read. */
  dropped = 0;

  constructor(folder: string, self: Owner) {
    this.#folder = spoolFolder(folder);
    this.#disk = new FolderDisk(this.#folder);
    this.#self = self;
  }

  add(changes: readonly Change[]): void {
    for (const [, what, bytes] of changes) if (what === "append") this.#take(bytes as Uint8Array);
  }

  #take(bytes: Uint8Array): void {
    if (this.#pendingBytes + bytes.length > MOST_PENDING) {
      this.dropped += framesIn(bytes);
      return;
    }
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
  }

  async flush(): Promise<void> {
    while (this.#flushing) await this.#flushing.catch(() => {});
    this.#flushing = this.#flush().finally(() => {
      this.#flushing = undefined;
    });
    await this.#flushing;
  }

  async #flush(): Promise<void> {
    // More may come while these are written.
    const taken = this.#pending.length;
    if (taken === 0) return;
    const bytes = Buffer.concat(this.#pending);
    const held = await this.#held();
    if (held + bytes.length > MOST_BYTES) {
      this.#forget(taken);
      this.dropped += framesIn(bytes);
      return;
    }
    // A file that others follow is removed by the owner as soon as it is read.
    if (this.#bytes + bytes.length > FILE_BYTES && this.#bytes > 0) {
      this.#number += 1;
      this.#bytes = 0;
    }
    this.#disk.add([[this.#file, "append", bytes]]);
    // Where it fails everything stays pending: what arrived in part is cut off again.
    await this.#disk.flush();
    this.#bytes += bytes.length;
    this.#forget(taken);
    // The owner removes a file that it has read; a handle would write into the removed one.
    await this.#disk.close();
  }

  get #file(): string {
    return fileName(this.#self, this.#number);
  }

  /** Bytes of our files that the owner has not removed. */
  async #held(): Promise<number> {
    let bytes = 0;
    for (const name of await readdir(this.#folder).catch(() => []))
      if (writerOf(name)?.token === this.#self.token.slice(0, 8))
        bytes += (await stat(join(this.#folder, name)).catch(() => undefined))?.size ?? 0;
    return bytes;
  }

  #forget(count: number): void {
    this.#pending = this.#pending.slice(count);
    this.#pendingBytes = this.#pending.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  flushSync(): void {
    // What is under way is done again by the disk itself.
    if (this.#flushing) this.#disk.flushSync();
    else if (this.#pending.length > 0) {
      this.#disk.add([[this.#file, "append", Buffer.concat(this.#pending)]]);
      this.#disk.flushSync();
    }
    this.#pending = [];
  }
  names(): string[] {
    return [];
  }
  bytes(): Uint8Array {
    return new Uint8Array();
  }
  async read(): Promise<Uint8Array> {
    return new Uint8Array();
  }
  giveUp(): Change[] {
    return [];
  }
  async close(): Promise<void> {
    await this.#disk.close();
  }
}

/** How many frames stand in whole ones; see `crate/src/journal.rs`. */
function framesIn(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let count = 0;
  for (let at = 0; at + 10 <= bytes.length; at += 10 + view.getUint32(at + 2, true)) count += 1;
  return count;
}

/** What taking in needs of the keeping. */
export interface Taker {
  /** Hands the core over; false where that went wrong. */
  run(work: (core: Core) => void): boolean;
  /** Brings to the disk what was taken; whether that went well. */
  keep(): Promise<boolean>;
}

/** What came of a look. */
export interface Look {
  /** Whether there was something. */
  something: boolean;
  /** Files that cannot be read, and why. */
  faults: string[];
}

/** Since when files of the spool are as they are: see {@link Unchanged}. */
const unchanged = new Unchanged();

/**
 * Takes in what others wrote since the last look. A file is removed when it is read, what it said is on disk, and
 * nothing more is written to it: its writer is gone, or has begun another one. One that cannot be read holds up no other.
 */
export async function takeSpools(folder: string, taker: Taker): Promise<Look> {
  const path = spoolFolder(folder);
  const look: Look = { something: false, faults: [] };
  const names = await readdir(path).catch(() => []);
  unchanged.retain(new Set(names.map((name) => join(path, name))));
  const newest = new Map<string, number>();
  for (const { token, number } of names.flatMap((name) => writerOf(name) ?? []))
    newest.set(token, Math.max(number, newest.get(token) ?? 0));
  for (const name of names) {
    const writer = writerOf(name);
    if (!writer) continue;
    const isFollowed = (newest.get(writer.token) ?? 0) > writer.number;
    try {
      look.something = (await takeSpool(join(path, name), name, writer, isFollowed, taker)) || look.something;
    } catch (error) {
      look.faults.push(`${faultOf(join(path, name), error)}: it is left out; remove it`);
    }
  }
  const more = look.faults.splice(MOST_NAMED).length;
  if (more > 0) look.faults.push(`${path} holds ${more} more such files`);
  return look;
}

/** @throws what is wrong with the file */
async function takeSpool(
  path: string,
  name: string,
  writer: Writer,
  isFollowed: boolean,
  { run, keep }: Taker,
): Promise<boolean> {
  // Asked before the file is read: a writer that is gone by then writes nothing behind that.
  const found = statsOf(path);
  const kind = found && kindOf(found);
  if (kind) throw new Error(`${path} is ${kind}, not a file`);
  if (found && found.size > MOST_FILE)
    throw new Error(`${path} holds ${found.size} bytes, more than any process writes`);
  const isAbandoned = found !== undefined && unchanged.ms(path, found) > ABANDONED_MS;
  const isDone = isFollowed || (lives(writer) ?? !isAbandoned) === false;
  let most = MOST_AT_ONCE;
  for (let something = false; ; ) {
    let from = 0;
    let taken = 0;
    if (!run((core) => (from = core.spoolOffset(name)))) return something;
    const bytes = await read(path, from, most);
    const isWell = run((core) => {
      taken = core.takeSpool(name, bytes, Date.now(), performance.now());
    });
    if (!isWell) return something;
    if (taken > 0) something = true;
    else if (bytes.length === most && most < MOST_FRAME) most = MOST_FRAME;
    else if (!isDone || !(await keep())) return something;
    else {
      await rm(path, { force: true });
      run((core) => core.forgetSpool(name, bytes.length > 0));
      return true;
    }
  }
}

/** Empty where the file is gone. */
async function read(path: string, from: number, most: number): Promise<Uint8Array> {
  const handle = await openOwn(path, "read").catch((error) => {
    if (!isMissing(error)) throw error;
  });
  if (!handle) return new Uint8Array();
  try {
    const buffer = new Uint8Array(most);
    const { bytesRead } = await handle.read(buffer, 0, most, from);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** Who writes a file, and which of its files it is. */
interface Writer extends Pick<Owner, "pid" | "host" | "started" | "token"> {
  number: number;
}

function fileName({ pid, host, started, token }: Owner, number: number): string {
  return [FORMAT, pid, started, token.slice(0, 8), number, encodeURIComponent(host)].join("_");
}

function writerOf(name: string): Writer | undefined {
  const [format, pid, started, token, number, ...host] = name.split("_");
  if (format !== FORMAT || !token || !isPid(Number(pid)) || !Number.isSafeInteger(Number(number)))
    return undefined;
  try {
    const named = { token, number: Number(number), host: decodeURIComponent(host.join("_")) };
    return { pid: Number(pid), started: Number(started), ...named };
  } catch {
    // A name of somebody else's making.
    return undefined;
  }
}
