/** The environment's settings. Nothing else of ours reads the environment. */

/** Settings as they come; the core judges them. */
export type RawSettings = Record<string, unknown>;

/**
 * The settings of the environment, as the hook that this one replaces read them. The gateway's
 * configuration wins over each.
 */
export function environmentSettings(): RawSettings {
  const { AGENTWATCH_URL, AGENTWATCH_TOKEN, AGENTWATCH_AGENT_NAME } = process.env;
  return present({ url: AGENTWATCH_URL, token: AGENTWATCH_TOKEN, agentName: AGENTWATCH_AGENT_NAME });
}

/** The state directory that the gateway's environment names, if it names one. */
export function environmentStateDir(): string | undefined {
  const { OPENCLAW_STATE_DIR, HOME } = process.env;
  return OPENCLAW_STATE_DIR || (HOME ? `${HOME}/.openclaw` : undefined);
}

/** Without what is empty: an empty variable is an unset one. */
function present(settings: Record<string, string | undefined>): RawSettings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value));
}
