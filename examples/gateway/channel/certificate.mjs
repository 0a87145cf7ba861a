import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

/** Tags of DER, as X.509 uses them. */
const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bits: 0x03,
  bytes: 0x04,
  oid: 0x06,
  text: 0x0c,
  utcTime: 0x17,
  sequence: 0x30,
  set: 0x31,
};
/** Tagged by their place: a version, a list of extensions, a host's name. */
const PLACE = { version: 0xa0, extensions: 0xa3, dnsName: 0x82 };
const OID = {
  ecdsaWithSha256: "2a8648ce3d040302",
  commonName: "550403",
  subjectAltName: "551d11",
  basicConstraints: "551d13",
};
const DAY_MS = 86_400_000;

/**
 * A certificate for one host, signed by its own key and made in memory: for tests in which a program must take this
 * process for that host. It is valid for two days.
 *
 * @param {string} host
 * @returns {{ key: string, cert: string }} Both as PEM.
 */
export function certificateFor(host) {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const algorithm = der(TAG.sequence, oid(OID.ecdsaWithSha256));
  const name = der(
    TAG.sequence,
    der(TAG.set, der(TAG.sequence, oid(OID.commonName), der(TAG.text, Buffer.from(host)))),
  );
  const validity = der(TAG.sequence, utcTime(Date.now() - DAY_MS), utcTime(Date.now() + DAY_MS));
  const body = der(
    TAG.sequence,
    der(PLACE.version, der(TAG.integer, Buffer.from([2]))),
    der(TAG.integer, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    name,
    validity,
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(PLACE.extensions, der(TAG.sequence, isAuthority(), isHost(host))),
  );
  const signature = sign("sha256", body, privateKey);
  const certificate = der(TAG.sequence, body, algorithm, der(TAG.bits, Buffer.from([0]), signature));
  const lines = certificate.toString("base64").match(/.{1,64}/g) ?? [];
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`,
  };
}

function isAuthority() {
  const value = der(TAG.sequence, der(TAG.boolean, Buffer.from([0xff])));
  return der(TAG.sequence, oid(OID.basicConstraints), der(TAG.bytes, value));
}

/** @param {string} host */
function isHost(host) {
  const value = der(TAG.sequence, der(PLACE.dnsName, Buffer.from(host)));
  return der(TAG.sequence, oid(OID.subjectAltName), der(TAG.bytes, value));
}

/** @param {string} hex */
function oid(hex) {
  return der(TAG.oid, Buffer.from(hex, "hex"));
}

/** @param {number} ms */
function utcTime(ms) {
  const digits = new Date(ms).toISOString().replace(/\D/g, "").slice(2, 14);
  return der(TAG.utcTime, Buffer.from(`${digits}Z`));
}

/**
 * @param {number} tag
 * @param {Uint8Array[]} parts
 */
function der(tag, ...parts) {
  const content = Buffer.concat(parts);
  const { length } = content;
  const bytes =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...bytes]), content]);
}
