/** What the gateway's configuration says of the session store. */

import { resolve } from "node:path";
import { environmentHome, withVariables } from "./env.js";
import type { GatewayConfig } from "./openclaw.js";

/** What the configuration says of the store. */
export interface SessionStore {
  /** `session.store`, absolute; may have `{agentId}` in it. */
  path: string;
  /** Agent of sessions that do not say theirs (`agents.defaults.sessionStore.agentId`). */
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
  const owner = config?.agents?.defaults?.sessionStore?.agentId;
  return { path, ...(typeof owner === "string" && owner && { owner }) };
}
