/** The command `agentwatch-openclaw purge`: removes the state of an uninstalled plugin. */

import { type Dirent, readlinkSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { kindOf, statsOf } from "../base/files.js";
import { GATEWAYS, stateFolder } from "../base/installation.js";
import { reason } from "../base/promises.js";
import { printError, visible } from "../base/terminal.js";
import { environmentStateDir } from "../plugin/env.js";
import { readStatus } from "../worker/status.js";
import { runCommand, tally } from "./pipeline.js";

const USAGE = `agentwatch-openclaw purge [--yes] [--state-dir <folder>]

  Removes agentwatch/ of a gateway's state directory: pending records, records of counted calls, the gateway's name and
  the key of its hashes. For an uninstalled plugin: if it is installed again, the gateway has a new name and its history
  counts once more. Nothing else is changed.

  --yes        does not ask
  --state-dir  the gateway's state directory; OPENCLAW_STATE_DIR, else ~/.openclaw

Exit status: 0 removed, 1 not confirmed, 2 nothing to remove, in use, or an invalid option.`;

/** Files and folders of which the plugin's folder has at least one from its first start on. */
const PLUGIN_FILES = ["installation.json", "owner.json", "journal", "spool", "status.json", GATEWAYS];

/** Removes the state. @returns the exit status */
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

async function purge(stateDir: string | undefined, isConfirmed: boolean): Promise<number> {
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
    const kind = isLink ? `a symbolic link to ${readlinkSync(folder)}` : kindOf(found);
    const mend = isLink ? ": remove what it leads to yourself, and the link" : "";
    printError(
      `${folder} is ${kind ?? "a file"}, and no folder that the plugin made: it is left alone${mend}`,
    );
    return 2;
  }
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  if (!entries.some(({ name, parentPath }) => parentPath === folder && PLUGIN_FILES.includes(name))) {
    printError(`${folder} holds nothing that the plugin made: it is left alone`);
    return 2;
  }
  // `sync --gateway` has a folder of its own for each gateway.
  const ofGateways = entries.filter((entry) => entry.parentPath === join(folder, GATEWAYS));
  const folders = [folder, ...ofGateways.map((entry) => stateFolder(pathOf(entry)))];
  let [waiting, records] = [0, 0];
  for (const held of folders) {
    const { owner, status } = await readStatus(held);
    if (owner) {
      printError(`${held} is in use by ${owner.role} (process ${owner.pid} on ${owner.host}): stop it first`);
      return 2;
    }
    waiting += Number(status.waiting ?? 0);
    records += Number(status.records_waiting ?? 0);
  }
  const unsent = tally({ model_calls: waiting, other_records: records });
  if (!isConfirmed && !(await confirms(`Remove ${folder} (not sent yet: ${unsent})?`))) {
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

/** Asks at the terminal. Without a terminal the answer is no. */
async function confirms(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    printError(`${question} There is no terminal to answer at: use --yes`);
    return false;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${visible(question)} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}
