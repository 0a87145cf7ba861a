/**
 * What processes that do not own a state directory tell the one that does: each appends to a file of its own, the
 * owner reads them all. A file's name says who writes it, and in which format.
 */

import { mkdirSync } from "node:fs";
import { open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Change, Disk } from "./disk.js";
import { FolderDisk } from "./disk.js";
import { lives, type Owner } from "./lease.js";
import type { Core } from "./wasm.js";

/** How often the owner looks, in ms. */
export const LOOK_MS = 1_000;
/** The most bytes that are taken in at once, so that the gateway is not held up. */
const MOST_AT_ONCE = 256 * 1024;
/** A writer on another host is gone when its file did not change for so long, in ms. */
const ABANDONED_MS = 3_600_000;
/** The most bytes of one writer's file; what comes beyond is lost, since nobody reads it. */
const MOST_BYTES = 16 * 1024 * 1024;
/** The format, in the files' names. */
const FORMAT = "v1";

/** The folder of these files. */
export function spoolFolder(folder: string): string {
  return join(folder, "spool");
}

/** A disk on which a process that does not own the journal has one file: what it tells the owner. */
export class SpoolDisk implements Disk {
  readonly #disk: FolderDisk;
  readonly #file: string;
  #bytes = 0;

  /** @throws what the file system says */
  constructor(folder: string, self: Owner) {
    mkdirSync(spoolFolder(folder), { recursive: true, mode: 0o700 });
    this.#disk = new FolderDisk(spoolFolder(folder));
    this.#file = fileName(self);
  }

  /** Whether the file is full: nobody has read it for long. */
  get isFull(): boolean {
    return this.#bytes > MOST_BYTES;
  }

  add(changes: readonly Change[]): void {
    for (const [, what, bytes] of changes) {
      if (what !== "append" || this.isFull) continue;
      this.#bytes += (bytes as Uint8Array).length;
      this.#disk.add([[this.#file, "append", bytes]]);
    }
  }
  async flush(): Promise<void> {
    await this.#disk.flush();
    // The owner removes a file that it has read; a handle would write into the removed one.
    await this.#disk.close();
  }
  flushSync(): void {
    this.#disk.flushSync();
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
  async close(): Promise<void> {
    await this.#disk.close();
  }
}

/**
 * Takes in what others wrote since the last look. A file is removed when it is read and its writer is gone.
 *
 * @param run hands the core over; false where that went wrong
 * @param keep writes what was taken to the journal; false where that went wrong
 * @returns whether there was something
 */
export async function takeSpools(
  folder: string,
  run: (work: (core: Core) => void) => boolean,
  keep: () => Promise<boolean>,
): Promise<boolean> {
  const path = spoolFolder(folder);
  let something = false;
  for (const name of await readdir(path).catch(() => [])) {
    const writer = writerOf(name);
    if (writer) something = (await takeSpool(join(path, name), name, writer, run, keep)) || something;
  }
  return something;
}

async function takeSpool(
  path: string,
  name: string,
  writer: Pick<Owner, "pid" | "host" | "started">,
  run: (work: (core: Core) => void) => boolean,
  keep: () => Promise<boolean>,
): Promise<boolean> {
  // Asked before the file is read: a writer that is gone by then writes nothing behind that.
  const found = await stat(path).catch(() => undefined);
  const isGone = lives(writer) === false || (found && Date.now() - found.mtimeMs > ABANDONED_MS);
  for (let something = false; ; something = true) {
    let from = 0;
    let taken = 0;
    if (!run((core) => (from = core.spoolOffset(name)))) return something;
    const bytes = await read(path, from);
    const isWell = run((core) => {
      taken = core.takeSpool(name, bytes, Date.now(), performance.now());
    });
    if (!isWell) return something;
    if (taken > 0) continue;
    // Until the journal has it, the file is all there is of it.
    if (!isGone || !(await keep())) return something;
    await rm(path, { force: true });
    run((core) => core.forgetSpool(name));
    return true;
  }
}

async function read(path: string, from: number): Promise<Uint8Array> {
  const handle = await open(path, "r").catch(() => undefined);
  if (!handle) return new Uint8Array();
  try {
    const buffer = new Uint8Array(MOST_AT_ONCE);
    const { bytesRead } = await handle.read(buffer, 0, MOST_AT_ONCE, from);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

function fileName({ pid, host, started, token }: Owner): string {
  return [FORMAT, pid, started, token.slice(0, 8), encodeURIComponent(host)].join("_");
}

function writerOf(name: string): Pick<Owner, "pid" | "host" | "started"> | undefined {
  const [format, pid, started, token, ...host] = name.split("_");
  if (format !== FORMAT || !token) return undefined;
  return { pid: Number(pid), started: Number(started), host: decodeURIComponent(host.join("_")) };
}
