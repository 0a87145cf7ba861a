/** The command `allow`: lifts the allowances of a state directory for a time. */

import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { stateFolder } from "../base/installation.js";
import { reason } from "../base/promises.js";
import { fail, print, printUsage } from "../base/terminal.js";
import { instantiate } from "../base/wasm.js";
import { findPlace, PLACE_OPTIONS } from "../commands/place.js";
import type { GatewayConfig } from "../plugin/openclaw.js";
import { LIFT } from "../worker/request-file.js";

const USAGE = `allow <time> [--state-dir <folder>] [--profile <name>]

  Lets all calls pass for a time, whatever the allowances: 30m, 1h, 2d, at most 31d. 0 ends it. Calls are counted all the
  same. It holds for all processes on the state directory: the gateway, proxies and other commands.

  --state-dir  the gateway's state directory; OPENCLAW_STATE_DIR, else ~/.openclaw
  --profile    OpenClaw's profile instead: ~/.openclaw-<name>; OPENCLAW_PROFILE

Exit status: 0 done, 1 nothing runs that takes it now, 2 an invalid time or option.`;

/** How long the owner of the folder may take, in ms; it looks once a second. */
const TAKEN_WITHIN_MS = 5_000;
const LOOK_EVERY_MS = 100;

/** Runs the command. @param name how the user calls it @returns the exit status */
export async function allowCommand(name: string, args: string[], config?: GatewayConfig): Promise<number> {
  const options = { ...PLACE_OPTIONS, help: { type: "boolean", short: "h" } } as const;
  try {
    const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
    if (values.help) {
      printUsage(`${name} ${USAGE}`, true);
      return 0;
    }
    if (positionals.length !== 1) throw new Error("give one time, as in allow 1h");
    const { stateDir } = findPlace(values, config);
    if (!stateDir || !existsSync(stateFolder(stateDir)))
      throw new Error(`the plugin has never run on ${stateDir ?? "this machine"}: name it with --state-dir`);
    const { text, isTaken } = await allow(positionals[0] ?? "", stateDir);
    print(text);
    return isTaken ? 0 : 1;
  } catch (error) {
    return fail(`${(error as Error).message}; --help shows the options`, args.includes("--json"));
  }
}

/**
 * Lifts the allowances, and waits until the process that owns the folder did so.
 *
 * @throws where the time is invalid, or the folder cannot be written
 */
export async function allow(time: string, stateDir: string): Promise<{ text: string; isTaken: boolean }> {
  const forMs = instantiate().liftMs(time);
  if (typeof forMs === "string") throw new Error(forMs);
  const folder = stateFolder(stateDir);
  const until = forMs > 0 ? Date.now() + forMs : null;
  try {
    LIFT.leave(folder, until);
  } catch (error) {
    throw new Error(`${folder} cannot be written (${reason(error)}); run this as the gateway's user`);
  }
  const what = until
    ? `All calls pass until ${new Date(until).toISOString()}.`
    : "The allowances hold again.";
  for (let waited = 0; waited < TAKEN_WITHIN_MS; waited += LOOK_EVERY_MS) {
    await sleep(LOOK_EVERY_MS);
    if (!LIFT.read(folder).value) return { text: what, isTaken: true };
  }
  return {
    text: `${what} Nothing runs on ${stateDir} now: it holds from the next start on.`,
    isTaken: false,
  };
}
