/** Transcripts in files: JSONL, and what OpenClaw makes of it when a session is reset, deleted or cut. */

import { createReadStream } from "node:fs";
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import zlib from "node:zlib";
import { CHUNK_BYTES, MOST_TAIL_BYTES, type Place, StoreProblem, type Transcript } from "./transcript.js";

/** `<session>.jsonl`, and behind it what it became, when, and how it is packed. */
const NAME = /^(.+?)\.jsonl(?:\.(reset|deleted|bak)\.(.+?))?(\.zst)?$/;
/** The same as 2026.8 and later archive it when they move it into the database: behind its session's key, and when. */
const ARCHIVED =
  /^(?:(.+)\.)?([^.]+)\.jsonl(?:\.(?:reset|deleted|bak)\..+?)?(\.zst)?\.imported-(\d+(?:\.\d+)?)$/;
/** The agent in the key of a session, as the archive writes it. */
const AGENT_IN_KEY = /^agent[^A-Za-z0-9]([A-Za-z0-9]+)[^A-Za-z0-9]/;
/** Copies of transcripts, and records of another kind. */
const COPY = /\.(checkpoint|trajectory)(\.|$)/;

/** A file that holds a session's transcript. */
export interface TranscriptFile {
  sessionId: string;
  folder: string;
  name: string;
  /** The session's agent, where the name tells it. */
  agent?: string | undefined;
  /** Orders the files of one session: what was put away comes first, in order of time. */
  order: string;
  isClosed: boolean;
  isPacked: boolean;
}

/** What a file's name says; undefined if it holds no transcript. */
export function parseName(name: string): Omit<TranscriptFile, "folder"> | undefined {
  const [, sessionId, fate, when = "", packed] = NAME.exec(name) ?? [];
  if (!sessionId || COPY.test(sessionId)) return undefined;
  const order = fate ? `0 ${when}` : "1";
  return { sessionId, name, order, isClosed: fate !== undefined, isPacked: packed !== undefined };
}

/** The same of an archived file. It comes before what was put away later. */
export function parseArchived(name: string): Omit<TranscriptFile, "folder"> | undefined {
  const [, before = "", sessionId, packed, when = ""] = ARCHIVED.exec(name) ?? [];
  if (!sessionId || COPY.test(`${before}.${sessionId}`)) return undefined;
  const [, agent] = AGENT_IN_KEY.exec(before) ?? [];
  return { sessionId, name, agent, order: `- ${when}`, isClosed: true, isPacked: packed !== undefined };
}

/** The transcripts in a folder; none where there is no such folder. */
export async function listTranscripts(
  folder: string | undefined,
  parse: typeof parseName = parseName,
): Promise<TranscriptFile[]> {
  if (folder === undefined) return [];
  try {
    const files = (await readdir(folder)).flatMap((name) => {
      const file = parse(name);
      return file ? [{ ...file, folder }] : [];
    });
    return files.sort((a, b) => (a.order < b.order ? -1 : 1));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** Whether an error says that a file or folder is not there. */
export function isMissing(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");
}

/**
 * A transcript in a file.
 *
 * @throws StoreProblem where it is packed and this Node cannot unpack it
 */
export async function transcriptInFile(
  file: TranscriptFile,
  keyOf: () => string | undefined,
): Promise<FileTranscript> {
  const path = join(file.folder, file.name);
  const { size, mtimeMs } = await stat(path);
  const of = { isClosed: file.isClosed, agent: file.agent, keyOf };
  return file.isPacked
    ? new PackedTranscript(path, size, mtimeMs, of)
    : new FileTranscript(path, size, mtimeMs, of);
}

interface Of {
  isClosed: boolean;
  agent: string | undefined;
  keyOf: () => string | undefined;
}

/** A plain file. */
export class FileTranscript implements Transcript {
  readonly closed: number | undefined;
  readonly agent: string | undefined;
  readonly #keyOf: () => string | undefined;

  constructor(
    readonly name: string,
    readonly size: number,
    /** When it was last written to, in ms since 1970. */
    readonly mtimeMs: number,
    { isClosed, agent, keyOf }: Of,
  ) {
    this.closed = isClosed ? size : undefined;
    this.agent = agent;
    this.#keyOf = keyOf;
  }

  get sessionKey(): string | undefined {
    return this.#keyOf();
  }

  endsAt({ offset, closed }: Place): boolean {
    return offset === this.size || (closed !== undefined && closed === this.closed);
  }

  endIfOlder(ms: number): number | undefined {
    return this.mtimeMs < ms && this.size > 0 ? this.size : undefined;
  }

  async tail({ offset }: { offset: number }): Promise<Uint8Array | undefined> {
    if (offset === 0 || offset > this.size) return undefined;
    const length = Math.min(offset, MOST_TAIL_BYTES);
    const file = await open(this.name, "r");
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset - length);
      return bytesRead === length ? buffer : undefined;
    } finally {
      await file.close();
    }
  }

  async *read({ offset }: { offset: number }): AsyncGenerator<Uint8Array> {
    const file = await open(this.name, "r");
    try {
      const buffer = Buffer.alloc(CHUNK_BYTES);
      for (let at = offset; ; ) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) return;
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  }

  rowAt(): undefined {
    return undefined;
  }
}

/** A packed file: 2026.8 and later put transcripts of deleted sessions away like that. */
class PackedTranscript extends FileTranscript {
  constructor(name: string, size: number, mtimeMs: number, of: Of) {
    super(name, size, mtimeMs, { ...of, isClosed: true });
    if (typeof zlib.createZstdDecompress !== "function")
      throw new StoreProblem(`${name} is packed with zstd, which Node ${process.versions.node} cannot read`);
  }

  override endsAt({ closed }: Place): boolean {
    return closed === this.closed;
  }

  override endIfOlder(): undefined {
    return undefined;
  }

  override async tail({ offset }: { offset: number }): Promise<Uint8Array | undefined> {
    let before = 0;
    let tail = Buffer.alloc(0);
    for await (const chunk of this.read({ offset: 0 })) {
      const wanted = chunk.subarray(0, Math.min(chunk.length, offset - before));
      tail = Buffer.concat([tail, wanted]).subarray(-MOST_TAIL_BYTES);
      before += wanted.length;
      if (before === offset) return tail;
    }
    return undefined;
  }

  override async *read({ offset }: { offset: number }): AsyncGenerator<Uint8Array> {
    const source = createReadStream(this.name);
    const unpacked = zlib.createZstdDecompress();
    source.on("error", (error) => unpacked.destroy(error));
    try {
      let before = 0;
      for await (const part of source.pipe(unpacked) as AsyncIterable<Buffer>) {
        const chunk = part.subarray(Math.min(part.length, Math.max(0, offset - before)));
        before += part.length;
        for (let at = 0; at < chunk.length; at += CHUNK_BYTES) yield chunk.subarray(at, at + CHUNK_BYTES);
      }
    } finally {
      source.destroy();
      unpacked.destroy();
    }
  }
}
