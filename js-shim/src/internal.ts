/** Internal events (`message:received` and the like), which reach us by several registrations and by HOOK.md. */

import type { Recorder } from "./recorder.js";

/**
 * Events that were taken already. Most versions give every handler the same object; 2026.9.6 gives a plugin's handler
 * a copy, which has the same time.
 */
interface Taken {
  objects: WeakSet<object>;
  recent: string[];
}

const KEY = Symbol.for("agentwatch-openclaw/internal-events");
/** How many events may come between the two tellings of one. */
const MOST_RECENT = 64;

function taken(): Taken {
  const registry = globalThis as { [KEY]?: Taken };
  registry[KEY] ??= { objects: new WeakSet(), recent: [] };
  return registry[KEY];
}

/** Whether this event is told for the first time. */
function isNew(event: InternalEvent): boolean {
  const { objects, recent } = taken();
  if (objects.has(event)) return false;
  objects.add(event);
  const { type, action, sessionKey, timestamp } = event;
  if (timestamp === undefined) return true;
  const time = timestamp instanceof Date ? timestamp.getTime() : timestamp;
  const name = JSON.stringify([type, action, sessionKey, time]);
  if (recent.includes(name)) return false;
  recent.push(name);
  if (recent.length > MOST_RECENT) recent.shift();
  return true;
}

interface InternalEvent {
  type?: unknown;
  action?: unknown;
  sessionKey?: unknown;
  timestamp?: unknown;
}

/** Hands an internal event over, once however often it comes. Throws nothing. */
export function acceptInternal(recorder: Recorder, event: unknown): void {
  try {
    if (typeof event !== "object" || event === null || !isNew(event)) return;
    const { type, action } = event as InternalEvent;
    if (typeof type !== "string") return;
    // Commands and sessions tell their action as a fact; every other event has a source of its own.
    const isFamily = type === "command" || type === "session";
    const source = isFamily || typeof action !== "string" ? type : `${type}:${action}`;
    recorder.accept(source, event);
  } catch {
    // An event that cannot even tell its type is none that we read.
  }
}
