/** Error messages for the connection to a gateway, with the settings that mend it. */

import type { GatewayAddress } from "./address.js";
import { ConnectionError, PROTOCOL, Refusal, SCOPES } from "./link.js";
import { FingerprintError } from "./socket.js";

/** A problem of a connection. */
export interface Trouble {
  /** The problem, and the mend. */
  says: string;
  /** Whether a retry may succeed without a change on this machine. */
  mayPass: boolean;
  /** Pause that the gateway asks for, in ms. */
  afterMs?: number | undefined;
}

/** Describes an error. @param from the source of the token, for messages @throws errors of other kinds */
export function troubleOf(error: unknown, { url, host, port }: GatewayAddress, from: string): Trouble {
  const at = `--gateway ${url.origin === "null" ? `${url.protocol}//${url.host}` : url.origin}`;
  if (error instanceof FingerprintError)
    return {
      says: `${at}: its certificate has the fingerprint ${error.message}, and not that of --tls-fingerprint; compare it with \`openssl x509 -noout -fingerprint -sha256\` on the gateway's host, and set it anew only where that is the same`,
      mayPass: false,
    };
  if (error instanceof Refusal) return refused(error, at, from);
  if (!(error instanceof ConnectionError)) throw error;
  const { code, message } = error;
  if (/CERT|SELF_SIGNED|SIGNATURE|ISSUER|ALTNAME/.test(code))
    return {
      says: `${at}: its certificate is not trusted (${code}); pin it with --tls-fingerprint or gateway.remote.tlsFingerprint, or name the authority's file in NODE_EXTRA_CA_CERTS`,
      mayPass: false,
    };
  if (/SSL|TLS|EPROTO/.test(code))
    return {
      says: `${at}: it does not speak TLS (${code}); try ws:// if it has no certificate`,
      mayPass: false,
    };
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return { says: `${at}: the name ${host} cannot be resolved here (${code})`, mayPass: true };
  if (code === "ECONNREFUSED")
    return {
      says: `${at}: nothing listens at ${host}:${port}; start the gateway, and check gateway.port and that gateway.bind lets other machines reach it`,
      mayPass: true,
    };
  return { says: `${at}: the gateway cannot be reached (${code || message})`, mayPass: true };
}

function refused(error: Refusal, at: string, from: string): Trouble {
  const { code, details, method, message } = error;
  const fatal = (says: string) => ({ says: `${at}: ${says}`, mayPass: false });
  const passing = (says: string, afterMs = error.retryAfterMs) => ({
    says: `${at}: ${says}`,
    mayPass: true,
    afterMs,
  });
  if (code === "PAIRING_REQUIRED" || code === "NOT_PAIRED") {
    const id =
      typeof details.requestId === "string" && /^[\w-]{1,64}$/.test(details.requestId)
        ? details.requestId
        : "";
    return passing(
      `it does not know this device yet; on its host: openclaw devices approve ${id || "<request of `openclaw devices list`>"}`,
    );
  }
  if (/MISSING_SCOPE/.test(code) || /missing scope/i.test(message))
    return fatal(
      `this device may not read (${message}); on its host remove it with openclaw devices remove, run this again, and approve it with the scope ${SCOPES.join()}`,
    );
  if (/RATE_LIMITED/.test(code))
    return passing(
      `it got too many wrong tokens (${code}); this command retries later`,
      error.retryAfterMs ?? 30_000,
    );
  if (/^DEVICE_/.test(code))
    return fatal(
      `it refuses this device's signature (${code}); check both machines' clocks, and remove device.json of the state directory for a new device`,
    );
  if (/^AUTH_|UNAUTHORIZED|PASSWORD/.test(code) || (method === "connect" && /unauthorized/i.test(message))) {
    const password = /PASSWORD/.test(code)
      ? "OPENCLAW_GATEWAY_PASSWORD (its gateway.auth.password)"
      : "OPENCLAW_GATEWAY_TOKEN (its gateway.auth.token)";
    return fatal(`it refuses ${from} (${code || message}); set ${password}`);
  }
  if (/protocol mismatch/i.test(message) || "expectedProtocol" in details) {
    const spoken = details.expectedProtocol ?? "another version";
    return fatal(
      `it speaks ${spoken} of the gateway's protocol, and this command ${PROTOCOL.min} to ${PROTOCOL.max}; update the older of the two`,
    );
  }
  if (/unknown method/i.test(message))
    return fatal(
      `it has no ${method}, so it is too old: OpenClaw 2026.3.13 is the oldest that is polled; update it, or use the plugin, the hook or sync on its host`,
    );
  if (error.isRetryable || code === "UNAVAILABLE") return passing(`it is not ready (${message})`);
  return fatal(`${method} was refused (${code}: ${message})`);
}
