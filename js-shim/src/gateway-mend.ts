/** What is wrong between this machine and a gateway, in the words of the settings that mend it. */

import type { GatewayAddress } from "./gateway-address.js";
import { Away, PROTOCOL, Refusal, SCOPES } from "./gateway-link.js";
import { FingerprintError } from "./gateway-socket.js";

/** A fault of a connection. */
export interface Trouble {
  /** What is wrong, and the mend. */
  says: string;
  /** Whether it may pass by itself, or is mended on the gateway's side: it is tried again. */
  mayPass: boolean;
  /** How long the gateway asks to be left alone, in ms. */
  afterMs?: number | undefined;
}

/** What an error of a connection means. `from` says where the token came from. */
export function troubleOf(error: unknown, { url, host, port }: GatewayAddress, from: string): Trouble {
  const at = `--gateway ${url.origin === "null" ? `${url.protocol}//${url.host}` : url.origin}`;
  if (error instanceof FingerprintError)
    return {
      says: `${at}: its certificate has the fingerprint ${error.message}, and not that of --tls-fingerprint; compare it with \`openssl x509 -noout -fingerprint -sha256\` on the gateway's host, and set it anew only where that is the same`,
      mayPass: false,
    };
  if (error instanceof Refusal) return refused(error, at, from);
  if (!(error instanceof Away)) throw error;
  const { code, message } = error;
  if (/CERT|SELF_SIGNED|SIGNATURE|ISSUER|ALTNAME/.test(code))
    return {
      says: `${at}: its certificate is not trusted (${code}); pin it with --tls-fingerprint or gateway.remote.tlsFingerprint, or name the authority's file in NODE_EXTRA_CA_CERTS`,
      mayPass: false,
    };
  if (/SSL|TLS|EPROTO/.test(code))
    return {
      says: `${at}: it speaks no TLS (${code}); see whether it is ws:// that it speaks`,
      mayPass: false,
    };
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return { says: `${at}: nobody knows the name ${host} here (${code})`, mayPass: true };
  if (code === "ECONNREFUSED")
    return {
      says: `${at}: nothing listens at ${host}:${port}; start the gateway, see gateway.port, and that gateway.bind lets others reach it`,
      mayPass: true,
    };
  return { says: `${at}: the gateway is away (${code || message})`, mayPass: true };
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
      `it was shown too many wrong tokens (${code}); it is tried again later`,
      error.retryAfterMs ?? 30_000,
    );
  if (/^DEVICE_/.test(code))
    return fatal(
      `it does not take this device's signature (${code}); see both machines' clocks, and remove device.json of the state directory for a new device`,
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
