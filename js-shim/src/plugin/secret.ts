/** Resolves settings that are references to secrets, by OpenClaw's SDK or the environment. */

import { reason } from "../base/promises.js";
import { wholeEnvironment } from "./env.js";
import type { GatewayConfig } from "./openclaw.js";

/** The part of OpenClaw's SDK that resolves references; 2026.3.13 has none. */
interface SecretSdk {
  resolveConfiguredSecretInputString?(asked: {
    config: GatewayConfig;
    env: Record<string, string | undefined>;
    value: unknown;
    path: string;
  }): Promise<{ value?: string; unresolvedRefReason?: string }>;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Whether a value is `{source, provider, id}`. */
function isReference(value: unknown): boolean {
  return isObject(value) && typeof value.source === "string" && typeof value.id === "string";
}

/**
 * Resolves `token`, `webhook.secret` and the values of `otlp.headers` to texts. A value that cannot be resolved becomes undefined, and
 * `problems` says what to write instead.
 *
 * @param isInside whether this process is the gateway or one of OpenClaw's commands
 */
export async function withSecrets<S extends Record<string, unknown>>(
  settings: S,
  config: GatewayConfig | undefined,
  isInside = true,
): Promise<{ settings: S; problems: string[] }> {
  const problems: string[] = [];
  const resolve = async (name: string, value: unknown, instead: string) => {
    if (!isObject(value)) return value;
    const result = isReference(value)
      ? await resolved(config, `plugins.entries.agentwatch.config.${name}`, value)
      : "is neither a text nor {source, provider, id}";
    if (typeof result !== "string") return result.value;
    const forThis = name === "token" ? "; set AGENTWATCH_TOKEN for this command" : "";
    const elsewhere = `\`openclaw agentwatch\` can${forThis}`;
    problems.push(`${name} ${result}; ${isInside ? instead : elsewhere}`);
    return undefined;
  };
  const found: Record<string, unknown> = { ...settings };
  if ("token" in found)
    found.token = await resolve(
      "token",
      found.token,
      'write "${AGENTWATCH_TOKEN}" there, or leave it out, and set AGENTWATCH_TOKEN in the gateway\'s environment',
    );
  const { otlp } = found;
  if (isObject(otlp) && isObject(otlp.headers)) {
    const headers: Array<[name: string, value: unknown]> = [];
    const instead = 'write "${NAME}" there, and set that in the gateway\'s environment';
    for (const [name, value] of Object.entries(otlp.headers))
      headers.push([name, await resolve(`otlp.headers.${name}`, value, instead)]);
    found.otlp = { ...otlp, headers: Object.fromEntries(headers) };
  }
  const { webhook } = found;
  if (isObject(webhook) && "secret" in webhook) {
    const instead = 'write "${AGENTWATCH_WEBHOOK_SECRET}" there, and set that in the gateway\'s environment';
    found.webhook = { ...webhook, secret: await resolve("webhook.secret", webhook.secret, instead) };
  }
  return { settings: found as S, problems };
}

/** Resolves a reference in a process outside of the gateway: `env` from this environment, other sources by OpenClaw's SDK. */
export async function resolveReference(
  config: GatewayConfig | undefined,
  path: string,
  value: unknown,
): Promise<string | { why: string }> {
  if (!isReference(value)) return { why: "is neither a text nor {source, provider, id}" };
  const { source, id } = value as { source: string; id: string };
  if (source === "env") {
    const all = wholeEnvironment();
    const given = Object.hasOwn(all, id) ? all[id] : undefined;
    return given || { why: `refers to the variable ${id}, which is not set here` };
  }
  const secret = await resolved(config, path, value);
  return typeof secret === "string" ? { why: secret } : secret.value;
}

/** Resolves the secret at a path of the configuration. @returns the secret, or the reason why it cannot be resolved */
async function resolved(
  config: GatewayConfig | undefined,
  path: string,
  value: unknown,
): Promise<{ value: string } | string> {
  const { resolveConfiguredSecretInputString: resolve } = await sdk();
  if (!resolve) return "is a reference to a secret, which cannot be resolved here";
  try {
    const asked = { config: config ?? {}, env: wholeEnvironment(), value, path };
    const { value: secret, unresolvedRefReason = "it is empty" } = await resolve(asked);
    return secret ? { value: secret } : `cannot be resolved (${unresolvedRefReason})`;
  } catch (error) {
    return `cannot be resolved (${reason(error)})`;
  }
}

/** The module of OpenClaw's SDK; empty where this version has none, or outside of a gateway. */
async function sdk(): Promise<SecretSdk> {
  const specifier = "openclaw/plugin-sdk/secret-input-runtime";
  return import(specifier).catch(() => ({}));
}
