/** Reads calls of models beside their streams. What goes wrong here costs a reading, never a stream. */

import type { IncomingHttpHeaders } from "node:http";
import type { AnswerReader, Instance, RequestReader } from "../base/wasm.js";
import { Decoded, type Unread } from "./decode.js";

/** What an answer told; see `crate/src/sources/answer.rs`. */
export interface Told {
  response_model: string | null;
  response_id: string | null;
  input: number | null;
  output: number | null;
  cache_read: number | null;
  cache_write: number | null;
  reasoning: number | null;
  /** In USD. */
  cost: number | null;
  /** What is billed beside tokens at their usual price: text that the module made for itself. */
  bill?: string;
  usage_source: "reported" | "missing" | "broken";
  outcome: "completed" | "failed" | "aborted";
  /** What it is about, where that is no call that is over: one that goes on in the background, or none at all. */
  about?: "pending" | "nothing";
  /** Whether the call went on in the background; when it was made and completed then, in ms since 1970. */
  background?: boolean;
  created?: number;
  completed?: number;
}

/** How the connection that brought an answer ended; the numbers are those of `crate/src/bindings/calls.rs`. */
export const ENDING = { whole: 0, cut: 1, left: 2 } as const;
export type Ending = keyof typeof ENDING;

/** What `stream_options.include_usage` takes: bytes that go and a text that comes. */
export interface Edit {
  at: number;
  remove: number;
  insert: string;
}

/** The most bytes of requests that are kept at once to find their models, of all clients together. */
const MOST_HELD = 64 * 1024 * 1024;

/** Makes readers. An instance of the module that trapped is dead: the next reader is of a fresh one. */
export class Readers {
  readonly #instantiate: () => Instance;
  #io: Instance | undefined;
  /** Bytes of requests whose model is yet to be found. */
  heldBytes = 0;
  /** Answers that could not be read, by reason. */
  readonly unread: Partial<Record<Unread, number>> = {};

  constructor(instantiate: () => Instance) {
    this.#instantiate = instantiate;
  }

  /** A reader of such a request, where it is a call of a model or fetches what became of one. */
  open(method: string, path: string): CallReading | undefined {
    const isCall = this.guarded(this.instance(), (io) => io.isModelCall(method, path)) === true;
    return isCall ? new CallReading(this, method, path) : undefined;
  }

  /** The instance that new readers are of; nothing where none can be made. */
  instance(): Instance | undefined {
    try {
      this.#io ??= this.#instantiate();
    } catch {
      // The module's file is gone: calls pass unread.
    }
    return this.#io;
  }

  /** Runs something in an instance; nothing where it trapped. */
  guarded<T>(io: Instance | undefined, work: (io: Instance) => T): T | undefined {
    if (!io) return undefined;
    try {
      return work(io);
    } catch {
      // Only the instance that trapped is given up, and not one that has taken its place.
      if (this.#io === io) this.#io = undefined;
      return undefined;
    }
  }

  /** Counts an answer that could not be read. */
  count(problem: Unread): void {
    this.unread[problem] = (this.unread[problem] ?? 0) + 1;
  }
}

/** The reading of one call: its request, then its answer. */
export class CallReading {
  readonly #readers: Readers;
  readonly #io: Instance | undefined;
  readonly #method: string;
  readonly #path: string;
  #request: RequestReader | undefined;
  #answer: AnswerReader | undefined;
  #body: Decoded | undefined;
  #status = 0;
  /** Bytes of the request that the reader has. */
  #held = 0;
  /** The model that is asked, once it is known. */
  model: string | null = null;

  constructor(readers: Readers, method: string, path: string) {
    this.#readers = readers;
    this.#io = readers.instance();
    this.#method = method;
    this.#path = path;
    this.model = readers.guarded(this.#io, (io) => io.modelOfPath(method, path)) ?? null;
    if (this.model === null) this.#request = readers.guarded(this.#io, (io) => new io.RequestReader());
  }

  /** Takes bytes of the request. */
  request(bytes: Uint8Array): void {
    const reader = this.#request;
    if (!reader) return;
    // Who names the model last is read for it as long as there is room.
    if (this.#readers.heldBytes + bytes.length > MOST_HELD) return this.#forgetRequest();
    this.#held += bytes.length;
    this.#readers.heldBytes += bytes.length;
    this.#readers.guarded(this.#io, () => {
      if (reader.feed(bytes)) this.model = reader.model() ?? null;
    });
    if (this.model !== null) this.#forgetRequest();
  }

