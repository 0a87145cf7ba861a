/** The installation's own name and secret: drawn once, kept in the gateway's state directory. */

import { randomBytes } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import {
  createOnce,
  type Found,
  MOST_BYTES,
  makeFolder,
  moveFolderAside,
  ownName,
  readJson,
  readOwnSync,
  replaceOwnSync,
  statsOf,
} from "./files.js";
import type { GatewayConfig } from "./openclaw.js";
import { reason } from "./promises.js";

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

/** What was drawn by this process for a folder that cannot be written. */
const drawnHere = new Map<string | undefined, Installation>();

/**
 * Reads the installation's identity, or draws and keeps a new one. Processes that start at once agree on one.
 *
 * Where the folder cannot be written the identity lives as long as the process, and `problem` says so.
 */
export function openInstallation(stateDir: string | undefined): Installation & { problem?: string } {
  if (!stateDir)
    return { ...drawn(stateDir), problem: "no state directory is known; identities change at each start" };
  const { value, fault } = readInstallation(stateDir);
  if (value) return value;
  try {
    makeFolder(stateFolder(stateDir));
    const kept = keep(fileOf(stateDir), drawn(stateDir));
    return fault ? { ...kept, problem: drawnAnew(fault, kept) } : kept;
  } catch (error) {
    const why = `${fileOf(stateDir)} cannot be used (${reason(error)}); identities change at each start`;
    return { ...drawn(stateDir), problem: why };
  }
}

/** What `installation.json` holds, for those who change nothing. */
export function readInstallation(stateDir: string): Found<Installation> {
  return readJson(fileOf(stateDir), check);
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
    const config = JSON.parse(readOwnSync(path, MOST_BYTES, "foreign").toString("utf8"));
    if (typeof config !== "object" || config === null) throw new Error("it holds no object");
    return { config };
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

function drawn(stateDir: string | undefined): Installation {
  const known = drawnHere.get(stateDir) ?? draw();
  drawnHere.set(stateDir, known);
  return known;
}

function draw(): Installation {
  const identityKey = randomHex(16);
  const host = hostname().replace(/[^A-Za-z0-9.-]/g, "_") || "gateway";
  return { installation: `${host}-${randomHex(2)}`, identityKey };
}

function randomHex(bytes: number): string {
  return randomBytes(bytes).toString("hex");
}

function fileOf(stateDir: string): string {
  return join(stateFolder(stateDir), "installation.json");
}

function check(value: unknown): Installation | undefined {
  const { installation, identityKey } = (value ?? {}) as Record<string, unknown>;
  const isName = typeof installation === "string" && /^\P{C}{1,255}$/u.test(installation);
  const isKey = typeof identityKey === "string" && /^[0-9a-f]{32}$/.test(identityKey);
  return isName && isKey ? { installation, identityKey } : undefined;
}

function drawnAnew(fault: string, { installation }: Installation): string {
  return `${fault}: a new name (${installation}) and a new key were drawn; set gateway where AgentWatch is to show the former name`;
}

/** How often it is tried to agree; a second try is one too many already where nobody meddles. */
const TRIES = 10;

/**
 * Keeps an identity where the file is missing or damaged: of several processes all the same one. A missing file is made
 * by one of them. A damaged one is replaced only by what a second file holds, which is made by one of them too, and is
 * removed only while the first is well.
 */
function keep(file: string, own: Installation): Installation {
  const agreed = `${file}.agreed`;
  const text = `${JSON.stringify(own)}\n`;
  for (let tries = 0; tries < TRIES; tries += 1) {
    moveFolderAside(file);
    if (!statsOf(file) && createOnce(file, text)) return own;
    createOnce(agreed, text);
    const known = readJson(file, check).value;
    const found = known ?? readJson(agreed, check).value;
    if (found && !known) replaceOwnSync(file, `${JSON.stringify(found)}\n`, true, ownName(file));
    moveFolderAside(agreed);
    rmSync(agreed, { force: true });
    if (found) return readJson(file, check).value ?? found;
  }
  throw new Error("other processes change it all the time");
}
