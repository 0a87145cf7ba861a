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

/** What OpenTelemetry's own variables say of a collector: address and headers; only for who asks by a setting. */
export function environmentCollector(): [url: string, headers: string] | undefined {
  const { OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS } = process.env;
  return OTEL_EXPORTER_OTLP_ENDPOINT
    ? [OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS ?? ""]
    : undefined;
}

/** The state directory that the gateway's environment names, if it names one. */
export function environmentStateDir(): string | undefined {
  const { OPENCLAW_STATE_DIR, HOME } = process.env;
  return OPENCLAW_STATE_DIR || (HOME ? `${HOME}/.openclaw` : undefined);
}

/** The gateway's configuration file, where the environment names another one than usual. */
export function environmentConfigFile(): string | undefined {
  return process.env.OPENCLAW_CONFIG_PATH || undefined;
}

/** The token that LiteLLM has to show, if the environment names one: no option, since others can see those. */
export function environmentLitellmToken(): string | undefined {
  return process.env.AGENTWATCH_LITELLM_TOKEN || undefined;
}

/** Without what is empty: an empty variable is an unset one. */
function present(settings: Record<string, string | undefined>): RawSettings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value));
}
