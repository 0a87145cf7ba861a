/**
 * Where a gateway keeps its sessions: a folder an agent in the state directory, and where `session.store` of its
 * configuration says, as OpenClaw itself resolves that:
 *
 * - `{agentId}` in it is the agent's id: a store for each agent that is found there.
 * - `<folder>/sessions.json`: transcripts stand in that folder. OpenClaw 2026.8 and later keep them in
 *   `openclaw-agent.sqlite` there, or, where the folder is `agents/<agent>/sessions`, in the agent's own place.
 * - `<folder>/<name>.json`: likewise, in `<name>.sqlite`.
 * - `<folder>/<name>.sqlite`: the database itself.
 *
 * Several agents may share a store that is no agent's own. From 2026.8 on each has a database beside the first then,
 * `<name>.<agent>.sqlite`, or its sessions stand in the same one under its own keys.
 */

import { createHash } from "node:crypto";
import { readdir, realpath } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { isMissing } from "./transcript-file.js";

/** What the configuration says of the store. */
export interface SessionStore {
  /** `session.store`, absolute; may have `{agentId}` in it. */
  path: string;
  /** Whose sessions are those that do not say it (`agents.defaults.sessionStore.agentId`). */
  owner?: string | undefined;
}

/** A place with sessions in it. */
export interface StorePlace {
  /** What bookmarks of its sessions begin with: the agent's id, or `~` and a hash of where it is. */
  name: string;
  /** The agent of sessions that do not say whose they are. */
  agent: string;
  /** The folder of transcripts in files. */
  folder?: string;
  /** The folder of those that were moved into the database. */
  archive?: string;
  /** Files that say which session has which key: what is no agent's own is shared. */
  indexes: string[];
  database?: string;
}

const AGENT_ID = "{agentId}";
const DATABASE = "openclaw-agent.sqlite";
const INDEX = "sessions.json";
const ARCHIVE = "session-sqlite-import-archive";
/** Whose sessions are those of a shared store that do not say it. */
const MAIN = "main";

/** All places of a gateway, each once: the usual one may be named, and the agents of a store may share a folder. */
export async function storePlaces(stateDir: string, store?: SessionStore): Promise<StorePlace[]> {
  const agents = join(stateDir, "agents");
  const found = (await namesIn(agents)).map((agent) => ({ ...ofAgent(join(agents, agent)), name: agent }));
  const stores = store ? await expand(store) : [];
  for (const { path, agent } of stores) found.push(...(await placesOf(path, agent)));
  const places: StorePlace[] = [];
  const known = new Map<string, StorePlace>();
  for (const { name, agent, indexes, ...paths } of found) {
    const place: StorePlace = { name, agent, indexes };
    for (const kind of ["folder", "archive", "database"] as const) {
      const path = paths[kind];
      if (path === undefined) continue;
      const real = await realpath(path).catch(() => path);
      const owner = known.get(real);
      if (owner && kind === "folder") owner.indexes.push(...indexes);
      if (!owner) place[kind] = path;
      known.set(real, owner ?? place);
    }
    if (place.folder || place.archive || place.database) places.push(place);
  }
  return places;
}

/** Whether a store that the configuration names has anything in it. */
export async function hasStore(stateDir: string, store: SessionStore): Promise<boolean> {
  for (const { name, folder, database } of await storePlaces(stateDir, store))
    for (const path of [folder, database])
      if (name.startsWith("~") && path && (await realpath(path).then(Boolean, () => false))) return true;
  return false;
}

/** An agent's own folder. */
function ofAgent(path: string): StorePlace {
  return {
    name: nameOf(path),
    agent: basename(path),
    folder: join(path, "sessions"),
    archive: join(path, ARCHIVE),
    indexes: [],
    database: join(path, "agent", DATABASE),
  };
}

/** The places of one store. */
async function placesOf(path: string, agent: string): Promise<StorePlace[]> {
  const folder = dirname(path);
  const owner = dirname(folder);
  const isIndex = basename(path) === INDEX;
  if (isIndex && basename(folder) === "sessions" && basename(dirname(owner)) === "agents")
    return [ofAgent(owner)];
  const stem = isIndex ? stemOf(DATABASE) : stemOf(basename(path));
  const first: StorePlace = {
    name: nameOf(path),
    agent,
    folder,
    archive: join(owner, ARCHIVE),
    indexes: path.endsWith(".sqlite") ? [] : [path],
    database: join(folder, `${stem}.sqlite`),
  };
  const others = path.endsWith(".sqlite") ? [] : await partitions(folder, stem);
  return [first, ...others];
}

/** The databases of agents that share a store with another. */
async function partitions(folder: string, stem: string): Promise<StorePlace[]> {
  const places: StorePlace[] = [];
  for (const name of await namesIn(folder)) {
    if (!name.startsWith(`${stem}.`) || !name.endsWith(".sqlite")) continue;
    const [agent = ""] = name.slice(stem.length + 1).split(".");
    const database = join(folder, name);
    if (name !== `${stem}.sqlite`) places.push({ name: nameOf(database), agent, indexes: [], database });
  }
  return places;
}

/** The stores that a path stands for: one, or one for each agent that is found. */
async function expand({ path, owner = MAIN }: SessionStore): Promise<{ path: string; agent: string }[]> {
  const parts = resolve(path).split(sep);
  const at = parts.findIndex((part) => part.includes(AGENT_ID));
  if (at < 0) return [{ path: resolve(path), agent: owner }];
  const isLast = at === parts.length - 1;
  const part = parts[at] ?? "";
  // The file that is named may never have been there: newer gateways have databases beside it.
  const [text, ending] = isLast
    ? [stemOf(part), String.raw`(?:\.json|(?:\.[\w-]+(?:\.\d+)?)?\.sqlite)`]
    : [part, ""];
  const pattern = new RegExp(`^${text.split(AGENT_ID).map(escaped).join("([\\w-]+)")}${ending}$`);
  const stores = new Map<string, string>();
  for (const name of await namesIn(parts.slice(0, at).join(sep) || sep)) {
    const [, agent, ...more] = pattern.exec(name) ?? [];
    if (agent && more.every((again) => again === agent))
      stores.set(parts.join(sep).replaceAll(AGENT_ID, agent), agent);
  }
  return [...stores].map(([path, agent]) => ({ path, agent }));
}

/** A name without its ending. */
function stemOf(name: string): string {
  return name.replace(/\.[^.]*$/, "");
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function nameOf(path: string): string {
  return `~${createHash("sha256").update(path).digest("base64url").slice(0, 10)}`;
}

/** The names in a folder, in order; none where there is no such folder. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
