/** What the gateway's configuration says of the session store. */

import { resolve } from "node:path";
import { environmentHome, withVariables } from "./env.js";
import type { GatewayConfig } from "./openclaw.js";

/** What the configuration says of the store. */
export interface SessionStore {
  /** `session.store`, absolute; may have `{agentId}` in it. */
  path: string;
  /** Agent of sessions that do not say theirs: `agents.defaults.sessionStore.agentId`, else the default agent. */
  owner?: string | undefined;
}

/**
 * `session.store` of a configuration as OpenClaw resolves it; nothing where it names none.
 *
 * @param beside variables that hold where the environment has none
 */
export function sessionStoreOf(
  config: GatewayConfig | undefined,
  beside?: Record<string, string>,
): SessionStore | undefined {
  const given = config?.session?.store;
  const text = typeof given === "string" ? withVariables(given.trim(), beside) : undefined;
  if (!text) return undefined;
  const home = /^~(?=$|[\\/])/.test(text) ? environmentHome() : undefined;
  const path = resolve(home === undefined ? text : home + text.slice(1));
  const owner = config?.agents?.defaults?.sessionStore?.agentId || defaultAgentOf(config);
  return { path, ...(typeof owner === "string" && owner && { owner }) };
}

/** The id of the default agent: the one that is marked so, else the first of the list or the only one by name. */
function defaultAgentOf(config: GatewayConfig | undefined): string | undefined {
  const { list, entries } = config?.agents ?? {};
  const named = Object.entries(entries ?? {}).map(([id, entry]) => ({ ...entry, id }));
  const agents = [...named, ...(Array.isArray(list) ? list : [])].filter((agent) => agent !== null);
  const first = named.length > 1 ? undefined : agents[0];
  const id = (agents.find((agent) => agent.default === true) ?? first)?.id;
  return typeof id === "string" ? id.trim().toLowerCase() : undefined;
}
