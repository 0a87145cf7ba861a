/** Reads model calls alongside their streams. An error here loses a reading and never affects the stream. */

import type { IncomingHttpHeaders } from "node:http";
import type { AnswerReader, Instance, RequestReader } from "../base/wasm.js";
import { Decoded, type Unread } from "./decode.js";

/** Fields of an answer: see `crate/src/sources/answer.rs`. Tokens are `null` if not reported. */
export interface Told {
  response_model: string | null;
  /** OpenTelemetry's name of what the request asked; none for a chat. */
  operation?: "text_completion";
  response_id: string | null;
  input: number | null;
  output: number | null;
  cache_read: number | null;
  cache_write: number | null;
  reasoning: number | null;
  /** Cost in USD that the provider reported. */
  cost: number | null;
  /** Billed items other than tokens at the usual price, as text that only the module reads. */
  bill?: string;
  usage_source: "reported" | "missing" | "broken";
  outcome: "completed" | "failed" | "aborted";
  /**
   * Set if the answer is not a finished call: `pending` for a call that continues in the background, `nothing` for no
   * call.
   */
  about?: "pending" | "nothing";
  /** Whether the call ran in the background. `created` and `completed` are then its begin and end, in ms since 1970. */
  background?: boolean;
  created?: number;
  completed?: number;
}

/** How the answer's connection ended; the numbers are those of `crate/src/bindings/calls.rs`. */
export const ENDING = { whole: 0, cut: 1, left: 2 } as const;
export type Ending = keyof typeof ENDING;

/** The edit that adds `stream_options.include_usage`: at an offset, bytes to remove and a text to insert. */
export interface Edit {
  at: number;
  remove: number;
  insert: string;
}

/** Maximum total size, in bytes, of all clients' requests that are kept to find their models. */
const MOST_HELD = 64 * 1024 * 1024;

/** Creates readers. A trapped instance of the module is unusable: the next reader gets a new instance. */
export class Readers {
  readonly #instantiate: () => Instance;
  #io: Instance | undefined;
  /** Bytes of requests whose model is not found yet. */
  heldBytes = 0;
  /** Number of answers that could not be read, by reason. */
  readonly unread: Partial<Record<Unread, number>> = {};

  constructor(instantiate: () => Instance) {
    this.#instantiate = instantiate;
  }

  /** Returns a reading if the request is a model call, or fetches the result of one. */
  open(method: string, path: string): CallReading | undefined {
    const isCall = this.guarded(this.instance(), (io) => io.isModelCall(method, path)) === true;
    return isCall ? new CallReading(this, method, path) : undefined;
  }

  /** The instance for new readers; `undefined` if none can be created. */
  instance(): Instance | undefined {
    try {
      this.#io ??= this.#instantiate();
    } catch {
      // Without the module's file, calls pass unread.
    }
    return this.#io;
  }

  /** Runs `work` in an instance; `undefined` if it trapped. */
  guarded<T>(io: Instance | undefined, work: (io: Instance) => T): T | undefined {
    if (!io) return undefined;
    try {
      return work(io);
    } catch {
      // Drops the trapped instance only, not a newer one.
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
  /** Bytes of the request that the reader holds. */
  #held = 0;
  /** The requested model, once it is known. */
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
    // A body may have the model at its end: the reader holds it while there is room.
    if (this.#readers.heldBytes + bytes.length > MOST_HELD) return this.#forgetRequest();
    this.#held += bytes.length;
    this.#readers.heldBytes += bytes.length;
    this.#readers.guarded(this.#io, () => {
      if (reader.feed(bytes)) this.model = reader.model() ?? null;
    });
    if (this.model !== null) this.#forgetRequest();
  }

  /** Frees the request's reader: the model is known, or there is no room. */
  #forgetRequest(): void {
    this.#readers.guarded(this.#io, () => this.#request?.free());
    this.#request = undefined;
    this.#readers.heldBytes -= this.#held;
    this.#held = 0;
  }

  /** Returns the edit that makes the request ask for usage. `body` is the whole request. */
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

  /** Notes the begin of the answer. `onToken` is called at the first token of a stream. */
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

  /** Takes bytes of the answer as received. */
  bytes(bytes: Uint8Array): void {
    this.#body?.write(bytes);
  }

  /** Ends the reading and returns the answer's fields. Waits only for decompression. */
  async finish(ending: Ending): Promise<Told> {
    await this.#body?.end();
    const answer = this.#answer;
    this.#answer = undefined;
    const text = this.#readers.guarded(this.#io, () => {
      // A client may send the model after a long conversation.
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

/** Fields of an answer that was not read. */
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

/** An answer that failed to be read probably had usage. */
function unreadAs(status: number, ending: Ending): Pick<Told, "usage_source" | "outcome"> {
  const outcome = outcomeOf(status, ending);
  return { usage_source: outcome === "completed" ? "broken" : "missing", outcome };
}

function outcomeOf(status: number, ending: Ending): Told["outcome"] {
  if (ending === "left") return "aborted";
  return ending === "whole" && status >= 200 && status < 300 ? "completed" : "failed";
}
