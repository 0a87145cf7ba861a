/** Subscribes to the gateway's diagnostic events, which are in different modules of its SDK by version. */

import { DIAGNOSTICS } from "../base/pickers.js";

const WANTED = new Set(DIAGNOSTICS);

type Listener = (event: { type?: unknown }) => void;
/** From 2026.8 on the gateway copies and freezes only events of the types in `include` for this listener. */
type Subscribe = (listener: Listener, filter?: { include: readonly string[] }) => () => void;

interface Sdk {
  onInternalDiagnosticEvent?: Subscribe;
  onDiagnosticEvent?: Subscribe;
  areDiagnosticsEnabledForProcess?: () => boolean;
}

/** A subscription, and what the gateway's diagnostic events report. */
export interface Subscription {
  /** `calls`: an event for each model call. `totals`: sums of runs only. `none`: no events. */
  reports: "calls" | "totals" | "none";
  /** Why calls are not reported, for the operator. */
  reason?: string;
  unsubscribe(): void;
}

const NOTHING: Subscription = {
  reports: "none",
  reason: "this gateway has no diagnostic events",
  unsubscribe() {},
};

/**
 * Subscribes to the declared types of events.
 *
 * From 2026.3.28 on the SDK has `diagnostic-runtime`; before that, `diagnostics-otel`, whose events are sums of runs. Only
 * `onInternalDiagnosticEvent` reports single model calls.
 *
 * @param accept called with an event's type and the event
 * @param isEnabled `diagnostics.enabled` of the gateway's configuration
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
      // The event's own getter threw: it cannot be read.
    }
  };
  const runtime = await load("openclaw/plugin-sdk/diagnostic-runtime");
  if (runtime?.onInternalDiagnosticEvent) {
    const unsubscribe = runtime.onInternalDiagnosticEvent(listener, { include: [...WANTED] });
    const isOff = isEnabled === false || runtime.areDiagnosticsEnabledForProcess?.() === false;
    return isOff
      ? { reports: "none", reason: "diagnostics.enabled is false", unsubscribe }
      : { reports: "calls", unsubscribe };
  }
  const older = runtime ?? (await load("openclaw/plugin-sdk/diagnostics-otel"));
  if (!older?.onDiagnosticEvent) return NOTHING;
  return {
    reports: "totals",
    reason: "this gateway's diagnostics report only sums of runs",
    unsubscribe: older.onDiagnosticEvent(listener),
  };
}

/** Loads a module of the gateway's SDK; undefined where this version has none of that name. */
async function load(specifier: string): Promise<Sdk | undefined> {
  try {
    return (await import(specifier)) as Sdk;
  } catch {
    return undefined;
  }
}
