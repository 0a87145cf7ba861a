/** What is wrong with the plugin's files: what they are, whose they are, who may write to them, and who owns the journal. */

import { accessSync, constants, lstatSync, readdirSync, readlinkSync, type Stats, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Finding } from "./doctor.js";
import { kindOf, statsOf } from "./files.js";
import { lives, STALE_MS, writtenOwner } from "./lease.js";
import type { StatusDocument } from "./status.js";

/** Folders of ours; the last one is there while a process takes the journal over. */
const FOLDERS = ["journal", "otlp", "spool"];
const TAKEOVER = "owner.json.takeover";
/** How many files are named of a kind. */
const MOST_NAMED = 3;

/** Another user's folder looks as if it were not there. */
export function whyShut(folder: string): Finding | undefined {
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

/** One of our files, or of what stands among them. */
interface Entry {
  path: string;
  stats: Stats;
}

/** Examines all files of our folder. */
export function examineFiles(folder: string, { faults = [] }: StatusDocument): Finding[] {
  const check = "files";
  const all = entriesOf(folder);
  const { uid } = statSync(folder);
  const found: Finding[] = faults.map((fault) => {
    const [says = "", ...mend] = fault.split("; ");
    return { check, state: "trouble", says, mend: mend.join("; ") };
  });
  const tell = (bad: Entry[], what: string, mend: string) => {
    if (bad.length === 0) return;
    const named = bad.slice(0, MOST_NAMED).map(({ path }) => path);
    const more = bad.length > named.length ? ` and ${bad.length - named.length} more` : "";
    found.push({ check, state: "trouble", says: `${named.join(", ")}${more} ${what}`, mend });
  };
  const isOurs = process.getuid?.() === uid;
  tell(
    all.filter(({ path, stats }) => !stats.isSymbolicLink() && !isWritable(path)),
    "cannot be read and written by this user",
    isOurs
      ? `chmod -R u+rwX ${folder}, and see that its disk is not mounted read-only`
      : `run this as the gateway's user; where this is that user: chown -R of ${folder} to it (it belongs to user ${uid})`,
  );
  tell(
    all.filter(({ path, stats }) => kindOf(stats) && !isFolderOfOurs(path, folder)),
    "is no file, and is left out",
    "see whose it is, and remove it",
  );
  tell(
    all.filter(({ stats }) => !stats.isSymbolicLink() && (stats.mode & 0o022) !== 0),
    "may be written by other users",
    `chmod -R go-w ${folder}`,
  );
  tell(
    all.filter(({ stats }) => stats.uid !== uid),
    "belongs to another user",
    `see who made it; chown -R it to user ${uid}, and run commands as the gateway's user`,
  );
  const parent = dirname(folder);
  // With the sticky bit others cannot replace what is there.
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
  // The folder itself may be a link, which is told apart.
  return [...new Set(paths)].flatMap((path) => {
    const stats = path === folder ? statSync(path) : statsOf(path);
    return stats ? { path, stats } : [];
  });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // It is no folder, or not for this user to read: told by its own entry.
    return [];
  }
}

function isFolderOfOurs(path: string, folder: string): boolean {
  const isOne = [folder, ...[...FOLDERS, TAKEOVER].map((name) => join(folder, name))].includes(path);
  // Journals are moved to larger disks by a link.
  return isOne && statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch (error) {
    // A file that went meanwhile is none that cannot be written.
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

/** An owner that said nothing for long: killed, hung, or with another process's number now. */
export function examineLease(folder: string, document: StatusDocument): Finding[] {
  const owner = writtenOwner(folder).value;
  // Nobody owns it, or somebody who lives.
  if (!owner || document.owner) return [];
  const check = "journal";
  const who = `process ${owner.pid} (${owner.role})`;
  if (lives(owner) === false)
    return [
      {
        check,
        state: "note",
        says: `${who} owned the journal and is gone; what it had not sent is kept`,
        mend: "nothing: the next start takes the journal over",
      },
    ];
  return [
    {
      check,
      state: "trouble",
      says: `${who} on ${owner.host} owns the journal and has said nothing for ${silentSeconds(folder)} s: it hangs, or its number is another process's now`,
      mend: "restart the gateway; the next start takes the journal over",
    },
  ];
}

/** By the date of its file, which may be wrong; it was watched for long enough. */
function silentSeconds(folder: string): number {
  const written = statsOf(join(folder, "owner.json"))?.mtimeMs ?? 0;
  return Math.round(Math.max(Date.now() - written, STALE_MS) / 1000);
}
