/** Credentials for a gateway: from the environment, or from `gateway.remote` of the local OpenClaw configuration. */

import { SettingError } from "../commands/listen.js";
import { environmentGatewayAccess, withVariables } from "../plugin/env.js";
import type { GatewayConfig } from "../plugin/openclaw.js";
import { resolveReference } from "../plugin/secret.js";
import type { Credentials } from "./link.js";

/** Credentials with their source, for messages. */
export interface Access extends Credentials {
  from: string;
}

/** Returns `gateway.remote` if its address is this gateway's. OpenClaw's own clients use it, too. */
export function remoteSettings(config: GatewayConfig | undefined, text: string): Record<string, unknown> {
  const { remote } =
    (config as { gateway?: { remote?: Record<string, unknown> } } | undefined)?.gateway ?? {};
  const same = (url: unknown) =>
    typeof url === "string" && URL.canParse(url) && new URL(url).host === new URL(text).host;
  return remote && same(remote.url) ? remote : {};
}

/**
 * Finds the credentials. The environment overrides the configuration, as with OpenClaw's clients.
 *
 * @throws SettingError if a setting refers to a secret that cannot be resolved
 */
export async function findAccess(
  remote: Record<string, unknown>,
  config: GatewayConfig | undefined,
): Promise<Access> {
  const { token, password } = environmentGatewayAccess();
  const given = [token && "OPENCLAW_GATEWAY_TOKEN", password && "OPENCLAW_GATEWAY_PASSWORD"].filter(Boolean);
  if (given.length > 0) return { token, password, from: given.join(" and ") };
  const found: Access = { token: undefined, password: undefined, from: "a connection without a token" };
  for (const name of ["token", "password"] as const) {
    const path = `gateway.remote.${name}`;
    const value = remote[name];
    if (value === undefined || value === "") continue;
    const secret =
      typeof value === "string" ? withVariables(value) : await resolveReference(config, path, value);
    if (typeof secret !== "string" || secret === "")
      throw new SettingError(
        `${path} ${typeof secret === "object" ? secret.why : "names a variable that is not set here"}; set OPENCLAW_GATEWAY_${name.toUpperCase()} for this command`,
      );
    found[name] = secret;
    found.from = path;
  }
  return found;
}
