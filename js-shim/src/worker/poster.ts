/** Makes the engine's HTTP requests. */

import { reason, withDeadline } from "../base/promises.js";
import type { Instance, Reply } from "../base/wasm.js";

/** A request of the engine; a GET if it has no body. */
export interface Order {
  url: string;
  token: string | undefined;
  path: string;
  body: Uint8Array | undefined;
  headers: ReadonlyArray<readonly [name: string, value: string]>;
}

/** Makes requests by an instance of the module. */
export class Poster {
  readonly #instantiate: () => Instance;
  #io: Instance | undefined;

  constructor(instantiate: () => Instance) {
    this.#instantiate = instantiate;
  }

  /** The instance that makes the requests; a new one after a fault. */
  io(): Instance {
    this.#io ??= this.#instantiate();
    return this.#io;
  }

  /** Makes a request. Throws nothing. */
  async make({ url, token, path, body, headers }: Order, timeoutMs: number): Promise<Reply> {
    try {
      const sent = this.io().send(url, token, path, body, timeoutMs, headers);
      return await withDeadline(sent, timeoutMs + 1_000);
    } catch (error) {
      this.#io = undefined;
      return { error: reason(error) };
    }
  }
}
