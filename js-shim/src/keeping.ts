/**
 * Brings what the core wants kept to the disk, off the hook path, and back into a fresh core. One process owns the
 * journal; any other tells the owner what it sees, and takes over where the owner is gone.
 */

import { BEAT_MS } from "./beat.js";
import { type Change, type Disk, FolderDisk, MemoryDisk } from "./disk.js";
import { Lease, self } from "./lease.js";
import type { Log } from "./pipeline.js";
import { reason, withDeadline } from "./promises.js";
import { LOOK_MS, SpoolDisk, takeSpools } from "./spool.js";
import type { Core } from "./wasm.js";

/**
 * How long changes are gathered before they are written, in ms; and those that nobody waits for, since without them a
 * call would only be sent again under its guard: they go with the next others.
 */
export const GATHER_MS = { told: BEAT_MS, left: 1_000 };
/** What is due this soon is done now, in ms: timers fire a moment early or late. */
const SOON_MS = 20;
/** A disk that takes longer is taken for one that failed, in ms. */
const DISK_DEADLINE_MS = 30_000;
/** How often a file that cannot be read is tried again. */
const READ_TRIES = 12;
/** How many files of the journal that cannot be read are named. */
const MOST_NAMED = 5;
/** How long a disk that failed is left alone, in ms. */
const DISK_PAUSE_MS = 5_000;

/** What the keeping needs of the pipeline. */
export interface Keeper {
  /** Hands over what still waits for its turn. */
  drain(): void;
  /** Runs something in the core; false where that went wrong. */
  run(work: (core: Core) => void): boolean;
  /** Something may be due now: the disk failed, or others told something. */
  advance(): void;
  /** Something may be sent now: changes are written, or were read back. */
  goOn(): void;
  /** Lets `beat` be called within so many ms. */
  within(ms: number): void;
  /** The journal is this process's, or is no more: the core is to be made anew. */
  remake(): void;
  log: Log;
  wall(): number;
  mono(): number;
}

/** How this process stands to the journal. */
export type Standing = "memory" | "owner" | "spool";

/** One process's part in the journal of a folder. */
export class Keeping {
  readonly #keeper: Keeper;
  readonly #folder: string | undefined;
  readonly #role: string;
  #disk: Disk = new MemoryDisk();
  #lease: Lease | undefined;
  #upto = 0;
  #hasChanges = false;
  /** When changes are to be written, in ms of the monotonic clock. */
  #dueAt = Number.POSITIVE_INFINITY;
  /** The last write, under way or done. */
  #writing: Promise<void> | undefined;
  /** How many writes are under way. */
  #writes = 0;
  /** Tells whoever heard the events that stand in what was collected last that they are kept. */
  #acknowledge = (): void => {};
  #lookTimer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #failedAt: number | undefined;
  #unread = 0;
  /** Whether a disk that failed is being tried again. */
  #isTried = false;
  #isLoading = false;
  /** Files of others that could not be read at the last look. */
  #faults: ReadonlySet<string> = new Set();
  /** Why the folder could not be written when it was to be taken over: it is tried again. */
  #closedBecause: string | undefined;
  #saidFull = false;
  standing: Standing = "memory";
  #attic: string | undefined;

  /** Without a folder everything lives as long as the process. */
  constructor(keeper: Keeper, folder: string | undefined, role: string) {
    this.#keeper = keeper;
    this.#folder = folder;
    this.#role = role;
  }

