/** The address of a remote gateway, and the fingerprint of its certificate. */

import { isIP } from "node:net";
import { SettingError } from "../commands/listen.js";

/** The address of a gateway's WebSocket. */
export interface GatewayAddress {
  url: URL;
  host: string;
  port: number;
  isTls: boolean;
  /** SHA-256 of the certificate, 64 hexadecimal digits; if undefined, the machine's certificate authorities decide. */
  fingerprint: string | undefined;
}

/** OpenClaw's environment variable that permits plain `ws://` on a trusted network. */
export const INSECURE = "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS";

/**
 * Reads `--gateway` and `--tls-fingerprint`.
 *
 * @param isInsecureAllowed whether plain `ws://` may leave this machine
 * @throws SettingError
 */
export function parseGateway(
  text: string,
  fingerprint: string | undefined,
  isInsecureAllowed: boolean,
): GatewayAddress {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new SettingError(
      "--gateway: no address; write ws://127.0.0.1:18789 or wss://gateway.example:18789",
    );
  }
  // The message shows the host only: other parts may contain secrets.
  if (url.username || url.password || url.search || url.hash)
    throw new SettingError(
      `--gateway: an address has no user, password, query or fragment, which logs would show; set OPENCLAW_GATEWAY_TOKEN for ${url.host}`,
    );
  if (url.protocol !== "ws:" && url.protocol !== "wss:")
    throw new SettingError(
      `--gateway ${text}: no WebSocket's address; write ${url.protocol === "https:" ? "wss" : "ws"}://${url.host}`,
    );
  const isTls = url.protocol === "wss:";
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port ? Number(url.port) : isTls ? 443 : 80;
  if (!isTls && !isLoopback(host) && !isInsecureAllowed)
    throw new SettingError(
      `--gateway ${text}: plain ws:// would show the token and what people wrote to the network; use wss://, or an SSH tunnel (ssh -N -L 18789:127.0.0.1:18789 user@${host}) with ws://127.0.0.1:18789; on a network that is trusted set ${INSECURE}=1`,
    );
  if (fingerprint !== undefined && !isTls)
    throw new SettingError(`--tls-fingerprint: ${text} has no certificate; use wss://`);
  return { url, host, port, isTls, fingerprint: fingerprint && readFingerprint(fingerprint) };
}

/** Reads a fingerprint in the forms of OpenClaw's clients: `sha256:AB:CD…`, with or without prefix and colons. */
function readFingerprint(text: string): string {
  const digits = plainFingerprint(text);
  if (digits.length === 64) return digits;
  throw new SettingError(
    `--tls-fingerprint ${text}: no SHA-256 of a certificate, which has 64 hexadecimal digits; on the gateway's host: openssl x509 -noout -fingerprint -sha256 -in <certificate>`,
  );
}

/** The hexadecimal digits of a fingerprint, in lower case. */
export function plainFingerprint(text: string): string {
  return text
    .trim()
    .replace(/^sha-?256( fingerprint)?\s*[:=]?\s*/i, "")
    .replace(/[^a-f0-9]/gi, "")
    .toLowerCase();
}

function isLoopback(host: string): boolean {
  if (host === "localhost" || host.endsWith(".localhost")) return true;
  return isIP(host) === 4 ? host.startsWith("127.") : host === "::1";
}
