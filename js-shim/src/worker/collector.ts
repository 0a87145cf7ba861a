/** Which collector is told, by the settings. */

import { gzipSync } from "node:zlib";
import { asPairs } from "../base/prices.js";
import { reason } from "../base/promises.js";
import type { Instance } from "../base/wasm.js";
import type { Order } from "./poster.js";

/** Where a collector is, and under which name it is told. Its headers are not for logs. */
export interface CollectorTarget {
  url: string;
  headers: [name: string, value: string][];
  /** How requests are written. The module reads it alone. */
  form: object;
}

/** Where the settings say that a collector is; nothing where they name none, or none that can be used, which is said. */
export function collectorOf(
  io: () => Instance,
  { otlp, collector }: Record<string, unknown>,
  log: { warn(text: string): void },
): CollectorTarget | undefined {
  if (!otlp) return undefined;
  try {
    const told = io().otlpTarget(asPairs(otlp), asPairs(collector));
    const { url, headers, form, problems } = JSON.parse(told) as CollectorTarget & { problems: string[] };
    for (const problem of problems) log.warn(problem);
    return url ? { url, headers, form } : undefined;
  } catch (error) {
    log.warn(`nothing goes to a collector (${reason(error)})`);
    return undefined;
  }
}

/** A request with its body compressed, where its headers say so. */
export function encoded(order: Order | undefined): Order | undefined {
  if (!order?.[3] || !order[4]?.some(([name]) => name === "content-encoding")) return order;
  const [url, token, path, body, headers] = order;
  return [url, token, path, gzipSync(body), headers];
}
