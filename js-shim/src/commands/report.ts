/** The command `report`: what calls cost, from a state directory or from a receiver. */

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { faultOf, isFolder, isMissing, otherKind, readOwnSync } from "../base/files.js";
import { readInstallation, stateFolder } from "../base/installation.js";
import { fail, print, printError, printUsage } from "../base/terminal.js";
import { instantiate, type Report } from "../base/wasm.js";
import { ownZone, zoneOf } from "../base/zones.js";
import type { GatewayConfig } from "../plugin/openclaw.js";
import { readStatus } from "../worker/status.js";
import { SettingError } from "./listen.js";
import { commandSettings, findPlace, PLACE_OPTIONS } from "./place.js";
import { makeRequests } from "./requests.js";

const USAGE = `agentwatch-openclaw report [--since <time>] [--by <names>] [--zone <name>] [--json | --csv | --focus]
                          [--receiver <url>]

  Shows what calls cost, and what the month will cost: from the sums that a gateway's state directory keeps, whether the
  gateway runs or not, or from a receiver. It changes nothing.

  --since      12h, 7d, 4w, today, yesterday, month, a date such as 2026-11-01, or a time such as 2026-11-01T22:00; 7d.
               A state directory keeps hours for two days, and days for seventy
  --by         model, agent, channel, trigger, job, session, day; several are separated by a comma; model
  --zone       the time zone of days, months and times, such as Europe/Berlin or UTC; the machine's own
  --json       one JSON document on standard output
  --csv        a table for spreadsheets
  --focus      the costs in FOCUS 1.3, a CSV file for FinOps tools: a row for each UTC day, model, agent, channel,
               trigger and cron job
  --receiver   the address of an agentwatch-receiver, which has sessions and the calls of all gateways. Its token is
               AGENTWATCH_TOKEN, or the plugin's where the address is the plugin's
  --state-dir  the gateway's state directory; OPENCLAW_STATE_DIR, else ~/.openclaw
  --profile    OpenClaw's profile instead: ~/.openclaw-<name>; OPENCLAW_PROFILE

Exit status: 0 the report was made, also without a call in it, 2 it could not be made, or wrong usage.`;

