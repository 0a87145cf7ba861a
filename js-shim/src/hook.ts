/**
 * The drop-in replacement of AgentWatch's hook directory: the handler of a HOOK.md hook. It tells of messages,
 * commands and the gateway's start. Which models were used no internal event tells: the worker, which the gateway's
 * start makes, reads that from the session store (`shared.ts`), soon after a turn where no plugin hears of calls.
 */

import { environmentConfigFile, environmentStateDir } from "./env.js";
import { openConfig } from "./installation.js";
import { acceptInternal } from "./internal.js";
import { sessionStoreOf } from "./session-store.js";
import { end, recorder, type Shared, shared } from "./shared.js";

/** What the plugin hears by typed hooks: with it in the process, these would be told twice. */
const OF_THE_PLUGIN = new Set(["message", "gateway"]);

/** How long a stopping gateway may be held up, in ms. */
const STOP_BUDGET_MS = 1_500;

interface InternalEvent {
  type?: unknown;
  action?: unknown;
}

/** Takes an internal event. Throws nothing, and makes nobody wait but a gateway that stops. */
export default function handler(event: unknown): Promise<void> | undefined {
  try {
    const state = ready(shared());
    const { type, action } = (event ?? {}) as InternalEvent;
    if (state.hasPlugin && OF_THE_PLUGIN.has(String(type))) return undefined;
    if (type === "gateway" && action === "shutdown") return stop(state);
    acceptInternal(recorder(state), event);
  } catch {
    // A hostile event: there is nothing in it to tell of.
  }
  return undefined;
}

/** Without a plugin nobody has told where to log and where state is kept. */
function ready(state: Shared): Shared {
  state.stateDir ??= environmentStateDir();
  if (!state.log)
    state.sessionStore = sessionStoreOf(openConfig(state.stateDir, environmentConfigFile()).config);
  state.log ??= { info: (text) => console.info(text), warn: (text) => console.warn(text) };
  return state;
}

async function stop(state: Shared): Promise<void> {
  await end(state, STOP_BUDGET_MS);
}
