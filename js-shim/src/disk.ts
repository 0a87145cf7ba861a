/** The folder of the journal: changes are gathered, and done in order off the hook path. */

import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { type FileHandle, mkdir, open, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import {
  faultOf,
  isMissing,
  kindOf,
  MOST_BYTES,
  makeFolder,
  moveFolderAside,
  openOwn,
  openOwnSync,
  readOwn,
  readOwnSync,
  replaceOwn,
  replaceOwnSync,
  statsOf,
  writeAllSync,
} from "./files.js";

/** Segments of calls and of other records. */
const SEGMENT = /^(?:model-calls|records)-/;
/** What the ledger saw. */
const LEDGER = /^ledger-/;

/** A change of one file, as the core asks for it; see `crate/src/files.rs`. */
export type Change = [file: string, what: "append" | "replace" | "rename" | "delete", with_: unknown];

/** How often a file that is held open is asked whether it is still there, in ms. */
const ASK_EVERY_MS = 1_000;

/** Where the journal's files are. */
export interface Disk {
  /** Adds changes; the next flush does them. */
  add(changes: readonly Change[]): void;
  /** Does all changes that were added. @throws what the file system says; all that are not done are given up then. */
  flush(): Promise<void>;
  /** The same at once, for a process that ends. */
  flushSync(): void;
  /** Names of all files, in order, as they are when all changes are done. */
  names(): string[];
  /** A file's bytes, likewise; empty where it is not there. */
  bytes(file: string): Uint8Array;
  /**
   * A file's bytes, as they are when all changes are done; empty where it is not there.
   *
   * @throws what the file system says where it is there and cannot be read
   */
  read(file: string): Promise<Uint8Array>;
  /** The changes that are not certainly done, which are not done any more then. */
  giveUp(): Change[];
  /** Gives back what is open. */
  close(): Promise<void>;
}

/** Without a folder: the journal lives as long as the process. */
export class MemoryDisk implements Disk {
  #files = new Map<string, Uint8Array[]>();

  add(changes: readonly Change[]): void {
    for (const change of changes) apply(this.#files, change);
  }
  async flush(): Promise<void> {}
  flushSync(): void {}
  names(): string[] {
    return [...this.#files.keys()].sort();
  }
  bytes(file: string): Uint8Array {
    return Buffer.concat(this.#files.get(file) ?? []);
  }
  async read(file: string): Promise<Uint8Array> {
    return this.bytes(file);
  }
  giveUp(): Change[] {
    return [];
  }
  async close(): Promise<void> {}
}

/** A folder. */
export class FolderDisk implements Disk {
  readonly #folder: string;
  /** Where segments go that are given up, if not away. The folder is there. */
  attic: string | undefined;
  #isDurable = false;
  #added: Change[] = [];
  #underWay: Change[] = [];
  #flushing: Promise<void> | undefined;
  /** Deletions that a failure left undone: nobody asks for them again, and a process that finds the files reads them. */
  #owed: Change[] = [];
  /** The file that could not be opened. */
  #blocked: string | undefined;
  #handles = new Map<string, { file: FileHandle; askedAt: number }>();
  /** How many bytes of a file were certainly written by us: those of a change under way may be there in part. */
  #sizes = new Map<string, number>();

  /** The folder is made by the first flush, wherever it is missing. */
  constructor(folder: string, attic?: string) {
    this.#folder = folder;
    this.attic = attic;
  }

  /** From here on each flush is to survive a power cut. */
  survivePowerCuts(): void {
    this.#isDurable = true;
  }

  add(changes: readonly Change[]): void {
    this.#added.push(...changes);
  }

  async flush(): Promise<void> {
    while (this.#flushing) await this.#flushing.catch(() => {});
    if (this.#added.length === 0) return;
    this.#underWay = merged(this.#added);
    this.#added = [];
    this.#flushing = this.#write(this.#underWay).finally(() => {
      this.#flushing = undefined;
      this.#underWay = [];
    });
    await this.#flushing;
  }

  flushSync(): void {
    // What is under way is done again, behind what was certainly there before it.
    const changes = merged([...this.#underWay, ...this.#added]);
    this.#added = [];
    if (changes.length > 0) makeFolder(this.#folder);
    for (const [file, what] of this.#underWay) if (what === "append") this.#cutSync(file);
    for (const change of changes) this.#doSync(change);
  }

  giveUp(): Change[] {
    const pending = this.#pending();
    this.#makeWay();
    this.#giveUpAdded();
    return pending;
  }

  names(): string[] {
    const found = new Map<string, Uint8Array[]>(this.#onDisk().map((file) => [file, []]));
    for (const change of this.#pending()) apply(found, change);
    return [...found.keys()].sort();
  }

  bytes(file: string): Uint8Array {
    const files = new Map<string, Uint8Array[]>();
    const own = this.#pending().filter(([of, what, to]) => of === file || (what === "rename" && to === file));
    files.set(file, [this.#certain(file)]);
    for (const change of own) apply(files, change);
    return Buffer.concat(files.get(file) ?? []);
  }

  async read(file: string): Promise<Uint8Array> {
    // A core that was made anew asks for what its predecessor had written, and the disk may not have yet.
    if (this.#pending().some(([of]) => of === file)) return this.bytes(file);
    return readOwn(join(this.#folder, file)).catch((error) => {
      unlessMissing(error);
      return new Uint8Array();
    });
  }

  async close(): Promise<void> {
    for (const file of [...this.#handles.keys()]) await this.#forget(file);
  }

  /** A folder that stood where a file is to be does not stand there when the disk is tried again. */
  #makeWay(): void {
    const path = this.#blocked;
    this.#blocked = undefined;
    try {
      if (path) moveFolderAside(path);
    } catch {
      // The next try fails again, and says so.
    }
  }

  #pending(): Change[] {
    return [...this.#underWay, ...this.#added];
  }

  /** What of the folder cannot be read, and why: it counts for absent. */
  faults(): string[] {
    return this.#all().flatMap((name) => {
      const fault = this.#faultOf(name);
      return fault
        ? `${fault}: it is left out; see that it is a file of the gateway's user, or remove it`
        : [];
    });
  }

  #onDisk(): string[] {
    return this.#all().filter((name) => !this.#faultOf(name));
  }

  #all(): string[] {
    try {
      return readdirSync(this.#folder).filter((name) => !name.endsWith(".new"));
    } catch {
      return [];
    }
  }

  #faultOf(name: string): string | undefined {
    const path = join(this.#folder, name);
    const found = statsOf(path);
    if (!found) return undefined;
    const kind = kindOf(found);
    if (kind) return `${path} is ${kind}, not a file`;
    if (found.size > MOST_BYTES) return `${path} holds ${found.size} bytes, more than any process writes`;
    try {
      accessSync(path, constants.R_OK);
      return undefined;
    } catch (error) {
      return isMissing(error) ? undefined : faultOf(path, error);
    }
  }

  /** What is certainly there, without what a change under way may have added. */
  #certain(file: string): Uint8Array {
    try {
      const bytes = readOwnSync(join(this.#folder, file));
      const size = this.#sizes.get(file);
      return this.#underWay.some(([of]) => of === file) ? bytes.subarray(0, size ?? 0) : bytes;
    } catch {
      return new Uint8Array();
    }
  }

  async #write(changes: readonly Change[]): Promise<void> {
    let done = 0;
    try {
      for (; done < changes.length; done += 1) await this.#do(changes[done] as Change);
      // What replaces these files is there by now.
      for (let owed = this.#owed[0]; owed; owed = this.#owed[0]) {
        await this.#do(owed);
        this.#owed.shift();
      }
    } catch (error) {
      this.#owe(changes.slice(done));
      // What was added meanwhile stands behind what failed.
      this.#giveUpAdded();
      await this.close().catch(() => {});
      throw error;
    }
  }

  #giveUpAdded(): void {
    this.#owe(this.#added);
    this.#added = [];
  }

  #owe(changes: readonly Change[]): void {
    this.#owed.push(...changes.filter(([, what]) => what === "delete"));
  }

  async #do([file, what, with_]: Change): Promise<void> {
    const path = join(this.#folder, file);
    if (what === "append") return this.#append(file, with_ as Uint8Array);
    await this.#forget(file);
    if (what === "delete") {
      const kept = this.#kept(file);
      moveFolderAside(path);
      const gone = kept ? rename(path, kept) : unlink(path);
      return void (await gone.catch(unlessMissing));
    }
    if (what === "rename") return rename(path, join(this.#folder, String(with_))).catch(unlessMissing);
    await this.#makeFolder();
    await replaceOwn(path, with_ as Uint8Array, this.#isDurable);
    if (this.#isDurable) await this.#syncFolder();
    this.#sizes.set(file, (with_ as Uint8Array).length);
  }

  async #append(file: string, bytes: Uint8Array): Promise<void> {
    const handle = await this.#held(file);
    const size = this.#sizes.get(file) ?? 0;
    try {
      for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
      if (this.#isDurable) await handle.datasync();
    } catch (error) {
      // A part of it helps nobody, least of all a full disk.
      await handle.truncate(size).catch(() => {});
      throw error;
    }
    this.#sizes.set(file, size + bytes.length);
  }

  /** A file that is appended to, which stays open. */
  async #held(file: string): Promise<FileHandle> {
    const now = performance.now();
    let held = this.#handles.get(file);
    if (!held) {
      await this.#makeFolder();
      const path = join(this.#folder, file);
      this.#blocked = path;
      held = { file: await openOwn(path, "append"), askedAt: now };
      this.#blocked = undefined;
      this.#handles.set(file, held);
      this.#sizes.set(file, (await held.file.stat()).size);
    }
    if (now - held.askedAt > ASK_EVERY_MS) {
      held.askedAt = now;
      // A removed file would take everything, and nobody would ever see it again.
      if ((await held.file.stat()).nlink === 0) throw new Error("the journal's folder was removed");
    }
    return held.file;
  }

  /** The folder is made wherever it is missing; who holds a file open finds out by that file. */
  async #makeFolder(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 }).catch(() => makeFolder(this.#folder));
  }

  /** Cuts off what a change under way may have added. */
  #cutSync(file: string): void {
    const size = this.#sizes.get(file);
    if (size === undefined) return;
    let handle: number;
    try {
      handle = openOwnSync(join(this.#folder, file), "change");
    } catch {
      // It is not there: nothing was added.
      return;
    }
    try {
      ftruncateSync(handle, size);
    } finally {
      closeSync(handle);
    }
  }

  /** Where a segment goes that is given up. Numbers of segments come back, so that its time is a part of its name. */
  #kept(file: string): string | undefined {
    return this.attic && SEGMENT.test(file) ? join(this.attic, `${Date.now()}-${file}`) : undefined;
  }

  async #forget(file: string): Promise<void> {
    this.#sizes.delete(file);
    const handle = this.#handles.get(file);
    this.#handles.delete(file);
    await handle?.file.close();
  }

  async #syncFolder(): Promise<void> {
    const folder = await open(this.#folder, "r");
    await folder.sync().finally(() => folder.close());
  }

  #doSync([file, what, with_]: Change): void {
    const path = join(this.#folder, file);
    if (what === "replace") return replaceOwnSync(path, with_ as Uint8Array, this.#isDurable);
    if (what === "append") {
      moveFolderAside(path);
      const handle = openOwnSync(path, "append");
      try {
        writeAllSync(handle, with_ as Uint8Array);
        if (this.#isDurable) fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
      return;
    }
    if (what === "delete") moveFolderAside(path);
    const kept = what === "delete" && this.#kept(file);
    if (what === "delete" && !kept) return rmSync(path, { force: true });
    try {
      renameSync(path, kept || join(this.#folder, String(with_)));
    } catch (error) {
      unlessMissing(error as NodeJS.ErrnoException);
    }
  }
}

/**
 * Appends to a file as one: a flush is one write a file. What was seen of a call is written before the call, however
 * many rounds of the core are in it: who finds the call alone would count its row in the session store as another one.
 */
function merged(changes: readonly Change[]): Change[] {
  const list: Change[] = [];
  const parts = new Map<string, Uint8Array[]>();
  /** Where the appends begin that may still be joined. */
  let first = 0;
  for (const change of changes) {
    const [file, what, with_] = change;
    const open = parts.get(file);
    if (what === "append" && open) {
      open.push(with_ as Uint8Array);
      continue;
    }
    if (what === "append") {
      const joined = [with_ as Uint8Array];
      parts.set(file, joined);
      list.splice(LEDGER.test(file) ? first : list.length, 0, [file, what, joined]);
      continue;
    }
    parts.clear();
    list.push(change);
    first = list.length;
  }
  return list.map(([file, what, with_]) => [file, what, what === "append" ? whole(with_) : with_]);
}

function whole(parts: unknown): Uint8Array {
  const list = parts as Uint8Array[];
  return list.length === 1 && list[0] ? list[0] : Buffer.concat(list);
}

function apply(files: Map<string, Uint8Array[]>, [file, what, with_]: Change): void {
  const known = files.get(file);
  if (what === "append" && known) known.push(with_ as Uint8Array);
  else if (what === "append") files.set(file, [with_ as Uint8Array]);
  else if (what === "replace") files.set(file, [with_ as Uint8Array]);
  else if (what === "rename") files.set(String(with_), files.get(file) ?? []);
  if (what === "rename" || what === "delete") files.delete(file);
}

function unlessMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}
