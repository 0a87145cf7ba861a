/** The device identity for gateways: an Ed25519 key in a file that only its user may read. */

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from "node:crypto";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { createOnce, faultOf, makeFolder, readJson, statsOf } from "../base/files.js";
import { stateFolder } from "../base/installation.js";
import { SettingError } from "./listen.js";

/** The signed values of `connect`, in OpenClaw's names. */
export interface Signed {
  clientId: string;
  clientMode: string;
  role: string;
  scopes: readonly string[];
  token: string;
  nonce: string;
  /** ms since 1970, by the gateway's clock. */
  signedAt: number;
}

/** The parameter `device` of `connect`. */
export interface DeviceProof {
  id: string;
  publicKey: string;
  signature: string;
  signedAt: number;
  nonce: string;
}

/** A device's key. */
export class Device {
  readonly #key: KeyObject;
  readonly #publicKey: string;
  /** SHA-256 of the public key, hexadecimal, as in `openclaw devices list`. */
  readonly id: string;

  constructor(key: KeyObject) {
    this.#key = key;
    const raw = createPublicKey(key).export({ type: "spki", format: "der" }).subarray(-32);
    this.#publicKey = raw.toString("base64url");
    this.id = createHash("sha256").update(raw).digest("hex");
  }

  /** Signs in version 2 of the format, which all gateways from 2026.3 on accept. */
  prove({ clientId, clientMode, role, scopes, token, nonce, signedAt }: Signed): DeviceProof {
    const parts = ["v2", this.id, clientId, clientMode, role, scopes.join(","), signedAt, token, nonce];
    const signature = sign(null, Buffer.from(parts.join("|")), this.#key).toString("base64url");
    return { id: this.id, publicKey: this.#publicKey, signature, signedAt, nonce };
  }
}

/**
 * Reads the device's key, or makes and stores a new one.
 *
 * @throws SettingError where it cannot be stored: each run would need another approval on the gateway
 */
export function openDevice(stateDir: string): Device {
  const file = join(stateFolder(stateDir), "device.json");
  try {
    makeFolder(stateFolder(stateDir));
    if (!statsOf(file)) {
      const { privateKey } = generateKeyPairSync("ed25519");
      createOnce(file, `${JSON.stringify({ key: privateKey.export({ type: "pkcs8", format: "pem" }) })}\n`);
    }
    const { value, fault } = readJson(file, readKey);
    if (!value) throw new Error(fault ?? `${file} holds no key`);
    // A restored backup may have other permissions.
    if (((statsOf(file)?.mode ?? 0) & 0o077) !== 0) chmodSync(file, 0o600);
    return new Device(value);
  } catch (error) {
    throw new SettingError(
      `${faultOf(file, error)}: it is the device that the gateway knows; mend it, or remove it and approve the new one`,
    );
  }
}

function readKey(value: unknown): KeyObject | undefined {
  const { key } = (value ?? {}) as { key?: unknown };
  if (typeof key !== "string") return undefined;
  try {
    const read = createPrivateKey(key);
    return read.asymmetricKeyType === "ed25519" ? read : undefined;
  } catch {
    return undefined;
  }
}
