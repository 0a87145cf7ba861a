/** Subscribes to the gateway's diagnostic events, whichever module of its SDK has them. */

import { DIAGNOSTICS } from "./pickers.js";

const WANTED = new Set(DIAGNOSTICS);

type Listener = (event: { type?: unknown }) => void;
/** From 2026.8 on a filter says which events are wanted: the gateway copies and freezes no others for this listener. */
type Subscribe = (listener: Listener, filter?: { include: readonly string[] }) => () => void;

interface Sdk {
  onInternalDiagnosticEvent?: Subscribe;
  onDiagnosticEvent?: Subscribe;
  areDiagnosticsEnabledForProcess?: () => boolean;
}

/** What a gateway's diagnostics tell. */
export interface Subscription {
  /** `calls`: an event for each model call. `totals`: sums of runs only. `none`: nothing. */
  tells: "calls" | "totals" | "none";
  /** Why it tells no calls, for the operator. */
  because?: string;
  unsubscribe(): void;
}

const NOTHING: Subscription = {
  tells: "none",
  because: "this gateway has no diagnostic events",
  unsubscribe() {},
};

/**
 * Subscribes once. `accept` gets an event's type and the event.
 *
 * From 2026.3.28 on the SDK has `diagnostic-runtime`; before, `diagnostics-otel`, whose events are
 * sums of runs. Only `onInternalDiagnosticEvent` shows the calls of models.
 */
export async function subscribe(
  accept: (type: string, event: unknown) => void,
  isEnabled: boolean | undefined,
): Promise<Subscription> {
  const listener: Listener = (event) => {
    try {
      const { type } = event;
      if (typeof type === "string" && WANTED.has(type)) accept(type, event);
    } catch {
      // An event that cannot even tell its type is none that we read.
    }
  };
  const runtime = await load("openclaw/plugin-sdk/diagnostic-runtime");
  if (runtime?.onInternalDiagnosticEvent) {
    const unsubscribe = runtime.onInternalDiagnosticEvent(listener, { include: [...WANTED] });
    const isOff = isEnabled === false || runtime.areDiagnosticsEnabledForProcess?.() === false;
    return isOff
      ? { tells: "none", because: "diagnostics.enabled is false", unsubscribe }
      : { tells: "calls", unsubscribe };
  }
  const older = runtime ?? (await load("openclaw/plugin-sdk/diagnostics-otel"));
  if (!older?.onDiagnosticEvent) return NOTHING;
  return {
    tells: "totals",
    because: "this gateway's diagnostics tell only sums of runs",
    unsubscribe: older.onDiagnosticEvent(listener),
  };
}

/** A module of the gateway's SDK, if this version has it. */
async function load(specifier: string): Promise<Sdk | undefined> {
  try {
    return (await import(specifier)) as Sdk;
  } catch {
    return undefined;
  }
}
