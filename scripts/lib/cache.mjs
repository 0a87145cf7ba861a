import { mkdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { say, withProgress } from "./run.mjs";

/** The folder of everything that is fetched or built for development, outside of the project. */
export function cacheRoot() {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return process.env.AGENTWATCH_OPENCLAW_CACHE || join(base, "agentwatch-openclaw");
}

/** Age in ms after which a lock belongs to a killed process: a living one touches it. */
const ABANDONED_AFTER_MS = 60_000;
const HEARTBEAT_MS = 10_000;

/**
 * A folder of the cache. Its marker is written last and holds the recipe. A folder without a marker is of an interrupted
 * installation, and one with another recipe is outdated: both are made again. Of several processes one fills the folder,
 * and the others wait.
 *
 * @param {string} name Path below the cache root.
 * @param {string} what Text for the progress lines.
 * @param {(folder: string) => Promise<void>} fill
 * @param {string} recipe Versions, or the hash of a lock; a folder with another recipe is made again.
 * @returns {Promise<string>} The folder's path.
 */
export async function cached(name, what, fill, recipe) {
  const folder = join(cacheRoot(), name);
  const marker = join(folder, ".complete");
  const isCurrent = async () => (await readFile(marker, "utf8").catch(() => "")) === recipe;
  if (await isCurrent()) return folder;
  return locked(folder, async () => {
    if (await isCurrent()) return folder;
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    await withProgress(what, () => fill(folder));
    await writeFile(marker, recipe);
    return folder;
  });
}

/**
 * Runs work for a path in one process at a time, by a lock folder beside the path: making a folder is atomic.
 *
 * @template T
 * @param {string} path
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function locked(path, work) {
  const lock = `${path}.lock`;
  await mkdir(join(lock, ".."), { recursive: true });
  for (let told = false; !(await take(lock)); await sleep(500)) {
    if (!told) say(`waiting for another process that works on ${path}`);
    told = true;
  }
  const heartbeat = setInterval(() => utimes(lock, new Date(), new Date()).catch(() => {}), HEARTBEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    await rm(lock, { recursive: true, force: true });
  }
}

/** @param {string} lock */
async function take(lock) {
  try {
    await mkdir(lock);
    await writeFile(join(lock, "pid"), String(process.pid));
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== "EEXIST") throw error;
  }
  if (await abandoned(lock)) await rm(lock, { recursive: true, force: true });
  return false;
}

/** @param {string} lock */
async function abandoned(lock) {
  const touched = await stat(lock).catch(() => undefined);
  if (!touched) return false;
  if (Date.now() - touched.mtimeMs > ABANDONED_AFTER_MS) return true;
  const pid = Number(await readFile(join(lock, "pid"), "utf8").catch(() => ""));
  return Number.isInteger(pid) && pid > 0 && !isAlive(pid);
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === "EPERM";
  }
}
