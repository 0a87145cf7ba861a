/** Reads the environment. No other module of the plugin does. */

/** Settings as configured; the engine checks them. */
export type RawSettings = Record<string, unknown>;

/** Variables that hold where the environment has none. */
export type Variables = Readonly<Record<string, string>>;

/**
 * Settings of the environment, in the variables of AgentWatch's own hook. The gateway's configuration wins over each.
 */
export function environmentSettings(): RawSettings {
  return settingsOf(process.env);
}

/** Settings in these variables. */
export function settingsOf(variables: Readonly<Record<string, string | undefined>>): RawSettings {
  const { AGENTWATCH_URL, AGENTWATCH_TOKEN, AGENTWATCH_AGENT_NAME } = variables;
  return present({ url: AGENTWATCH_URL, token: AGENTWATCH_TOKEN, agentName: AGENTWATCH_AGENT_NAME });
}

/** OpenTelemetry's variables, in the core's order. The first holds always, the others for the setting `otlp: true` alone. */
const OPENTELEMETRY = [
  "OTEL_SEMCONV_STABILITY_OPT_IN",
  "OTEL_EXPORTER_OTLP_ENDPOINT",
  "OTEL_EXPORTER_OTLP_HEADERS",
  "OTEL_EXPORTER_OTLP_PROTOCOL",
  "OTEL_EXPORTER_OTLP_COMPRESSION",
] as const;

/** The values of OpenTelemetry's own variables, empty where one is not set. */
export function environmentCollector(): string[] {
  return OPENTELEMETRY.map((name) => process.env[name] ?? "");
}

/**
 * The state directory of a gateway, found as OpenClaw finds it: the directory of the given profile, else the one that the
 * environment names.
 */
export function environmentStateDir(profile?: string): string | undefined {
  const { OPENCLAW_STATE_DIR, OPENCLAW_PROFILE } = process.env;
  const home = environmentHome();
  const name = profile ?? OPENCLAW_PROFILE ?? "default";
  const ofProfile = home && `${home}/.openclaw${/^(default)?$/i.test(name) ? "" : `-${name}`}`;
  return (profile === undefined && OPENCLAW_STATE_DIR) || ofProfile || undefined;
}

/** The home folder, found as OpenClaw finds it. */
export function environmentHome(): string | undefined {
  const { OPENCLAW_HOME, HOME } = process.env;
  return OPENCLAW_HOME || HOME || undefined;
}

/** A text of the configuration with `${NAME}` replaced, as OpenClaw does it; undefined where a variable is not set. */
export function withVariables(text: string, beside: Variables = {}): string | undefined {
  let isComplete = true;
  const filled = text.replace(/\$?\$\{([A-Z_][A-Z0-9_]*)\}/g, (found, name: string) => {
    if (found.startsWith("$$")) return found.slice(1);
    const value = process.env[name] || beside[name];
    if (!value) isComplete = false;
    return value ?? "";
  });
  return isComplete ? filled : undefined;
}

/** The whole environment, for the resolver of secrets in OpenClaw's SDK. */
export function wholeEnvironment(): Record<string, string | undefined> {
  return process.env;
}

/**
 * The variables that route requests: whether an HTTP proxy is set, whether Node uses it (`NODE_USE_ENV_PROXY=1`), and the
 * file of additional certificate authorities.
 */
export function environmentRoute(): { proxy: boolean; isUsed: boolean; authorities: string | undefined } {
  const { HTTPS_PROXY, https_proxy, HTTP_PROXY, http_proxy, NODE_USE_ENV_PROXY, NODE_EXTRA_CA_CERTS } =
    process.env;
  return {
    proxy: Boolean(HTTPS_PROXY || https_proxy || HTTP_PROXY || http_proxy),
    isUsed: NODE_USE_ENV_PROXY === "1",
    authorities: NODE_EXTRA_CA_CERTS,
  };
}

/** The variables of an HTTP proxy, where Node is to use them. */
export function environmentProxies(): NodeJS.ProcessEnv | undefined {
  return environmentRoute().isUsed ? process.env : undefined;
}

/** The gateway's configuration file, where the environment names one. */
export function environmentConfigFile(): string | undefined {
  return process.env.OPENCLAW_CONFIG_PATH || undefined;
}

/** The credentials for a remote gateway, in the variables of OpenClaw's own clients. */
export function environmentGatewayAccess(): { token: string | undefined; password: string | undefined } {
  const { OPENCLAW_GATEWAY_TOKEN, OPENCLAW_GATEWAY_PASSWORD } = process.env;
  return {
    token: OPENCLAW_GATEWAY_TOKEN?.trim() || undefined,
    password: OPENCLAW_GATEWAY_PASSWORD?.trim() || undefined,
  };
}

/** Whether plain `ws://` may leave this machine, by the variable of OpenClaw's own clients. */
export function environmentAllowsPlain(): boolean {
  return process.env.OPENCLAW_ALLOW_INSECURE_PRIVATE_WS === "1";
}

/** The token that LiteLLM has to send. It is no option, since other users of the machine can see a command's options. */
export function environmentLitellmToken(): string | undefined {
  return process.env.AGENTWATCH_LITELLM_TOKEN || undefined;
}

/** The settings that are not empty: an empty variable counts as unset. */
function present(settings: Record<string, string | undefined>): RawSettings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value));
}
