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

/**
 * The state directory of a gateway: of the profile that is named, else the one that the environment names, as OpenClaw
 * finds it.
 */
export function environmentStateDir(profile?: string): string | undefined {
  const { OPENCLAW_STATE_DIR, OPENCLAW_PROFILE } = process.env;
  const home = environmentHome();
  const name = profile ?? OPENCLAW_PROFILE ?? "default";
  const usual = home && `${home}/.openclaw${/^(default)?$/i.test(name) ? "" : `-${name}`}`;
  return (profile === undefined && OPENCLAW_STATE_DIR) || usual || undefined;
}

/** The home folder as OpenClaw finds it. */
export function environmentHome(): string | undefined {
  const { OPENCLAW_HOME, HOME } = process.env;
  return OPENCLAW_HOME || HOME || undefined;
}

/** A text of the configuration with `${NAME}` filled in, as OpenClaw does; nothing where such a variable is not set. */
export function withVariables(text: string): string | undefined {
  let isWhole = true;
  const filled = text.replace(/\$?\$\{([A-Z_][A-Z0-9_]*)\}/g, (found, name: string) => {
    if (found.startsWith("$$")) return found.slice(1);
    const value = process.env[name];
    if (!value) isWhole = false;
    return value ?? "";
  });
  return isWhole ? filled : undefined;
}

/** The whole environment, for the gateway's own resolver of secrets. */
export function wholeEnvironment(): Record<string, string | undefined> {
  return process.env;
}

/** Which of the variables are set that send requests another way, or have more certificates trusted. */
export function environmentRoute(): { proxy: boolean; isUsed: boolean; authorities: string | undefined } {
  const { HTTPS_PROXY, https_proxy, HTTP_PROXY, http_proxy, NODE_USE_ENV_PROXY, NODE_EXTRA_CA_CERTS } =
    process.env;
  return {
    proxy: Boolean(HTTPS_PROXY || https_proxy || HTTP_PROXY || http_proxy),
    isUsed: NODE_USE_ENV_PROXY === "1",
    authorities: NODE_EXTRA_CA_CERTS,
  };
}

/** The gateway's configuration file, where the environment names another one than usual. */
export function environmentConfigFile(): string | undefined {
  return process.env.OPENCLAW_CONFIG_PATH || undefined;
}

/** What a gateway that is polled from afar is shown, by the variables of OpenClaw's own clients. */
export function environmentGatewayAccess(): { token: string | undefined; password: string | undefined } {
  const { OPENCLAW_GATEWAY_TOKEN, OPENCLAW_GATEWAY_PASSWORD } = process.env;
  return {
    token: OPENCLAW_GATEWAY_TOKEN?.trim() || undefined,
    password: OPENCLAW_GATEWAY_PASSWORD?.trim() || undefined,
  };
}

/** Whether the operator trusts the network with plain `ws://`, as OpenClaw's own clients ask. */
export function environmentAllowsPlain(): boolean {
  return process.env.OPENCLAW_ALLOW_INSECURE_PRIVATE_WS === "1";
}

/** The token that LiteLLM has to show, if the environment names one: no option, since others can see those. */
export function environmentLitellmToken(): string | undefined {
  return process.env.AGENTWATCH_LITELLM_TOKEN || undefined;
}

/** Without what is empty: an empty variable is an unset one. */
function present(settings: Record<string, string | undefined>): RawSettings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value));
}
