/**
 * Brings what the core wants kept to the disk, off the hook path, and back into a fresh core. One process owns the
 * journal; any other tells the owner what it sees, and takes over where the owner is gone.
 */

import { type Change, type Disk, FolderDisk, MemoryDisk } from "./disk.js";
import { Lease, self } from "./lease.js";
import type { Log } from "./pipeline.js";
import { reason, withDeadline } from "./promises.js";
import { LOOK_MS, SpoolDisk, takeSpools } from "./spool.js";
import type { Core } from "./wasm.js";

/** How long changes are gathered before they are written, in ms. */
const GATHER_MS = 250;
/** A disk that takes longer is taken for one that failed, in ms. */
const DISK_DEADLINE_MS = 30_000;
/** How long a disk that failed is left alone, in ms. */
const DISK_PAUSE_MS = 5_000;

/** What the keeping needs of the pipeline. */
export interface Keeper {
  /** Runs something in the core; false where that went wrong. */
  run(work: (core: Core) => void): boolean;
  /** Something may be due now: changes are written, or the journal has another owner. */
  advance(): void;
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
  #flushTimer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();
  #lookTimer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #failedAt: number | undefined;
  #isLoading = false;
  standing: Standing = "memory";

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
      this.#disk = this.#lease
        ? new FolderDisk(`${this.#folder}/journal`)
        : new SpoolDisk(this.#folder, self(this.#role));
      this.standing = this.#lease ? "owner" : "spool";
    } catch (error) {
      this.#keeper.log.warn(
        `${this.#folder} cannot be used (${reason(error)}): what is not sent when the gateway stops is lost; make the folder writable`,
      );
      return;
    }
    process.once("exit", this.#atExit);
    this.#lookTimer = setInterval(() => void this.#look(), LOOK_MS);
    this.#lookTimer.unref();
  }

  /** Fills a fresh core with what is kept. */
  restore(core: Core): void {
    if (this.standing === "spool") return core.becomeSpool();
    for (const file of this.#disk.names()) core.recover(file, this.#disk.bytes(file));
    core.recovered(this.#keeper.wall(), this.#keeper.mono());
    if (core.survivesPowerCut() && this.#disk instanceof FolderDisk) this.#disk.survivePowerCuts();
  }

  /** Takes the core's changes; they are written a moment later. */
  collect(core: Core): void {
    const [upto, ...changes] = core.writes() as [number, ...Change[]];
    this.#upto = upto;
    if (changes.length > 0) this.#disk.add(changes);
    if (this.standing === "memory") return core.written(upto);
    if (changes.length === 0) return;
    this.#hasChanges = true;
    if (this.#flushTimer) return;
    this.#flushTimer = setTimeout(() => void this.flush(), GATHER_MS);
    this.#flushTimer.unref();
  }

  /** Writes what was collected. Never throws: a disk that fails is told to the core, and tried again later. */
  flush(): Promise<void> {
    // One after the other: who waits for it must not overtake a flush that is under way.
    this.#flushing = this.#flushing.then(() => this.#flushOnce()).catch((error) => this.#fail(error));
    return this.#flushing;
  }

  async #flushOnce(): Promise<void> {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    if (this.standing === "memory" || !this.#hasChanges) return;
    if (this.standing === "owner" && !(await this.#lease?.isHeld())) return this.#lose();
    this.#hasChanges = false;
    const upto = this.#upto;
    try {
      await withDeadline(this.#disk.flush(), DISK_DEADLINE_MS);
    } catch (error) {
      return this.#fail(error);
    }
    this.#keeper.run((core) => {
      core.written(upto);
      if (this.#failedAt !== undefined) core.diskMended(this.#keeper.wall(), this.#keeper.mono());
    });
    this.#failedAt = undefined;
    this.#keeper.advance();
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
    const bytes = await this.#disk.read(file);
    this.#isLoading = false;
    const name = file;
    this.#keeper.run((core) => core.load(name, bytes, this.#keeper.wall(), this.#keeper.mono()));
    this.#keeper.advance();
  }

  /** Does at once what stands between what was seen and its sending. */
  async prepare(): Promise<void> {
    await this.flush();
    await this.load();
  }

  /** Ends: what is collected is written, and the journal is free for others. */
  async close(): Promise<void> {
    clearInterval(this.#lookTimer);
    await this.#looking;
    await this.flush();
    clearTimeout(this.#flushTimer);
    process.off("exit", this.#atExit);
    await this.#disk.close().catch(() => {});
    await this.#lease?.release().catch(() => {});
  }

  readonly #atExit = (): void => {
    try {
      this.#keeper.run((core) => this.collect(core));
      this.#disk.flushSync();
    } catch (error) {
      this.#keeper.log.warn(`the journal could not be written at the end (${reason(error)})`);
    }
    this.#lease?.releaseSync();
  };

  #fail(error: unknown): void {
    this.#failedAt = this.#keeper.mono();
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
    if (this.standing === "spool") return this.#takeOver(folder);
    if (this.#failedAt !== undefined && this.#keeper.mono() - this.#failedAt > DISK_PAUSE_MS) {
      this.#failedAt = this.#keeper.mono();
      this.#keeper.run((core) => {
        core.tryDisk();
        this.collect(core);
      });
    }
    const run = (work: (core: Core) => void) => this.#keeper.run(work);
    if (await takeSpools(folder, run, () => this.#keep())) this.#keeper.advance();
  }

  /** Brings everything that the core was given to the disk; whether it is there. */
  async #keep(): Promise<boolean> {
    this.#keeper.run((core) => this.collect(core));
    await this.flush();
    return !this.hasFailed && this.standing === "owner";
  }

  async #takeOver(folder: string): Promise<void> {
    const lease = await Lease.take(folder, this.#role);
    if (!lease) return;
    // What this process told the former owner lies in a file that it now reads itself.
    this.#keeper.run((core) => this.collect(core));
    await this.flush();
    await this.#disk.close();
    this.#lease = lease;
    this.#disk = new FolderDisk(`${folder}/journal`);
    this.standing = "owner";
    this.#keeper.log.info("the journal is this process's now");
    this.#keeper.remake();
  }

  /** This process was held up for so long that another one took the journal over. */
  async #lose(): Promise<void> {
    this.#keeper.log.warn("another process took the journal over; it is told what this one sees");
    await this.#disk.close().catch(() => {});
    this.#disk = new SpoolDisk(this.#folder ?? "", self(this.#role));
    this.#lease = undefined;
    this.standing = "spool";
    this.#keeper.remake();
  }
}
