/** Makes the engine's requests. */

import { reason, withDeadline } from "../base/promises.js";
import type { Instance } from "../base/wasm.js";

/** A request that the engine wants made; a GET where there is no body. */
export type Order = [
  url: string,
  token: string | undefined,
  path: string,
  body: Uint8Array | undefined,
  headers?: ReadonlyArray<readonly [name: string, value: string]>,
];

/** See above. */
export class Poster {
  readonly #instantiate: () => Instance;
  #io: Instance | undefined;

  constructor(instantiate: () => Instance) {
    this.#instantiate = instantiate;
  }

  /** The module that it posts with; a new one after a fault. */
  io(): Instance {
    this.#io ??= this.#instantiate();
    return this.#io;
  }

  /** What became of a request, in the form in which the engine wants to hear it. Throws nothing. */
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
