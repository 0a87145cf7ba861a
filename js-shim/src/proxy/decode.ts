/** Decompresses a copy of a body, so that it can be read alongside its stream. */

import type { Transform } from "node:stream";
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
} from "node:zlib";

/** The flush options make a decoder return the data before a cut. */
const DECODERS = new Map<string, () => Transform>([
  ["gzip", () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH })],
  ["x-gzip", () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH })],
  ["deflate", () => createInflate({ finishFlush: constants.Z_SYNC_FLUSH })],
  ["br", () => createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH })],
  ["zstd", () => createZstdDecompress({ finishFlush: constants.ZSTD_e_flush })],
]);

/** Compressed bytes that may wait for the decoder; beyond it the reading is given up. */
const MAX_WAITING = 4 * 1024 * 1024;
/** Memory that a chunk takes besides its bytes, in bytes. */
export const CHUNK_COST = 128;
/** Maximum decoded size, in bytes. */
const MAX_DECODED = 256 * 1024 * 1024;

/** Why a body could not be read. */
export type Unread = "unknown_encoding" | "undecodable" | "lagging" | "too_large" | "trap";

/** Decodes a body of one `content-encoding` while it arrives. Never throws. */
export class Decoded {
  readonly #decoder: Transform | undefined;
  readonly #take: (bytes: Uint8Array) => void;
  readonly #over: Promise<void>;
  #decodedBytes = 0;
  #waiting = 0;
  /** Why the body was not read completely. */
  problem: Unread | undefined;

  constructor(encoding: string | undefined, take: (bytes: Uint8Array) => void) {
    this.#take = take;
    const name = (encoding ?? "identity").trim().toLowerCase() || "identity";
    if (name !== "identity") {
      this.#decoder = DECODERS.get(name)?.();
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

  /** Takes received bytes. */
  write(bytes: Uint8Array): void {
    if (this.problem) return;
    if (!this.#decoder) {
      this.#take(bytes);
      return;
    }
    // A chunk of one byte takes memory too.
    const cost = bytes.length + CHUNK_COST;
    this.#waiting += cost;
    this.#decoder.write(bytes, () => {
      this.#waiting -= cost;
    });
    if (this.#waiting > MAX_WAITING) this.giveUp("lagging");
  }

  /** Ends the body. Resolves when it is decoded completely. */
  end(): Promise<void> {
    if (!this.problem) this.#decoder?.end();
    return this.#over;
  }

  /** Stops reading. */
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
