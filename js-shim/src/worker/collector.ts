/** Which collector is told, by the settings. */

import { gzipSync } from "node:zlib";
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
    const told = io().otlpTarget(otlp, collector);
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
  if (!order?.body || !order.headers.some(([name]) => name === "content-encoding")) return order;
  return { ...order, body: gzipSync(order.body) };
}
