/** Internal events such as `message:received`. A gateway delivers each to every registration of the plugin and to HOOK.md. */

import type { Recorder } from "./recorder.js";

/**
 * Events that were recorded already. Most versions pass every handler the same object; 2026.9.6 passes a plugin's handler
 * a copy with the same timestamp.
 */
interface Recorded {
  objects: WeakSet<object>;
  recent: string[];
}

const KEY = Symbol.for("agentwatch-openclaw/internal-events");
/** Number of events that may come between two deliveries of one event. */
const MOST_RECENT = 64;

function recorded(): Recorded {
  const registry = globalThis as { [KEY]?: Recorded };
  registry[KEY] ??= { objects: new WeakSet(), recent: [] };
  return registry[KEY];
}

/** Whether this event is delivered for the first time. */
function isNew(event: InternalEvent): boolean {
  const { objects, recent } = recorded();
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

/** Records an internal event once, however often it is delivered. Throws nothing. */
export function acceptInternal(recorder: Recorder, event: unknown): void {
  try {
    if (typeof event !== "object" || event === null || !isNew(event)) return;
    const { type, action } = event as InternalEvent;
    if (typeof type !== "string") return;
    // `command` and `session` have one source each, with the action as a fact. Other events have a source for each action.
    const isFamily = type === "command" || type === "session";
    const source = isFamily || typeof action !== "string" ? type : `${type}:${action}`;
    recorder.accept(source, event);
  } catch {
    // The event's own getter threw: it cannot be read.
  }
}
