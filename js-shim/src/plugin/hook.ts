/**
 * The handler of a HOOK.md hook, in place of AgentWatch's own hook directory. It records messages, commands and the
 * gateway's start. Internal events do not report model calls: the worker reads those from the session store, soon after a
 * turn where the plugin does not run.
 */

import { openConfig } from "../base/installation.js";
import { environmentConfigFile, environmentStateDir } from "./env.js";
import { acceptInternal } from "./internal.js";
import { sessionStoreOf } from "./session-store.js";
import { pluginSettings } from "./settings.js";
import { end, recorder, type Shared, shared } from "./shared.js";

/** Families of events that the plugin gets by typed hooks; with the plugin in the process they would be recorded twice. */
const FAMILIES_OF_PLUGIN = new Set(["message", "gateway"]);

/** How long a stopping gateway waits for this hook, in ms. */
const STOP_BUDGET_MS = 1_500;

interface InternalEvent {
  type?: unknown;
  action?: unknown;
}

/** Records an internal event. Throws nothing; only a gateway that stops waits for the returned promise. */
export default function handler(event: unknown): Promise<void> | undefined {
  try {
    const state = ready(shared());
    const { type, action } = (event ?? {}) as InternalEvent;
    if (state.hasPlugin && FAMILIES_OF_PLUGIN.has(String(type))) return undefined;
    if (type === "gateway" && action === "shutdown") return stop(state);
    const own = recorder(state);
    acceptInternal(own, event);
    // A gateway that restarts inside its process has ended the worker.
    if (type === "gateway" && action === "startup") void own.open();
  } catch {
    // The event's own getter threw: it cannot be read.
  }
  return undefined;
}

/** Fills in the log and the state directory where no plugin set them. */
function ready(state: Shared): Shared {
  state.stateDir ??= environmentStateDir();
  if (!state.log) {
    const { config } = openConfig(state.stateDir, environmentConfigFile());
    state.sessionStore = sessionStoreOf(config);
    // No variable of the environment can hold it.
    const { allowance } = pluginSettings(config);
    if (allowance !== undefined) state.config = { allowance };
  }
  state.log ??= { info: (text) => console.info(text), warn: (text) => console.warn(text) };
  return state;
}

async function stop(state: Shared): Promise<void> {
  await end(state, STOP_BUDGET_MS);
}
