/** Checks the plugin's files: their kinds, their users, their permissions, and the owner of the journal. */

import { accessSync, constants, lstatSync, readdirSync, readlinkSync, type Stats, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { isFolder, kindOf, statsOf } from "../base/files.js";
import { writtenOwner } from "../base/owner.js";
import type { StatusDocument } from "../worker/status.js";
import type { Finding } from "./doctor.js";

/** The folders in the plugin's folder. */
const FOLDERS = ["journal", "otlp", "spool"];
/** A folder that exists while a process takes the journal over. */
const TAKEOVER = "owner.json.takeover";
/** Files that one finding names. */
const MAX_NAMED = 3;

/** The finding for a folder that this user may not look at; `existsSync` would call it missing. */
export function examineAccess(folder: string): Finding | undefined {
  try {
    statSync(folder);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    const says = `${folder} cannot be looked at by this user (${code})`;
    return { check: "files", state: "trouble", says, mend: "run this as the gateway's user" };
  }
}

/** A path in the plugin's folder. */
interface Entry {
  path: string;
  stats: Stats;
}

/** Checks all files of the plugin's folder. */
export function examineFiles(folder: string, { faults = [] }: StatusDocument): Finding[] {
  const check = "files";
  const all = entriesOf(folder);
  const { uid } = statSync(folder);
  const found: Finding[] = faults.map((fault) => {
    const [says = "", ...mend] = fault.split("; ");
    return { check, state: "trouble", says, mend: mend.join("; ") };
  });
  const report = (bad: Entry[], problem: string, mend: string) => {
    if (bad.length === 0) return;
    const named = bad.slice(0, MAX_NAMED).map(({ path }) => path);
    const more = bad.length > named.length ? ` and ${bad.length - named.length} more` : "";
    found.push({ check, state: "trouble", says: `${named.join(", ")}${more} ${problem}`, mend });
  };
  const isOwnUser = process.getuid?.() === uid;
  report(
    all.filter(({ path, stats }) => !stats.isSymbolicLink() && !isWritable(path)),
    "cannot be read and written by this user",
    isOwnUser
      ? `chmod -R u+rwX ${folder}, and see that its disk is not mounted read-only`
      : `run this as the gateway's user; where this is that user: chown -R of ${folder} to it (it belongs to user ${uid})`,
  );
  report(
    all.filter(({ path, stats }) => kindOf(stats) && !isPluginFolder(path, folder)),
    "is no file, and is left out",
    "see whose it is, and remove it",
  );
  report(
    all.filter(({ stats }) => !stats.isSymbolicLink() && (stats.mode & 0o022) !== 0),
    "may be written by other users",
    `chmod -R go-w ${folder}`,
  );
  report(
    all.filter(({ stats }) => stats.uid !== uid),
    "belongs to another user",
    `see who made it; chown -R it to user ${uid}, and run commands as the gateway's user`,
  );
  const parent = dirname(folder);
  // With the sticky bit other users cannot replace the folder.
  if ((statSync(parent).mode & 0o1002) === 0o002)
    found.push({
      check,
      state: "trouble",
      says: `${parent} may be written by every user, who can put anything in the place of ${folder}`,
      mend: `chmod o-w ${parent}`,
    });
  if (lstatSync(folder).isSymbolicLink())
    found.push({
      check,
      state: "note",
      says: `${folder} is a symbolic link to ${readlinkSync(folder)}`,
      mend: "nothing, if you made it; purge leaves it alone",
    });
  if (!found.some(({ state }) => state === "trouble"))
    found.push({ check, state: "ok", says: `${folder} can be written` });
  return found;
}

/** The folder, the folders in it, and everything in these. */
function entriesOf(folder: string): Entry[] {
  const folders = [folder, ...FOLDERS.map((name) => join(folder, name))];
  const paths = folders.flatMap((path) => [path, ...namesIn(path).map((name) => join(path, name))]);
  // A finding of its own reports that the plugin's folder is a link.
  return [...new Set(paths)].flatMap((path) => {
    const stats = path === folder ? statSync(path) : statsOf(path);
    return stats ? { path, stats } : [];
  });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // No folder, or not readable: the finding of its own path reports that.
    return [];
  }
}

function isPluginFolder(path: string, folder: string): boolean {
  const isOne = [folder, ...[...FOLDERS, TAKEOVER].map((name) => join(folder, name))].includes(path);
  // A link is allowed: it moves the journal to a larger disk.
  return isOne && isFolder(path);
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch (error) {
    // The file was removed meanwhile.
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

/** The finding for an owner that has not renewed its lease: killed, hung, or its process number belongs to another process. */
export function examineLease(folder: string, document: StatusDocument): Finding[] {
  const { owner, lives, silent_s } = writtenOwner(folder);
  // No owner, or a running one.
  if (!owner || document.owner) return [];
  const check = "journal";
  const holder = `process ${owner.pid} (${owner.role})`;
  if (lives === false)
    return [
      {
        check,
        state: "note",
        says: `${holder} owned the journal and has ended; its pending records are in the journal`,
        mend: "nothing: the next start takes the journal over",
      },
    ];
  return [
    {
      check,
      state: "trouble",
      says: `${holder} on ${owner.host} owns the journal and has said nothing for ${silent_s} s: it hangs, or its number is another process's now`,
      mend: "restart the gateway; the next start takes the journal over",
    },
  ];
}
