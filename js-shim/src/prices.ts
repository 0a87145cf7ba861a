/** Tells the core the prices of the models that it meets. */

import type { GatewayConfig } from "./openclaw.js";
import { reason } from "./promises.js";
import type { Core, Io, PriceBook } from "./wasm.js";

/** What the prices need of the pipeline. */
export interface Shelf {
  /** The module that knows prices. */
  io(): Io;
  /** The built-in table. */
  table(): string;
  warn(text: string): void;
}

/** The prices under one set of settings. */
export class Prices {
  readonly #shelf: Shelf;
  readonly #settings: Record<string, unknown>;
  #book: PriceBook | undefined;
  #hasFailed = false;

  constructor(shelf: Shelf, settings: Record<string, unknown>) {
    this.#shelf = shelf;
    this.#settings = settings;
  }

  /** Answers what the core asks. A price that cannot be found is unknown, and the call goes on. */
  answer(core: Core): void {
    for (let asked = core.wantsPrice(); asked; asked = core.wantsPrice()) {
      const price = this.#find(...asked);
      if (price) core.setPrice(...asked, ...price);
    }
  }

  #find(provider: string, model: string): [number, Float64Array] | undefined {
    if (this.#hasFailed) return undefined;
    try {
      this.#book ??= this.#open();
      return this.#book.find(provider, model);
    } catch (error) {
      // A broken installation, or a fault: it would be the same for the next model.
      this.#hasFailed = true;
      this.#shelf.warn(
        `prices cannot be read (${reason(error)}): calls of which nobody tells the cost count as unknown`,
      );
      return undefined;
    }
  }

  #open(): PriceBook {
    const { prices, byLogin } = this.#settings;
    const book = new (this.#shelf.io().PriceBook)(asPairs(prices), asPairs(byLogin), this.#shelf.table());
    for (const problem of book.problems()) this.#shelf.warn(problem);
    return book;
  }
}

/** Settings cross as facts, which have no objects: those become lists of pairs. */
export function asPairs(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asPairs);
  if (typeof value !== "object" || value === null) return value ?? null;
  return Object.entries(value).map(([name, of]) => [name, asPairs(of)]);
}

/** The providers that a gateway uses by a login (a subscription) and never by a key, as far as its configuration says. */
export function usedByLogin(config: GatewayConfig | undefined): string[] {
  const profiles = Object.values(config?.auth?.profiles ?? {});
  const withMode = (is: (mode: unknown) => boolean) =>
    new Set(profiles.filter((one) => is(one?.mode)).map((one) => one?.provider));
  const byKey = withMode((mode) => mode !== "oauth" && mode !== "token");
  const byLogin = withMode((mode) => mode === "oauth" || mode === "token");
  return [...byLogin].filter((name) => typeof name === "string" && !byKey.has(name)) as string[];
}
