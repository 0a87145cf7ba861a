/** Shows progress: a bar on a terminal, else one line per interval. */

import { counted } from "../base/words.js";

/** Shortest interval between two updates, on a terminal and elsewhere, in ms. */
const REDRAW_MS = 200;
const LINE_MS = 10_000;
const WIDTH = 24;

/** Counts of processed sessions, bytes and rows. */
export interface Done {
  sessions: number;
  bytes: number;
  rows: number;
}

/** The progress of one command. */
export class ProgressBar {
  readonly #screen = process.stderr;
  readonly #total: number;
  readonly #begun = performance.now();
  #shown = this.#screen.isTTY ? Number.NEGATIVE_INFINITY : this.#begun;
  #isDrawn = false;

  /** @param total number of sessions */
  constructor(total: number) {
    this.#total = total;
  }

  /** Shows the counts, unless an update was shown just before. */
  show(done: Done): void {
    const now = performance.now();
    if (now - this.#shown < (this.#screen.isTTY ? REDRAW_MS : LINE_MS)) return;
    this.#shown = now;
    const text = this.#words(done, now);
    if (!this.#screen.isTTY) return void this.#screen.write(`${text}\n`);
    const share = this.#total > 0 ? Math.min(1, done.sessions / this.#total) : 1;
    const full = Math.round(share * WIDTH);
    const bar = `${"#".repeat(full)}${".".repeat(WIDTH - full)}`;
    const line = `[${bar}] ${Math.floor(share * 100)} %  ${text}`;
    this.#screen.write(`\r\u001b[K${line.slice(0, (this.#screen.columns ?? 80) - 1)}`);
    this.#isDrawn = true;
  }

  /** Clears the bar, so that other lines can be printed. */
  clear(): void {
    if (this.#isDrawn) this.#screen.write("\r\u001b[K");
    this.#isDrawn = false;
  }

  #words({ sessions, bytes, rows }: Done, now: number): string {
    const mb = bytes / 1_048_576;
    const rate = mb / Math.max(0.001, (now - this.#begun) / 1000);
    return `${sessions} of ${counted(this.#total, "session")}, ${counted(rows, "call")}, ${mb.toFixed(0)} MB, ${rate.toFixed(0)} MB/s`;
  }
}
