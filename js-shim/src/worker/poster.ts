/** Makes the engine's HTTP requests. */

import { reason, withDeadline } from "../base/promises.js";
import type { Instance } from "../base/wasm.js";

/** A request of the engine; a GET if it has no body. */
export type Order = [
  url: string,
  token: string | undefined,
  path: string,
  body: Uint8Array | undefined,
  headers?: ReadonlyArray<readonly [name: string, value: string]>,
];

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

  /** Makes a request. Returns its reply as the engine takes it. Throws nothing. */
  async make(order: Order, timeoutMs: number): Promise<unknown[]> {
    try {
      const [url, token, path, body, headers] = order;
      const sent = this.io().send(url, token, path, body, timeoutMs, headers);
      return await withDeadline(sent, timeoutMs + 1_000);
    } catch (error) {
      this.#io = undefined;
      return [0, null, reason(error), false, false, null, 0, []];
    }
  }
}
