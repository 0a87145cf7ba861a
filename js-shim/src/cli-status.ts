/** The command `agentwatch-openclaw status`. */

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { environmentStateDir } from "./env.js";
import { stateFolder } from "./installation.js";
import { inWords, readStatus, troubles } from "./status.js";

const USAGE = `agentwatch-openclaw status [--json] [--state-dir <folder>]

  What is counted, sent, waiting and dropped on a gateway's state directory, whether the gateway runs or not.

  --json       one JSON document
  --state-dir  the gateway's state directory; OPENCLAW_STATE_DIR, else ~/.openclaw

Exit status: 0 all is well, 1 there is trouble, which is named, 2 there is nothing to tell of.`;

/** Shows the status; the exit status. */
export async function statusCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "boolean" },
      "state-dir": { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const stateDir = values["state-dir"] ?? environmentStateDir();
  if (!stateDir || !existsSync(stateFolder(stateDir))) {
    console.error(
      `the plugin has never run on ${stateDir ?? "this machine"}: name the gateway's state directory with --state-dir`,
    );
    return 2;
  }
  const document = await readStatus(stateFolder(stateDir));
  const now = Date.now();
  if (values.json) console.log(JSON.stringify(document));
  else for (const line of inWords(document, now)) console.log(line);
  return troubles(document, now).length > 0 ? 1 : 0;
}
