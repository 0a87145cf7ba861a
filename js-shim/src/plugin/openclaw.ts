/** The part of OpenClaw's plugin API that this plugin uses, common to all supported versions. */

/** OpenClaw's logger. */
export interface Logger {
  info(text: string): void;
  warn(text: string): void;
}

/** The part of the gateway's configuration that is read. Values of type `unknown` are not checked by the gateway. */
export interface GatewayConfig {
  diagnostics?: { enabled?: boolean };
  gateway?: { port?: unknown };
  /** Written by OpenClaw whenever it writes the file. */
  meta?: { lastTouchedVersion?: unknown };
  plugins?: {
    enabled?: boolean;
    allow?: unknown;
    deny?: unknown;
    entries?: Record<
      string,
      {
        enabled?: boolean;
        config?: Record<string, unknown>;
        /** Not known to 2026.3.13, except for `allowPromptInjection`. Timeouts in ms. */
        hooks?: {
          allowConversationAccess?: unknown;
          timeoutMs?: unknown;
          timeouts?: Record<string, unknown> | null;
        } | null;
      } | null
    >;
  };
  /** `list` up to 2026.7, `entries` by name from 2026.8 on. */
  agents?: {
    defaults?: { workspace?: unknown; sessionStore?: { agentId?: unknown } | null };
    list?: ({ id?: unknown; default?: unknown; workspace?: unknown } | null)[];
    entries?: Record<string, { default?: unknown; workspace?: unknown } | null>;
  };
  session?: { store?: unknown; $include?: unknown };
  /** Other files that are a part of this one. */
  $include?: unknown;
  /** Variables that the gateway sets where its environment has none, in `vars` and beside it. */
  env?: { vars?: unknown } & Record<string, unknown>;
  hooks?: {
    internal?: {
      enabled?: boolean;
      entries?: Record<string, { enabled?: boolean } | null>;
      load?: { extraDirs?: unknown };
    };
  };
  /** The configured providers, by name. */
  models?: {
    providers?: Record<
      string,
      {
        baseUrl?: unknown;
        api?: unknown;
        models?: ({
          id?: unknown;
          cost?: Record<string, unknown> | null;
          compat?: { supportsUsageInStreaming?: unknown } | null;
        } | null)[];
      } | null
    >;
  };
  /** The kinds of credentials, without the credentials. */
  auth?: { profiles?: Record<string, { provider?: unknown; mode?: unknown } | null> };
}

/** Argument of a service's `start`. */
export interface ServiceContext {
  stateDir: string;
  config?: GatewayConfig;
  logger: Logger;
}

/** Argument of `register`. */
export interface PluginApi {
  /** Absent on 2026.3.13. */
  registrationMode?: string;
  pluginConfig?: Record<string, unknown>;
  /** The gateway's configuration. */
  config?: GatewayConfig;
  logger: Logger;
  runtime?: { version?: string; state?: { resolveStateDir?: () => string } };
  on(hook: string, handler: (event: unknown, ctx: unknown) => unknown, options?: { priority?: number }): void;
  registerHook?(
    events: string | string[],
    handler: (event: unknown) => void,
    options: { name: string; description?: string },
  ): void;
  registerCli?(
    registrar: (ctx: { program: CliProgram; config?: GatewayConfig }) => void,
    options: {
      commands: string[];
      descriptors: { name: string; description: string; hasSubcommands: boolean }[];
    },
  ): void;
  registerCommand?(command: {
    name: string;
    description: string;
    acceptsArgs: boolean;
    handler: (ctx: { args?: string; config?: GatewayConfig }) => Promise<{ text: string }>;
  }): void;
  registerService(service: {
    id: string;
    start(ctx: ServiceContext): void | Promise<void>;
    stop?(): void | Promise<void>;
  }): void;
}

/** The part of commander's `Command` that is used; OpenClaw passes its own program. */
export interface CliProgram {
  command(name: string): CliProgram;
  description(text: string): CliProgram;
  argument(name: string): CliProgram;
  helpOption(flag: false): CliProgram;
  allowUnknownOption(): CliProgram;
  allowExcessArguments(): CliProgram;
  action(run: (args: string[]) => Promise<void>): CliProgram;
}