  /** Takes the journal over, or finds out who has it. Never throws: without a disk it goes on in memory. */
  async open(): Promise<void> {
    if (!this.#folder) return;
    try {
      this.#lease = await Lease.take(this.#folder, this.#role);
      this.standing = this.#lease ? "owner" : "spool";
    } catch (error) {
      // Nobody else can own a folder that cannot be written; what is in it can be read.
      this.#closedBecause = reason(error);
      this.standing = "owner";
    }
    this.#disk =
      this.standing === "owner"
        ? new FolderDisk(`${this.#folder}/journal`, this.#attic)
        : new SpoolDisk(this.#folder, self(this.#role));
    process.once("exit", this.#atExit);
    this.#lookTimer = setInterval(() => void this.#look(), LOOK_MS);
    this.#lookTimer.unref();
  }

  /** From here on segments that are given up go into that folder, for one who follows the journal. */
  keepGivenUp(attic: string | undefined): void {
    this.#attic = attic;
    if (this.#disk instanceof FolderDisk) this.#disk.attic = attic;
  }

  /** Fills a fresh core with what is kept. */
  restore(core: Core): void {
    if (this.standing === "spool") return core.becomeSpool();
    for (const file of this.#disk.names()) core.recover(file, this.#disk.bytes(file));
    if (this.#disk instanceof FolderDisk)
      for (const fault of this.#disk.faults().slice(0, MOST_NAMED)) this.#keeper.log.warn(fault);
    core.recovered(this.#keeper.wall(), this.#keeper.mono());
    if (core.survivesPowerCut() && this.#disk instanceof FolderDisk) this.#disk.survivePowerCuts();
    if (this.#closedBecause !== undefined) {
      this.#failedAt ??= this.#keeper.mono();
      core.diskFailed(this.#closedBecause, this.#keeper.wall(), this.#keeper.mono());
    }
  }

  /** Whether this process may have lost the journal, and is to send nothing until that is known. */
  get isDoubtful(): boolean {
    return this.standing === "owner" && this.#lease?.isDoubtful === true;
  }

  /** Finds out whether the journal is still this process's, and steps back where it is not. */
  async confirm(): Promise<void> {
    if (this.#lease && !(await this.#lease.isHeld())) await this.#lose();
  }

  /** What a status shows of it; dropped are observations that the owner, which reads nothing, will never be told. */
  status(): { standing: Standing; dropped_spool_full: number } {
    const dropped = this.#disk instanceof SpoolDisk ? this.#disk.dropped : 0;
    return { standing: this.standing, dropped_spool_full: dropped };
  }

  /** Takes the core's changes; they are written within so many ms, or at the next {@link Keeping.beat}. */
  collect(core: Core, withinMs = GATHER_MS.told): void {
    const writes = core.writes() as [number, ...Change[]] | undefined;
    if (!writes) return;
    const [upto, ...changes] = writes;
    this.#upto = upto;
    this.#disk.add(changes);
    if (this.standing === "memory") return core.written(upto);
    this.#hasChanges = true;
    this.#dueAt = Math.min(this.#dueAt, this.#keeper.mono() + withinMs);
    if (withinMs > SOON_MS) this.#keeper.within(withinMs);
  }

  /** Everything that was heard by now stands in what was collected: `acknowledge` is called when that is kept. */
  wasRead(acknowledge: () => void): void {
    this.#acknowledge = acknowledge;
    if (!this.#hasChanges && this.#writes === 0) acknowledge();
  }

  /** Writes what is to be written by now, or asks to be called again. */
  beat(): void {
    const waitMs = this.#dueAt - this.#keeper.mono();
    if (waitMs <= SOON_MS) void this.flush();
    else if (waitMs < Number.POSITIVE_INFINITY) this.#keeper.within(waitMs);
  }

  /** Writes what was collected. Never throws: a disk that fails is told to the core, and tried again later. */
  async flush(): Promise<void> {
    this.#dueAt = Number.POSITIVE_INFINITY;
    if (this.standing === "memory") return;
    // What was collected before may be on its way still.
    if (!this.#hasChanges) return this.#writing;
    if (this.#lease && !(await this.#lease.isHeld())) return this.#lose();
    this.#hasChanges = false;
    this.#writing = this.#write(this.#upto);
    await this.#writing;
  }

  async #write(upto: number): Promise<void> {
    // Behind a failure it is kept in memory: more cannot be had.
    const acknowledge = this.#acknowledge;
    this.#writes += 1;
    try {
      await withDeadline(this.#disk.flush(), DISK_DEADLINE_MS);
    } catch (error) {
      return this.#fail(error);
    } finally {
      this.#writes -= 1;
      acknowledge();
    }
    // What was given up by a failure meanwhile is not written; who only tells the owner gives nothing up.
    const isOwner = this.standing === "owner";
    if (isOwner && this.#failedAt !== undefined && !this.#isTried) return;
    this.#keeper.run((core) => {
      core.written(upto);
      if (isOwner && this.#failedAt !== undefined) core.diskMended(this.#keeper.wall(), this.#keeper.mono());
    });
    this.#failedAt = undefined;
    this.#isTried = false;
    if (this.status().dropped_spool_full > 0 && !this.#saidFull) {
      this.#saidFull = true;
      this.#keeper.log.warn(
        "the process that owns the journal has not read what this one sees for too long: model calls are lost; restart the gateway",
      );
    }
    this.#keeper.goOn();
  }

  /** Whether what is collected is on disk for whoever comes next. */
  get keeps(): boolean {
    return this.standing === "owner" && !this.hasFailed;
  }

  /** Whether the disk did not take what it was given last. */
  get hasFailed(): boolean {
    return this.#failedAt !== undefined;
  }

  /** Reads into memory what waits on disk, where there is room. */
  async load(): Promise<void> {
    let file: string | undefined;
    if (!this.#isLoading)
      this.#keeper.run((core) => {
        file = core.toLoad();
      });
    if (!file) return;
    this.#isLoading = true;
    const name = file;
    let bytes: Uint8Array;
    try {
      bytes = await this.#disk.read(name);
    } catch (error) {
      // It is there: it has its turn when it can be read, or is given up when it never can.
      return this.#unreadable(name, error);
    }
    this.#isLoading = false;
    this.#unread = 0;
    this.#keeper.run((core) => core.load(name, bytes, this.#keeper.wall(), this.#keeper.mono()));
    this.#keeper.goOn();
  }

  /** Waits a moment before the next file is read; one that stays unreadable is lost at last. */
  #unreadable(file: string, error: unknown): void {
    this.#unread += 1;
    if (this.#unread === 1) this.#keeper.log.warn(`${file} of the journal cannot be read (${reason(error)})`);
    const isLost = this.#unread > READ_TRIES;
    if (isLost) {
      this.#unread = 0;
      const empty = new Uint8Array();
      this.#keeper.run((core) => core.load(file, empty, this.#keeper.wall(), this.#keeper.mono()));
    }
    setTimeout(() => {
      this.#isLoading = false;
      this.#keeper.advance();
    }, DISK_PAUSE_MS).unref();
  }

  /** Does at once what stands between what was seen and its sending. */
  async prepare(): Promise<void> {
    await this.confirm();
    await this.flush();
    await this.load();
  }

  /** Ends: what is collected is written, and the journal is free for others. */
  async close(): Promise<void> {
    clearInterval(this.#lookTimer);
    await this.#looking;
    await this.flush();
    process.off("exit", this.#atExit);
    await this.#disk.close().catch(() => {});
    await this.#lease?.release().catch(() => {});
  }

  readonly #atExit = (): void => {
    try {
      this.finishSync();
    } catch (error) {
      this.#keeper.log.warn(`the journal could not be written at the end (${reason(error)})`);
    }
  };

  /**
   * Brings everything to the disk at once, for a process that ends, and lets the journal go.
   *
   * @throws what the file system says
   */
  finishSync(): void {
    try {
      // What came in this turn of the event loop has no other turn.
      this.#keeper.drain();
      // A journal that another process took over is not ours to write to.
      if (this.#lease && !this.#lease.isHeldSync()) this.#toSpool();
      else this.#keeper.run((core) => this.collect(core));
      this.#disk.flushSync();
      this.#acknowledge();
    } finally {
      this.#lease?.releaseSync();
    }
  }

  #fail(error: unknown): void {
    this.#failedAt = this.#keeper.mono();
    this.#isTried = false;
    if (this.standing === "spool") {
      // Everything is kept, and tried again with what comes next.
      this.#hasChanges = true;
      this.#keeper.log.warn(`what the journal's owner is to be told cannot be written (${reason(error)})`);
      return;
    }
    this.#disk.giveUp();
    this.#keeper.run((core) => core.diskFailed(reason(error), this.#keeper.wall(), this.#keeper.mono()));
    this.#keeper.advance();
  }

  /** What the owner does now and then, and what the others do to become it. */
  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = this.#lookOnce().catch((error) => {
      this.#keeper.log.warn(`the journal's folder cannot be looked at (${reason(error)})`);
    });
    await this.#looking;
    this.#looking = undefined;
  }

  async #lookOnce(): Promise<void> {
    const folder = this.#folder ?? "";
    if (this.standing === "spool") {
      if (this.#failedAt !== undefined) await this.flush();
      return this.#takeOver(folder);
    }
    await this.confirm();
    if (this.standing !== "owner") return;
    if (this.#failedAt !== undefined && this.#keeper.mono() - this.#failedAt > DISK_PAUSE_MS)
      await this.#tryDisk(folder);
    const taker = {
      run: (work: (core: Core) => void) => this.#keeper.run(work),
      keep: async () => {
        this.#keeper.run((core) => this.collect(core));
        await this.flush();
        return this.standing === "owner" && !this.hasFailed;
      },
    };
    if (this.#failedAt !== undefined) return;
    const { something, faults } = await takeSpools(folder, taker);
    this.#say(faults);
    if (something) this.#keeper.advance();
  }

  /** Each fault is told once, and again when it has been away. */
  #say(faults: readonly string[]): void {
    for (const fault of faults) if (!this.#faults.has(fault)) this.#keeper.log.warn(fault);
    this.#faults = new Set(faults);
  }

  /** Tries a disk again that failed. */
  async #tryDisk(folder: string): Promise<void> {
    this.#failedAt = this.#keeper.mono();
    if (!this.#lease) {
      const lease = await Lease.take(folder, this.#role).catch(() => undefined);
      // Another process may have come first: this one goes on from memory.
      if (!lease) return;
      this.#lease = lease;
      this.#closedBecause = undefined;
    }
    this.#isTried = true;
    this.#keeper.run((core) => {
      core.tryDisk();
      this.collect(core);
    });
    await this.flush();
  }

  async #takeOver(folder: string): Promise<void> {
    const lease = await Lease.take(folder, this.#role);
    if (!lease) return;
    // What this process told the former owner lies in a file that it now reads itself.
    this.#keeper.run((core) => this.collect(core));
    await this.flush();
    await this.#disk.close();
    this.#lease = lease;
    this.#disk = new FolderDisk(`${folder}/journal`, this.#attic);
    this.standing = "owner";
    this.#keeper.log.info("the journal is this process's now");
    this.#keeper.remake();
  }

  /** This process was held up for so long that another one took the journal over. */
  async #lose(): Promise<void> {
    if (this.standing !== "owner") return;
    this.#keeper.log.warn("another process took the journal over; it is told what this one sees");
    await this.#toSpool()
      .close()
      .catch(() => {});
    this.#keeper.remake();
    await this.flush();
  }

  /** From here on the other process is told; first what it cannot know, since it was not on disk yet. */
  #toSpool(): Disk {
    this.#keeper.run((core) => this.collect(core));
    const former = this.#disk;
    const facts = former.giveUp().filter(([file]) => file.startsWith("ledger-"));
    this.#disk = new SpoolDisk(this.#folder ?? "", self(this.#role));
    this.#disk.add(facts);
    this.#hasChanges = facts.length > 0;
    this.#lease = undefined;
    this.standing = "spool";
    return former;
  }
}
