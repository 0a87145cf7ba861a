/** Tells the core the prices of the models that it meets. */

import type { GatewayConfig } from "./openclaw.js";
import { reason } from "./promises.js";
import type { Core, Instance, PriceBook } from "./wasm.js";

/** What the prices need of the pipeline. */
export interface Shelf {
  /** The module that knows prices. */
  io(): Instance;
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
    const { prices, openclawPrices, byLogin } = this.#settings;
    const given = [prices, openclawPrices, byLogin].map(asPairs) as [unknown, unknown, unknown];
    const book = new (this.#shelf.io().PriceBook)(...given, this.#shelf.table());
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

/** What the gateway's configuration tells of costs, in the names of the settings. */
export function costSettings(config: GatewayConfig | undefined): Record<string, unknown> {
  return { byLogin: usedByLogin(config), openclawPrices: openclawPrices(config) };
}

/** OpenClaw's names of a model's rates. */
const RATES = ["input", "output", "cacheRead", "cacheWrite"] as const;

/**
 * The prices in `models.providers` of a gateway's configuration, in the shape of the setting `prices`: with these
 * OpenClaw reckons, so they hold for calls that others tell of too. All-zero prices are no prices.
 */
export function openclawPrices(config: GatewayConfig | undefined): Record<string, object> {
  const prices: Record<string, object> = {};
  for (const [provider, entry] of Object.entries(config?.models?.providers ?? {})) {
    const models = Array.isArray(entry?.models) ? entry.models : [];
    for (const model of models) {
      const { id, cost } = model ?? {};
      const rates = ratesOf(cost);
      const listed: unknown[] = Array.isArray(cost?.tieredPricing) ? cost.tieredPricing : [];
      const tiers = listed.map((tier) => tierOf(tier as Record<string, unknown> | null));
      const isPriced = [rates, ...tiers].some((one) => RATES.some((rate) => Number(one[rate]) > 0));
      if (typeof id !== "string" || !isPriced) continue;
      const first = tiers.find(({ above }) => above < 0);
      const further = tiers.filter(({ above }) => above >= 0).sort((a, b) => a.above - b.above);
      const { above: _, ...base } = first ?? { above: 0, ...rates };
      prices[`${provider}/${id}`] = { ...base, ...(further.length > 0 ? { tiers: further } : {}) };
    }
  }
  return prices;
}

/** A rate that OpenClaw was not given is 0 to it. */
function ratesOf(cost: Record<string, unknown> | null | undefined): Record<(typeof RATES)[number], unknown> {
  const { input = 0, output = 0, cacheRead = 0, cacheWrite = 0 } = cost ?? {};
  return { input, output, cacheRead, cacheWrite };
}

/** OpenClaw's tiers begin with their range's start; ours hold above a number of tokens. */
function tierOf(tier: Record<string, unknown> | null) {
  const [start] = Array.isArray(tier?.range) ? tier.range : [];
  return { above: Number(start) - 1, ...ratesOf(tier) };
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
