/** Answers the engine's questions for prices of models. */

import type { GatewayConfig } from "../plugin/openclaw.js";
import { reason } from "./promises.js";
import type { Engine, Instance, Price, PriceBook } from "./wasm.js";

/** The functions of the pipeline that prices call. */
export interface PriceHost {
  /** The module that looks prices up. */
  io(): Instance;
  /** The built-in table of list prices. */
  table(): string;
  warn(text: string): void;
}

/** The prices under one set of settings. */
export class Prices {
  readonly #host: PriceHost;
  readonly #settings: Record<string, unknown>;
  #book: PriceBook | undefined;
  #hasFailed = false;

  constructor(host: PriceHost, settings: Record<string, unknown>) {
    this.#host = host;
    this.#settings = settings;
  }

  /** Answers all questions of the engine. A price that is not found stays unknown. */
  answer(engine: Engine): void {
    for (let asked = engine.wantsPrice(); asked; asked = engine.wantsPrice()) {
      const { provider, model } = JSON.parse(asked) as { provider: string; model: string };
      const price = this.#find(provider, model);
      if (price) engine.setPrice(provider, model, price);
    }
  }

  #find(provider: string, model: string): Price | undefined {
    if (this.#hasFailed) return undefined;
    try {
      this.#book ??= this.#open();
      return this.#book.find(provider, model);
    } catch (error) {
      // A broken installation or a trap: every further model would fail too.
      this.#hasFailed = true;
      this.#host.warn(
        `prices cannot be read (${reason(error)}): calls that come without a cost have an unknown cost`,
      );
      return undefined;
    }
  }

  #open(): PriceBook {
    const { prices, openclawPrices, byLogin } = this.#settings;
    const book = new (this.#host.io().PriceBook)(prices, openclawPrices, byLogin, this.#host.table());
    for (const problem of book.problems()) this.#host.warn(problem);
    return book;
  }
}

/** The gateway configuration's prices and logins, in the names of the plugin's settings. */
export function costSettings(config: GatewayConfig | undefined): Record<string, unknown> {
  return { byLogin: usedByLogin(config), openclawPrices: openclawPrices(config) };
}

/** OpenClaw's names of a model's rates. */
const RATES = ["input", "output", "cacheRead", "cacheWrite"] as const;

/**
 * The prices in `models.providers` of a gateway's configuration, in the shape of the setting `prices`. OpenClaw computes
 * its costs with them, so they hold for calls of all sources. All-zero prices count as missing.
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

/** The rates of a model. OpenClaw takes a missing rate for 0. */
function ratesOf(cost: Record<string, unknown> | null | undefined): Record<(typeof RATES)[number], unknown> {
  const { input = 0, output = 0, cacheRead = 0, cacheWrite = 0 } = cost ?? {};
  return { input, output, cacheRead, cacheWrite };
}

/** Converts a tier: OpenClaw's begins with its range's start, the setting's holds above a number of tokens. */
function tierOf(tier: Record<string, unknown> | null) {
  const [start] = Array.isArray(tier?.range) ? tier.range : [];
  return { above: Number(start) - 1, ...ratesOf(tier) };
}

/** The providers that a gateway's configuration uses by a login (a subscription) and never by a key. */
export function usedByLogin(config: GatewayConfig | undefined): string[] {
  const profiles = Object.values(config?.auth?.profiles ?? {});
  const withMode = (is: (mode: unknown) => boolean) =>
    new Set(profiles.filter((one) => is(one?.mode)).map((one) => one?.provider));
  const byKey = withMode((mode) => mode !== "oauth" && mode !== "token");
  const byLogin = withMode((mode) => mode === "oauth" || mode === "token");
  return [...byLogin].filter((name) => typeof name === "string" && !byKey.has(name)) as string[];
}
