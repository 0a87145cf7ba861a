/** The installation's random name and secret key, which are stored in the gateway's state directory. */

import { randomBytes } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { parseEnv } from "node:util";
import type { GatewayConfig } from "../plugin/openclaw.js";
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
import { reason } from "./promises.js";

/** The identity of this installation. */
export interface Installation {
  /** A stable name, which receivers get as `gateway`. */
  installation: string;
  /** 32 hexadecimal digits that key the hashes of identities; never sent. */
  identityKey: string;
}

/** The folder's folder of the gateways that `sync --gateway` reads: a state directory for each. */
export const GATEWAYS = "gateways";

/** The plugin's folder in the gateway's state directory. */
export function stateFolder(stateDir: string): string {
  return join(stateDir, "agentwatch");
}

/** Identities that this process made, by state directory; used where the folder cannot be written. */
const madeHere = new Map<string | undefined, Installation>();

/**
 * Reads the installation's identity, or makes and stores a new one. Processes that start at the same time agree on one.
 *
 * Where the folder cannot be written the identity changes with each process, and `problem` says so.
 */
export function openInstallation(stateDir: string | undefined): Installation & { problem?: string } {
  if (!stateDir)
    return { ...made(stateDir), problem: "no state directory is known; identities change at each start" };
  const { value, fault } = readInstallation(stateDir);
  if (value) return value;
  try {
    makeFolder(stateFolder(stateDir));
    const stored = store(fileOf(stateDir), made(stateDir));
    return fault ? { ...stored, problem: replacedProblem(fault, stored) } : stored;
  } catch (error) {
    const why = `${fileOf(stateDir)} cannot be used (${reason(error)}); identities change at each start`;
    return { ...made(stateDir), problem: why };
  }
}

/** Reads `installation.json`. Changes nothing. */
export function readInstallation(stateDir: string): Found<Installation> {
  return readJson(fileOf(stateDir), check);
}

/**
 * Reads the gateway's configuration file, for processes that get no configuration from the gateway. `problem` says why it
 * could not be read.
 *
 * @param file the environment's `OPENCLAW_CONFIG_PATH`; without it `openclaw.json` of the state directory
 * @param isNamed whether an option named the state directory: its own file then comes first
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
      problem: `${path} cannot be read as JSON (${why}): this command runs without its settings and prices; \`openclaw agentwatch\` reads it as the gateway does, and \`openclaw config set\` writes it without comments`,
    };
  }
}

/** The variables in the state directory's `.env`, which the gateway reads at its start; none where it cannot be read. */
export function openVariables(stateDir: string | undefined): Record<string, string> {
  const path = stateDir && join(stateDir, ".env");
  if (!path || !existsSync(path)) return {};
  try {
    const found = parseEnv(readOwnSync(path, MOST_BYTES, "foreign").toString("utf8"));
    return Object.fromEntries(Object.entries(found).flatMap(([name, text]) => (text ? [[name, text]] : [])));
  } catch {
    return {};
  }
}

/** Whether the gateway runs in a Docker container. */
export function isInContainer(): boolean {
  return existsSync("/.dockerenv");
}

function made(stateDir: string | undefined): Installation {
  const known = madeHere.get(stateDir) ?? make();
  madeHere.set(stateDir, known);
  return known;
}

function make(): Installation {
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

function replacedProblem(fault: string, { installation }: Installation): string {
  return `${fault}: the installation has a new name (${installation}) and a new key; set gateway to have AgentWatch show the former name`;
}

/** Tries to agree with other processes. One is enough unless something else changes the files. */
const TRIES = 10;

/**
 * Stores an identity where the file is missing or damaged; several processes that do this at once store the same one. One
 * of them creates a missing file. A damaged file is replaced only by the identity of a second file, which one of them
 * creates too, and which is removed only while the first file is valid.
 */
function store(file: string, own: Installation): Installation {
  const agreed = `${file}.agreed`;
  const text = `${JSON.stringify(own)}\n`;
  for (let tries = 0; tries < TRIES; tries += 1) {
    moveFolderAside(file);
    if (!statsOf(file) && createOnce(file, text)) return own;
    createOnce(agreed, text);
    // In this order: a second file that another process created after this one was agreed on comes behind a valid first file.
    const second = readJson(agreed, check).value;
    const known = readJson(file, check).value;
    const found = known ?? second;
    if (found && !known) replaceOwnSync(file, `${JSON.stringify(found)}\n`, true, ownName(file));
    moveFolderAside(agreed);
    rmSync(agreed, { force: true });
    if (found) return readJson(file, check).value ?? found;
  }
  throw new Error("other processes keep changing it");
}
