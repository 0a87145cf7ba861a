/** Internal events (`message:received` and the like), which reach us by several registrations and by HOOK.md. */

import type { Pipeline } from "./pipeline.js";

/** Events that were taken already: every handler gets the same object. */
const KEY = Symbol.for("agentwatch-openclaw/internal-events");

function taken(): WeakSet<object> {
  const registry = globalThis as { [KEY]?: WeakSet<object> };
  registry[KEY] ??= new WeakSet();
  return registry[KEY];
}

/** Hands an internal event over, once however often it comes. Throws nothing. */
export function acceptInternal(pipeline: Pipeline, event: unknown): void {
  try {
    if (typeof event !== "object" || event === null || taken().has(event)) return;
    taken().add(event);
    const { type, action } = event as { type?: unknown; action?: unknown };
    if (typeof type !== "string") return;
    // Commands and sessions tell their action as a fact; every other event has a source of its own.
    const isFamily = type === "command" || type === "session";
    const source = isFamily || typeof action !== "string" ? type : `${type}:${action}`;
    pipeline.accept(source, [event]);
  } catch {
    // An event that cannot even tell its type is none that we read.
  }
}
