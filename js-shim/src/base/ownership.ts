/**
 * Ownership of a state directory's journal. One process owns and writes it. Other processes spool their events for the
 * owner, and take the journal over if the owner ends.
 */

import { HostFiles } from "./host-files.js";
import { Lease, self } from "./lease.js";
import { spoolNames, writerLives } from "./spool.js";
import type { Engine } from "./wasm.js";

/** This process's relation to the journal: it has none, owns it, or spools for its owner. */
export type Standing = "memory" | "owner" | "spool";

/** This process's ownership of a journal. */
export class Ownership {
  readonly #folder: string | undefined;
  readonly #role: string;
  #lease: Lease | undefined;
  standing: Standing = "memory";

  /** Without a folder everything stays in memory. */
  constructor(folder: string | undefined, role: string) {
    this.#folder = folder;
    this.#role = role;
  }

  /** Takes the journal, or spools if another process owns it. Throws nothing. */
  take(): void {
    if (this.#folder === undefined) return;
    try {
      this.#lease = Lease.take(this.#folder, this.#role);
      this.standing = this.#lease ? "owner" : "spool";
    } catch {
      // No other process can own a folder that cannot be written, and its files may be readable. The first write
      // reports the error.
      this.standing = "owner";
    }
  }

  /** Takes the journal over if its owner ended. Returns whether it did. @throws the file system's error */
  takeOver(): boolean {
    if (this.standing !== "spool") return false;
    this.#lease = Lease.take(this.#folder ?? "", this.#role);
    if (!this.#lease) return false;
    this.standing = "owner";
    return true;
  }

  /** Opens the folder's files in a new engine. */
  open(engine: Engine, wall: number, mono: number): void {
    if (this.standing === "owner") engine.open(this.#files(), wall, mono);
    else if (this.standing === "spool") this.#spool(engine);
  }

  /** Handles the loss of the journal to another process: spools from now on, unwritten frames first. */
  lose(engine: Engine): void {
    this.#lease = undefined;
    this.standing = "spool";
    this.#spool(engine);
  }

  /** Whether this process still owns the journal. Reads the file only if the last heartbeat is late. */
  get isHeld(): boolean {
    return this.standing !== "owner" || this.#lease?.isHeld() !== false;
  }

  /** Whether this process still owns the journal. Reads the file. */
  get isHeldForCertain(): boolean {
    return this.standing !== "owner" || this.#lease?.isHeldSync() !== false;
  }

  /** Releases the journal for other processes. @throws the file system's error */
  release(): void {
    this.#lease?.release();
    this.#lease = undefined;
  }

  #files(): HostFiles {
    return new HostFiles(this.#folder ?? "", this.#owns, writerLives);
  }

  #spool(engine: Engine): void {
    engine.becomeSpool(this.#files(), ...spoolNames(self(this.#role)));
  }

  /** Whether the engine may write. @throws if the folder cannot be written, or another process has taken it */
  readonly #owns = (): boolean => {
    this.#lease ??= Lease.take(this.#folder ?? "", this.#role);
    if (!this.#lease) throw new Error("another process owns the folder");
    return this.#lease.isHeld();
  };
}

/** Makes an engine spool its frames for the folder's owner. */
export function spoolInto(folder: string, engine: Engine): void {
  engine.becomeSpool(new HostFiles(folder), ...spoolNames(self("gateway")));
}
