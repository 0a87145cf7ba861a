/** The installation's own name and secret: drawn once, kept in the gateway's state directory. */

import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { GatewayConfig } from "./openclaw.js";

/** What identifies this installation. */
export interface Installation {
  /** A stable name, told to receivers as `gateway`. */
  installation: string;
  /** 32 hexadecimal digits that key the hashes of identities; never leaves. */
  identityKey: string;
}

/** Our folder in the gateway's state directory. */
export function stateFolder(stateDir: string): string {
  return join(stateDir, "agentwatch");
}

/**
 * Reads the installation's identity, or draws and keeps a new one.
 *
 * Where the folder cannot be written the identity lives as long as the process, and `problem` says so.
 */
export function openInstallation(stateDir: string | undefined): Installation & { problem?: string } {
  const drawn = draw();
  if (!stateDir) return { ...drawn, problem: "no state directory is known; identities change at each start" };
  const file = join(stateFolder(stateDir), "installation.json");
  try {
    if (existsSync(file)) return read(readFileSync(file, "utf8")) ?? keep(file, stateDir, drawn);
    return keep(file, stateDir, drawn);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { ...drawn, problem: `${file} cannot be used (${why}); identities change at each start` };
  }
}

/** The name that an installation has drawn, for those who change nothing. */
export function knownInstallation(stateDir: string): string | undefined {
  try {
    return read(readFileSync(join(stateFolder(stateDir), "installation.json"), "utf8"))?.installation;
  } catch {
    // None was drawn yet, or what is there is drawn anew at the next start.
    return undefined;
  }
}

/**
 * The gateway's configuration, for those who are not told it; `problem` says why it is not known.
 *
 * @param file the environment's `OPENCLAW_CONFIG_PATH`; `openclaw.json` of the state directory
 * @param isNamed whether the state directory was named by an option: its own file then comes first
 */
export function openConfig(
  stateDir: string | undefined,
  file: string | undefined,
  isNamed = false,
): { config?: GatewayConfig; problem?: string } {
  const own = stateDir && join(stateDir, "openclaw.json");
  const path = isNamed && own && existsSync(own) ? own : (file ?? own);
  if (!path || !existsSync(path)) return {};
  try {
    return { config: JSON.parse(readFileSync(path, "utf8")) as GatewayConfig };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return {
      problem: `${path} cannot be read as JSON (${why}): its settings and prices are not known to this command; \`openclaw agentwatch\` reads it as the gateway does, and comments go when OpenClaw writes it, as \`openclaw config set\` does`,
    };
  }
}

/** Whether the gateway runs in a Docker container. */
export function isInContainer(): boolean {
  return existsSync("/.dockerenv");
}

function draw(): Installation {
  const identityKey = randomHex(16);
  const host = hostname().replace(/[^A-Za-z0-9.-]/g, "_") || "gateway";
  return { installation: `${host}-${randomHex(2)}`, identityKey };
}

function randomHex(bytes: number): string {
  return randomBytes(bytes).toString("hex");
}

function read(text: string): Installation | undefined {
  const found = JSON.parse(text) as Partial<Installation>;
  const { installation, identityKey } = found;
  const valid = typeof installation === "string" && /^[0-9a-f]{32}$/.test(String(identityKey));
  return valid ? { installation, identityKey: String(identityKey) } : undefined;
}

function keep(file: string, stateDir: string, drawn: Installation): Installation {
  mkdirSync(stateFolder(stateDir), { recursive: true, mode: 0o700 });
  writeFileSync(file, `${JSON.stringify(drawn)}\n`, { mode: 0o600 });
  return drawn;
}
