// What the tests of `sync --gateway` share: a folder, links to a fake gateway, a certificate.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { promisify } from "node:util";
import { openDevice } from "../../dist/commands.js";
import { GatewayLink, parseGateway } from "../../dist/remote.js";

export const SECRET = "a-token-that-nobody-sees";

/** The test file's own folder; removed behind its tests. */
export const folder = await mkdtemp(join(tmpdir(), "agentwatch-remote-"));
after(() => rm(folder, { recursive: true, force: true }));

/** @param {string} url @param {string} [fingerprint] */
export const addressOf = (url, fingerprint) => parseGateway(url, fingerprint, false);

/** @param {Awaited<ReturnType<typeof import("./fake-gateway.mjs").startFakeGateway>>} gateway */
export function link(
  gateway,
  { token = SECRET, onEvent = () => {}, onClosed = () => {}, fingerprint = undefined } = {},
) {
  const device = openDevice(join(folder, "link"));
  const access = { token, password: undefined };
  return GatewayLink.open(addressOf(gateway.url, fingerprint), device, access, "1", onEvent, onClosed);
}

const run = promisify(execFile);

/** A self-signed certificate of another name, and its fingerprint as openssl prints it. */
export async function makeCertificate() {
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=elsewhere"];
  const made = await run("openssl", [...words, "-keyout", key, "-out", cert]).catch(() => undefined);
  if (!made) return undefined;
  const { stdout } = await run("openssl", ["x509", "-noout", "-fingerprint", "-sha256", "-in", cert]);
  return { key: await readFile(key, "utf8"), cert: await readFile(cert, "utf8"), fingerprint: stdout.trim() };
}
