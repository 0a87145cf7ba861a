/** The part of OpenClaw's plugin API that this plugin uses, as all supported versions have it. */

/** OpenClaw's logger. */
export interface Logger {
  info(text: string): void;
  warn(text: string): void;
}

/** The part of the gateway's configuration that is read; anything may stand in it. */
export interface GatewayConfig {
  diagnostics?: { enabled?: boolean };
  /** The providers that it is configured with. */
  models?: {
    providers?: Record<
      string,
      { models?: ({ id?: unknown; cost?: Record<string, unknown> | null } | null)[] } | null
    >;
  };
  /** Which credentials there are, without them. */
  auth?: { profiles?: Record<string, { provider?: unknown; mode?: unknown } | null> };
}

/** What a service gets when it starts. */
export interface ServiceContext {
  stateDir: string;
  config?: GatewayConfig;
  logger: Logger;
}

/** What `register` gets. */
export interface PluginApi {
  /** Absent on 2026.3.13. */
  registrationMode?: string;
  pluginConfig?: Record<string, unknown>;
  logger: Logger;
  runtime?: { version?: string; state?: { resolveStateDir?: () => string } };
  on(hook: string, handler: (event: unknown, ctx: unknown) => void, options?: { priority?: number }): void;
  registerHook?(
    events: string | string[],
    handler: (event: unknown) => void,
    options: { name: string; description?: string },
  ): void;
  registerService(service: {
    id: string;
    start(ctx: ServiceContext): void | Promise<void>;
    stop?(): void | Promise<void>;
  }): void;
}
