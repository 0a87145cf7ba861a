/** Where a gateway keeps its state, and what its configuration says: for commands, inside a gateway's own and outside. */

import {
  environmentCollector,
  environmentConfigFile,
  environmentSettings,
  environmentStateDir,
  withVariables,
} from "./env.js";
import { isInContainer, openConfig } from "./installation.js";
import type { GatewayConfig } from "./openclaw.js";
import { costSettings } from "./prices.js";
import { withSecrets } from "./secret.js";
import { pluginSettings } from "./settings.js";

/** Options that name a gateway. */
export const PLACE_OPTIONS = {
  "state-dir": { type: "string" },
  profile: { type: "string" },
} as const;

/** The same, read. */
export interface PlaceOptions {
  "state-dir"?: string | undefined;
  profile?: string | undefined;
}

/** A gateway, as far as its files and the environment tell. */
export interface Place {
  stateDir: string | undefined;
  config: GatewayConfig | undefined;
  /** Why the configuration is not known. */
  problem: string | undefined;
}

/** Finds a gateway. `loaded` is the configuration that the gateway's own command has read, comments and all. */
export function findPlace(options: PlaceOptions, loaded?: GatewayConfig): Place {
  const named = options["state-dir"] !== undefined || options.profile !== undefined;
  const stateDir = options["state-dir"] ?? environmentStateDir(options.profile);
  if (loaded && !named) return { stateDir, config: loaded, problem: undefined };
  const { config, problem } = openConfig(stateDir, environmentConfigFile(), named);
  return { stateDir, config, problem };
}

/**
 * The settings of a command: its options win over the environment, which wins over the gateway's configuration. A
 * token of the configuration goes to the address of the configuration, and to no other.
 */
export async function commandSettings(
  config: GatewayConfig | undefined,
  options: Record<string, unknown>,
): Promise<Settings> {
  const configured = await configuredSettings(config);
  const nearer = { ...environmentSettings(), ...present(options) };
  const isElsewhere = nearer.url !== undefined && nearer.url !== configured.settings.url;
  const { token, ...rest } = configured.settings;
  const settings = { ...rest, ...(!isElsewhere && token !== undefined && { token }), ...nearer };
  const problems = isElsewhere || nearer.token ? [] : configured.problems;
  return { settings: { ...settings, ...surroundings(config) }, problems };
}

/**
 * The settings that a gateway itself has, if this process has its environment: the configuration wins.
 *
 * @param isInside whether it is a process of the gateway's own, which resolves secrets as the gateway does
 */
export async function gatewaySettings(
  config: GatewayConfig | undefined,
  isInside: boolean,
): Promise<Settings> {
  const { settings, problems } = await configuredSettings(config, isInside);
  return { settings: { ...environmentSettings(), ...settings, ...surroundings(config) }, problems };
}

interface Settings {
  settings: Record<string, unknown>;
  /** What of the configuration cannot be used here, and what to do. */
  problems: string[];
}

async function configuredSettings(config: GatewayConfig | undefined, isInside = false): Promise<Settings> {
  const problems: string[] = [];
  const given = present(pluginSettings(config));
  for (const [name, value] of Object.entries(given)) {
    given[name] = filledIn(value, () =>
      problems.push(`${name} names a variable that is not set here: set it as in the gateway's environment`),
    );
  }
  const found = await withSecrets(present(given), config, isInside);
  return { settings: present(found.settings), problems: [...problems, ...found.problems] };
}

/** A setting as the gateway would read it from its file. */
function filledIn(value: unknown, missing: () => void): unknown {
  if (typeof value === "string") {
    const text = withVariables(value);
    if (text === undefined) missing();
    return text;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).map(([name, of]) => [name, filledIn(of, missing)] as const);
  return Object.fromEntries(entries);
}

function surroundings(config: GatewayConfig | undefined): Record<string, unknown> {
  return { ...costSettings(config), collector: environmentCollector(), inContainer: isInContainer() };
}

function present(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