const OPTIONS = {
  ...PLACE_OPTIONS,
  since: { type: "string" },
  by: { type: "string" },
  zone: { type: "string" },
  json: { type: "boolean" },
  csv: { type: "boolean" },
  focus: { type: "boolean" },
  receiver: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

type Options = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>["values"];

/** Tries to read the ledger: its owner replaces a file by another one at any time. */
const TRIES = 5;

/**
 * Runs the command.
 *
 * @param inside the gateway's configuration, if this is the gateway's own command
 * @returns the exit status
 */
export async function reportCommand(
  args: string[],
  inside?: { config: GatewayConfig | undefined },
): Promise<number> {
  let options: Options;
  try {
    const parsed = parseArgs({ args, options: OPTIONS, allowPositionals: true });
    options = parsed.values;
    if (parsed.positionals.length > 0) throw new SettingError("report takes options alone");
    checkFormat(options);
  } catch (error) {
    return fail(`${(error as Error).message}; --help shows the options`, args.includes("--json"));
  }
  if (options.help) {
    printUsage(USAGE, true);
    return 0;
  }
  try {
    const { receiver } = options;
    const now = Date.now();
    const inZone = (name: string | undefined) => name && zoneOf(name, Math.floor(now / 1_000));
    // The periods of FOCUS are days of UTC. The machine's own zone may have no name: `TZ` may be empty, or an offset.
    const own = () => (options.focus ? undefined : inZone(ownZone())) || inZone("UTC");
    const zone = options.zone === undefined ? own() : inZone(options.zone);
    if (!zone)
      throw new SettingError(
        `--zone ${options.zone}: not a time zone; write a name such as Europe/Berlin, or UTC`,
      );
    const make = () =>
      new (instantiate(printError).Report)(options.since, options.by, zone, receiver !== undefined, now);
    const [report, from] =
      receiver === undefined
        ? await ofStateDir(make, options, inside?.config)
        : await ofReceiver(make(), receiver, options, inside?.config);
    const format = FORMATS.find((name) => options[name]) ?? "text";
    for (const line of report.output(format, options.focus ? await gatewayOf(options, inside?.config) : from))
      print(line);
    // A table has no place for them.
    if (format === "csv" || format === "focus") for (const note of report.notes()) printError(note);
    return 0;
  } catch (error) {
    return fail((error as Error).message, options.json);
  }
}

const FORMATS = ["json", "csv", "focus"] as const;

/** @throws SettingError where options exclude each other */
function checkFormat(options: Options): void {
  const [one, other] = FORMATS.filter((name) => options[name]);
  if (other) throw new SettingError(`--${one} and --${other}: write one of them`);
  if (options.focus && options.by !== undefined)
    throw new SettingError("--focus and --by: rows of FOCUS are by all names; leave --by out");
  if (options.focus && options.zone !== undefined)
    throw new SettingError("--focus and --zone: the periods of FOCUS are days of UTC; leave --zone out");
  if (options.focus && options.receiver !== undefined)
    throw new SettingError(
      "--focus and --receiver: a receiver writes FOCUS itself; download its /models/focus.csv?hours=720",
    );
}

/** The name of the gateway on a state directory, as its records have it; empty where it never ran. */
async function gatewayOf(options: Options, inside: GatewayConfig | undefined): Promise<string> {
  const { stateDir } = findPlace(options, inside);
  if (!stateDir) return "";
  const { gateway } = (await readStatus(stateFolder(stateDir))).status;
  return String(gateway ?? readInstallation(stateDir).value?.installation ?? "");
}

type Made = [report: Report, from: string];

/** @throws where there is no journal, or it cannot be read */
async function ofStateDir(
  make: () => Report,
  options: Options,
  config: GatewayConfig | undefined,
): Promise<Made> {
  // Wrong options come before a missing folder.
  make();
  const { stateDir } = findPlace(options, config);
  const folder = stateDir && stateFolder(stateDir);
  if (!folder || !existsSync(folder))
    throw new SettingError(
      `the plugin has never run on ${stateDir ?? "this machine"}: name its state directory with --state-dir or --profile, and run this as its user`,
    );
  for (let tries = 1; ; tries++) {
    const report = make();
    try {
      for (const file of ledgers(join(folder, "journal"))) report.ledger(readOwnSync(file));
    } catch (error) {
      if (isMissing(error) && tries < TRIES) continue;
      throw error;
    }
    const { allowances } = (await readStatus(folder)).status;
    if (Array.isArray(allowances)) report.allowances(JSON.stringify(allowances));
    return [report, `the state directory ${stateDir}`];
  }
}

/** The ledger's files, in order. @throws SettingError where the journal's folder cannot be read */
function ledgers(journal: string): string[] {
  const names = namesIn(journal).filter((name) => /^ledger-\d+\.awj$/.test(name));
  return names.sort().map((name) => join(journal, name));
}

function namesIn(journal: string): string[] {
  try {
    return readdirSync(journal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    const kind = otherKind(journal);
    const why = kind && !isFolder(journal) ? `${journal} is ${kind}, not a folder` : faultOf(journal, error);
    throw new SettingError(`${why}; \`agentwatch-openclaw doctor\` says what to do`);
  }
}

/** @throws where the address cannot be used, or the receiver does not answer */
async function ofReceiver(
  report: Report,
  receiver: string,
  options: Options,
  loaded: GatewayConfig | undefined,
): Promise<Made> {
  const place = findPlace(options, loaded);
  const found = await commandSettings(place, { url: receiver });
  for (const text of [place.problem, ...found.problems]) if (text) printError(text);
  const { judge } = await import("../doctor/doctor.js");
  const { url, token } = judge(found.settings);
  if (url === undefined)
    throw new SettingError("--receiver: write an address such as http://127.0.0.1:8470, without a password");
  await makeRequests(report, { url, secret: token });
  return [report, url];
}
