/** Decompresses a copy of a body, for reading it beside its stream. */

import type { Transform } from "node:stream";
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
} from "node:zlib";

/** A body that was cut off is read as far as it came. */
const DECODERS: Record<string, () => Transform> = {
  gzip: () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }),
  "x-gzip": () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }),
  deflate: () => createInflate({ finishFlush: constants.Z_SYNC_FLUSH }),
  br: () => createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH }),
  zstd: () => createZstdDecompress({ finishFlush: constants.ZSTD_e_flush }),
};

/** Compressed bytes that may wait for the decoder; more, and it lags so far that reading is given up. */
const MAX_WAITING = 4 * 1024 * 1024;
/** What is decoded at most, however little it was compressed. */
const MAX_DECODED = 256 * 1024 * 1024;

/** Why a body could not be read. */
export type Unread = "unknown_encoding" | "undecodable" | "lagging" | "too_large" | "trap";

/** A body of this `content-encoding`, decoded as it comes. Nothing here throws. */
export class Decoded {
  readonly #decoder: Transform | undefined;
  readonly #take: (bytes: Uint8Array) => void;
  readonly #over: Promise<void>;
  #decodedBytes = 0;
  /** Why not all of it was read, if so. */
  problem: Unread | undefined;

  constructor(encoding: string | undefined, take: (bytes: Uint8Array) => void) {
    this.#take = take;
    const name = (encoding ?? "identity").trim().toLowerCase() || "identity";
    if (name !== "identity") {
      this.#decoder = DECODERS[name]?.();
      if (!this.#decoder) this.problem = "unknown_encoding";
    }
    this.#over = new Promise((resolve) => {
      if (!this.#decoder) resolve();
      this.#decoder
        ?.on("data", (bytes: Buffer) => this.#decoded(bytes))
        .on("error", () => this.giveUp("undecodable"))
        .on("end", () => resolve())
        .on("close", () => resolve());
    });
  }

  /** Takes the next bytes as they came. */
  write(bytes: Uint8Array): void {
    if (this.problem) return;
    if (!this.#decoder) {
      this.#take(bytes);
      return;
    }
    this.#decoder.write(bytes);
    if (this.#decoder.writableLength > MAX_WAITING) this.giveUp("lagging");
  }

  /** The body is over; resolves when all of it was decoded. */
  end(): Promise<void> {
    if (!this.problem) this.#decoder?.end();
    return this.#over;
  }

  /** Reads no more. */
  giveUp(problem: Unread): void {
    this.problem ??= problem;
    this.#decoder?.destroy();
  }

  #decoded(bytes: Buffer): void {
    if (this.problem) return;
    this.#decodedBytes += bytes.length;
    if (this.#decodedBytes > MAX_DECODED) this.giveUp("too_large");
    else this.#take(bytes);
  }
}
