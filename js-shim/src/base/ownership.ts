/**
 * Who brings a state directory's journal to the disk: one process owns it. Any other tells the owner what it hears, and
 * takes the journal over where the owner is gone.
 */

import { HostFiles } from "./host-files.js";
import { Lease, self } from "./lease.js";
import { spoolNames, writerLives } from "./spool.js";
import type { Engine } from "./wasm.js";

/** How this process stands to the journal. */
export type Standing = "memory" | "owner" | "spool";

/** See above. */
export class Ownership {
  readonly #folder: string | undefined;
  readonly #role: string;
  #lease: Lease | undefined;
  standing: Standing = "memory";

  /** Without a folder everything lives as long as the process. */
  constructor(folder: string | undefined, role: string) {
    this.#folder = folder;
    this.#role = role;
  }

  /** Takes the journal, or finds out that another process has it. Throws nothing. */
  take(): void {
    if (this.#folder === undefined) return;
    try {
      this.#lease = Lease.take(this.#folder, this.#role);
      this.standing = this.#lease ? "owner" : "spool";
    } catch {
      // Nobody else can own a folder that cannot be written; what is in it can be read. The first change says why.
      this.standing = "owner";
    }
  }

  /** Takes the journal over where its owner is gone; whether it did. @throws what the file system says */
  takeOver(): boolean {
    if (this.standing !== "spool") return false;
    this.#lease = Lease.take(this.#folder ?? "", this.#role);
    if (!this.#lease) return false;
    this.standing = "owner";
    return true;
  }

  /** Lets a fresh engine go on with the folder's files. */
  open(engine: Engine, wall: number, mono: number): void {
    if (this.standing === "owner") engine.open(this.#files(), wall, mono);
    else if (this.standing === "spool") this.#spool(engine);
  }

  /** Another process has the journal: from here on it is told, first what it cannot know. */
  lose(engine: Engine): void {
    this.#lease = undefined;
    this.standing = "spool";
    this.#spool(engine);
  }

  /** Whether the journal is still this process's, asking the disk only where it was held up for long enough to lose it. */
  get isHeld(): boolean {
    return this.standing !== "owner" || this.#lease?.isHeld() !== false;
  }

  /** The same, asking the disk. */
  get isHeldForCertain(): boolean {
    return this.standing !== "owner" || this.#lease?.isHeldSync() !== false;
  }

  /** The journal is free for others. @throws what the file system says */
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

  /** The engine is about to write. @throws where the folder cannot be written, or was taken by another process meanwhile */
  readonly #owns = (): boolean => {
    this.#lease ??= Lease.take(this.#folder ?? "", this.#role);
    if (!this.#lease) throw new Error("another process owns the folder");
    return this.#lease.isHeld();
  };
}

/** Writes what a engine was told into a file for the process that owns the folder. @throws why it could not be */
export function spoolInto(folder: string, engine: Engine): void {
  engine.becomeSpool(new HostFiles(folder), ...spoolNames(self("gateway")));
}