  /** Nothing more is to be learned of the request, or there is no room for it. */
  #forgetRequest(): void {
    this.#readers.guarded(this.#io, () => this.#request?.free());
    this.#request = undefined;
    this.#readers.heldBytes -= this.#held;
    this.#held = 0;
  }

  /** The change by which the request, whose whole body this is, asks for usage. */
  wish(body: readonly Uint8Array[]): Edit | undefined {
    return this.#readers.guarded(this.#io, (io) => {
      const reader = new io.RequestReader();
      for (const bytes of body) reader.feed(bytes);
      this.model = reader.model() ?? null;
      const edit = reader.wishForUsage();
      reader.free();
      return edit === undefined ? undefined : (JSON.parse(edit) as Edit);
    });
  }

  /** The answer begins. `onToken` hears when the first token of a stream has come. */
  answer(status: number, headers: IncomingHttpHeaders, onToken: () => void): void {
    const encoding = headers["content-encoding"];
    this.#status = status;
    this.#answer = this.#readers.guarded(this.#io, (io) => {
      const answer = new io.AnswerReader(this.#method, this.#path, status);
      for (const [name, value] of Object.entries(headers))
        if (name.startsWith("x-amzn-bedrock-")) answer.header(name, String(value));
      return answer;
    });
    this.#body = new Decoded(encoding, (bytes) => this.#feed(bytes, onToken));
    if (!this.#answer) this.#body.giveUp("trap");
  }

  /** Takes bytes of the answer as they came. */
  bytes(bytes: Uint8Array): void {
    this.#body?.write(bytes);
  }

  /** The call is over; what its answer told. Resolves later only where it was compressed. */
  async finish(ending: Ending): Promise<Told> {
    await this.#body?.end();
    const answer = this.#answer;
    this.#answer = undefined;
    const text = this.#readers.guarded(this.#io, () => {
      // A client may name the model behind a long conversation.
      this.model ??= this.#request?.model() ?? null;
      return answer?.finish(ENDING[ending]);
    });
    this.#forgetRequest();
    const problem = this.#body?.problem ?? (answer && text === undefined ? "trap" : undefined);
    if (problem) this.#readers.count(problem);
    const told = text === undefined ? untold(this.#status, ending) : parse(text);
    return problem && told.usage_source === "missing" ? { ...told, ...unreadAs(this.#status, ending) } : told;
  }

  #feed(bytes: Uint8Array, onToken: () => void): void {
    const answer = this.#answer;
    if (!answer) return;
    const isFirst = this.#readers.guarded(this.#io, () => answer.feed(bytes));
    if (isFirst) onToken();
    if (isFirst !== undefined) return;
    this.#answer = undefined;
    this.#body?.giveUp("trap");
  }
}

function parse(text: string): Told {
  const told = JSON.parse(text) as Omit<Told, "cost"> & { cost: string | null };
  return { ...told, cost: told.cost === null ? null : Number(told.cost) };
}

/** What is known of an answer that nobody read. */
function untold(status: number, ending: Ending): Told {
  return {
    response_model: null,
    response_id: null,
    input: null,
    output: null,
    cache_read: null,
    cache_write: null,
    reasoning: null,
    cost: null,
    usage_source: "missing",
    outcome: outcomeOf(status, ending),
  };
}

/** An answer that we failed to read may well have had usage. */
function unreadAs(status: number, ending: Ending): Pick<Told, "usage_source" | "outcome"> {
  const outcome = outcomeOf(status, ending);
  return { usage_source: outcome === "completed" ? "broken" : "missing", outcome };
}

function outcomeOf(status: number, ending: Ending): Told["outcome"] {
  if (ending === "left") return "aborted";
  return ending === "whole" && status >= 200 && status < 300 ? "completed" : "failed";
}
