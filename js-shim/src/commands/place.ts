/** Finds a gateway's state directory and settings, for commands. */

import { isInContainer, openConfig, openVariables } from "../base/installation.js";
import { costSettings } from "../base/prices.js";
import {
  environmentCollector,
  environmentConfigFile,
  environmentSettings,
  environmentStateDir,
  settingsOf,
  type Variables,
  withVariables,
} from "../plugin/env.js";
import type { GatewayConfig } from "../plugin/openclaw.js";
import { withSecrets } from "../plugin/secret.js";
import { type SessionStore, sessionStoreOf } from "../plugin/session-store.js";
import { pluginSettings } from "../plugin/settings.js";

/** Options of `parseArgs` that name a gateway. */
export const PLACE_OPTIONS = {
  "state-dir": { type: "string" },
  profile: { type: "string" },
} as const;

/** Values of {@link PLACE_OPTIONS}. */
export interface PlaceOptions {
  "state-dir"?: string | undefined;
  profile?: string | undefined;
}

/** A gateway's state directory and configuration. */
export interface Place {
  stateDir: string | undefined;
  config: GatewayConfig | undefined;
  /** Error of reading the configuration. */
  problem: string | undefined;
}

/** Finds a gateway. @param loaded the configuration that OpenClaw's own command read, which may have comments */
export function findPlace(options: PlaceOptions, loaded?: GatewayConfig): Place {
  const named = options["state-dir"] !== undefined || options.profile !== undefined;
  const stateDir = options["state-dir"] ?? environmentStateDir(options.profile);
  if (loaded && !named) return { stateDir, config: loaded, problem: undefined };
  const { config, problem } = openConfig(stateDir, environmentConfigFile(), named);
  return { stateDir, config, problem };
}

/** The state directory and the configuration of a gateway. */
type Read = Pick<Place, "stateDir" | "config">;

/**
 * The variables that a gateway has beside its environment: those of the state directory's `.env`, and of the configuration, in
 * this order.
 */
function variablesOf({ stateDir, config }: Read): Variables {
  const { vars, ...others } = config?.env ?? {};
  const ofConfig = Object.entries({ ...(typeof vars === "object" ? vars : {}), ...others });
  const texts = ofConfig.filter((entry): entry is [string, string] => typeof entry[1] === "string");
  return { ...Object.fromEntries(texts), ...openVariables(stateDir) };
}

/**
 * The session store in a gateway's configuration, resolved with the gateway's variables. `problem` says why it is unknown
 * here, `note` why it may be.
 */
export function configuredStore({ stateDir, config }: Read): {
  store: SessionStore | undefined;
  problem: string | undefined;
  note: string | undefined;
} {
  const store = sessionStoreOf(config, variablesOf({ stateDir, config }));
  const given = config?.session?.store;
  const isUnknown = typeof given === "string" && given.trim() !== "" && !store;
  const problem = isUnknown
    ? `session.store ${given} names a variable that is not set here: set it as in the gateway's environment; its sessions are not counted`
    : undefined;
  return { store, problem, note: includedNote(config) };
}

/** The configuration's file is read alone. */
function includedNote(config: GatewayConfig | undefined): string | undefined {
  const { session } = config ?? {};
  if (session?.store !== undefined || (config?.$include ?? session?.$include) === undefined) return undefined;
  return "the configuration includes other files ($include), which this command does not read: if they name a session.store, write it into openclaw.json, or its sessions are not counted";
}

/**
 * Reads the settings of a command: options override the environment, which overrides the gateway's configuration, which
 * overrides the gateway's other variables. A token of the gateway is sent to the gateway's address only.
 */
export async function commandSettings(read: Read, options: Record<string, unknown>): Promise<Settings> {
  const variables = variablesOf(read);
  const configured = await configuredSettings(read.config, variables);
  const gateways: Record<string, unknown> = { ...settingsOf(variables), ...configured.settings };
  const overriding = { ...environmentSettings(), ...present(options) };
  const isOtherUrl = overriding.url !== undefined && overriding.url !== gateways.url;
  const { token, ...rest } = gateways;
  const settings = { ...rest, ...(!isOtherUrl && token !== undefined && { token }), ...overriding };
  const needsToken = !isOtherUrl && !overriding.token;
  const problems = configured.problems.filter((text) => needsToken || !text.startsWith("token "));
  return { settings: { ...settings, ...detected(read.config) }, problems };
}

/**
 * Reads the gateway's own settings, for a process with the gateway's environment: the configuration overrides the
 * environment.
 *
 * @param isInside whether OpenClaw's own command runs, whose SDK resolves secrets
 */
export async function gatewaySettings(read: Read, isInside: boolean): Promise<Settings> {
  const variables = variablesOf(read);
  const { settings, problems } = await configuredSettings(read.config, variables, isInside);
  const others = { ...settingsOf(variables), ...environmentSettings() };
  return { settings: { ...others, ...settings, ...detected(read.config) }, problems };
}

interface Settings {
  settings: Record<string, unknown>;
  /** Settings of the configuration that cannot be used here, each with its mend. */
  problems: string[];
}

async function configuredSettings(
  config: GatewayConfig | undefined,
  variables: Variables,
  isInside = false,
): Promise<Settings> {
  const problems: string[] = [];
  const given = present(pluginSettings(config));
  for (const [name, value] of Object.entries(given)) {
    given[name] = filledIn(value, variables, () =>
      problems.push(`${name} names a variable that is not set here: set it as in the gateway's environment`),
    );
  }
  const found = await withSecrets(present(given), config, isInside);
  return { settings: present(found.settings), problems: [...problems, ...found.problems] };
}

/** Replaces `${NAME}` in a setting, as the gateway does. @param missing called where a variable is not set */
function filledIn(value: unknown, variables: Variables, missing: () => void): unknown {
  if (typeof value === "string") {
    const text = withVariables(value, variables);
    if (text === undefined) missing();
    return text;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).map(
    ([name, of]) => [name, filledIn(of, variables, missing)] as const,
  );
  return Object.fromEntries(entries);
}

/** Settings that are detected, not configured. */
function detected(config: GatewayConfig | undefined): Record<string, unknown> {
  return { ...costSettings(config), collector: environmentCollector(), inContainer: isInContainer() };
}

function present(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
