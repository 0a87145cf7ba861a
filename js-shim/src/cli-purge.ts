/** The command `agentwatch-openclaw purge`: removes what an uninstalled plugin leaves behind. */

import { type Dirent, readlinkSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { runCommand, tally } from "./cli-pipeline.js";
import { environmentStateDir } from "./env.js";
import { kindOf, statsOf } from "./files.js";
import { stateFolder } from "./installation.js";
import { reason } from "./promises.js";
import { readStatus } from "./status.js";
import { printError, visible } from "./terminal.js";

const USAGE = `agentwatch-openclaw purge [--yes] [--state-dir <folder>]

  Removes agentwatch/ of a gateway's state directory: what waits to be sent, what has been counted, the gateway's drawn
  name and the key of its hashes. For a gateway that was uninstalled: one that counts again later takes a new name, and
  its history would count once more. Nothing else is touched.

  --yes        asks nobody
  --state-dir  the gateway's state directory; OPENCLAW_STATE_DIR, else ~/.openclaw

Exit status: 0 it is gone, 1 nobody agreed, 2 there is nothing to remove, it is in use, or an option is wrong.`;

/** Something that only a folder of ours has; each is made at the first start. */
const OURS = ["installation.json", "owner.json", "journal", "spool", "status.json"];

/** Removes the state; the exit status. */
export function purgeCommand(args: string[]): Promise<number> {
  const options = {
    yes: { type: "boolean", short: "y" },
    "state-dir": { type: "string" },
    help: { type: "boolean", short: "h" },
  } as const;
  return runCommand(
    USAGE,
    () => parseArgs({ args, options }),
    async ({ yes, "state-dir": named }) => purge(named ?? environmentStateDir(), yes === true),
  );
}

async function purge(stateDir: string | undefined, isAgreed: boolean): Promise<number> {
  const folder = stateDir && stateFolder(stateDir);
  const found = folder && statsOf(folder);
  if (!folder || !found) {
    printError(
      `there is nothing to remove in ${stateDir ?? "this machine's home folder"}: name the gateway's state directory with --state-dir`,
    );
    return 2;
  }
  if (!found.isDirectory()) {
    const isLink = found.isSymbolicLink();
    const what = isLink ? `a symbolic link to ${readlinkSync(folder)}` : kindOf(found);
    const mend = isLink ? ": remove what it leads to yourself, and the link" : "";
    printError(
      `${folder} is ${what ?? "a file"}, and no folder that the plugin made: it is left alone${mend}`,
    );
    return 2;
  }
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  if (!entries.some(({ name, parentPath }) => parentPath === folder && OURS.includes(name))) {
    printError(`${folder} holds nothing that the plugin made: it is left alone`);
    return 2;
  }
  const { owner, status } = await readStatus(folder);
  if (owner) {
    printError(`${folder} is in use by ${owner.role} (process ${owner.pid} on ${owner.host}): stop it first`);
    return 2;
  }
  const { waiting, records_waiting } = status as Record<string, number | undefined>;
  const unsent = tally({ model_calls: waiting, other_records: records_waiting });
  if (!isAgreed && !(await agrees(`Remove ${folder} (not sent yet: ${unsent})?`))) {
    printError("nothing was removed");
    return 1;
  }
  try {
    await rm(folder, { recursive: true });
  } catch (error) {
    printError(
      `${folder} could not be removed as a whole (${reason(error)}): remove the rest yourself, as the gateway's user`,
    );
    return 2;
  }
  printError(`removed ${folder} (not sent: ${unsent})`);
  for (const link of entries.filter((entry) => entry.isSymbolicLink()))
    printError(`${pathOf(link)} was a symbolic link: what it led to is left alone`);
  return 0;
}

function pathOf({ parentPath, name }: Dirent): string {
  return join(parentPath, name);
}

/** Asks at the terminal. Where there is none nobody can agree. */
async function agrees(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    printError(`${question} There is no terminal to answer at: --yes agrees`);
    return false;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${visible(question)} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}
