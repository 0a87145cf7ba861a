/** The commands `status`, `doctor` and `test`, of `agentwatch-openclaw`, of `openclaw agentwatch` and in a chat. */

import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { readInstallation, stateFolder } from "../base/installation.js";
import { thisProcess } from "../base/process.js";
import { fail, print, printUsage, visible } from "../base/terminal.js";
import { findPlace, gatewaySettings, PLACE_OPTIONS, type PlaceOptions } from "../commands/place.js";
import type { GatewayConfig } from "../plugin/openclaw.js";
import type { Shared } from "../plugin/shared.js";
import { ask } from "../requests/ask.js";
import { inWords, readStatus, troubles } from "../worker/status.js";
import { allow, allowCommand } from "./allow.js";
import { examine, type Finding, judge, type Subject } from "./doctor.js";

const OPTIONS_USAGE = `
  --json       one JSON document
  --state-dir  the gateway's state directory; OPENCLAW_STATE_DIR, else ~/.openclaw
  --profile    OpenClaw's profile instead: ~/.openclaw-<name>; OPENCLAW_PROFILE
`;

const USAGE: Record<string, string> = {
  status: `status [--json] [--state-dir <folder>] [--profile <name>]

  Shows counted, sent, pending and dropped calls of a gateway's state directory, whether the gateway runs or not.
${OPTIONS_USAGE}
Exit status: 0 no problem, 1 problems, which are named, 2 no state of the plugin, or an invalid option.`,
  doctor: `doctor [--json] [--state-dir <folder>] [--profile <name>]

  Finds problems of the plugin, its settings, its files and the connection to AgentWatch, and says how to mend them. Run
  it as the gateway's user, with the gateway's environment. It changes nothing.
${OPTIONS_USAGE}
Exit status: 0 no problem, 1 problems, which are named, 2 an invalid option.`,
  test: `test [--json] [--state-dir <folder>] [--profile <name>]

  Sends a marked health record to AgentWatch and reads it back. It is no model call, and changes no figure.
${OPTIONS_USAGE}
Exit status: 0 it was read back, 1 it was not, and the reason, 2 an invalid option.`,
};

/** Configuration and version of OpenClaw, where its own command or a chat runs this. */
export interface Inside {
  config: GatewayConfig | undefined;
  version: string | undefined;
}

/** Runs a command with its options. @returns the exit status */
export async function operatorCommand([command = "", ...args]: string[], inside?: Inside): Promise<number> {
  if (command === "reconcile")
    return (await import("../commands/reconcile.js")).reconcileCommand(args, inside);
  if (command === "report") return (await import("../commands/report.js")).reportCommand(args, inside);
  if (command === "allow")
    return allowCommand(inside ? "openclaw agentwatch" : "agentwatch-openclaw", args, inside?.config);
  const options = {
    ...PLACE_OPTIONS,
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  } as const;
  let values: PlaceOptions & { json?: boolean | undefined; help?: boolean | undefined };
  try {
    values = parseArgs({ args, options }).values;
  } catch (error) {
    return fail(`${(error as Error).message}; --help shows the options`, args.includes("--json"));
  }
  if (values.help) {
    printUsage(`${inside ? "openclaw agentwatch" : "agentwatch-openclaw"} ${USAGE[command]}`, true);
    return 0;
  }
  if (command === "status") return showStatus(values);
  const subject = await subjectOf(values, inside);
  const findings = command === "doctor" ? await examine(subject) : [await sendTest(subject)];
  if (values.json) print(JSON.stringify({ state_dir: subject.stateDir ?? null, findings }));
  else
    for (const finding of findings) {
      const [first, ...rest] = lines(finding);
      print(first, finding.state);
      for (const line of rest) print(line);
    }
  return findings.some(({ state }) => state === "trouble") ? 1 : 0;
}

/** The answer to `/agentwatch …` in a chat of the gateway. */
export async function inChat(args: string, state: Shared, inside: Inside): Promise<string> {
  if (args === "" || args === "status") {
    const status = { ...state.ended, ...(await state.recorder?.status()) };
    const now = Date.now();
    const owner = state.recorder ? { ...thisProcess(), role: "gateway" } : null;
    return inLines(inWords({ owner, written_ms: now, status }, now));
  }
  const [, time] = /^allow\s+(\S+)$/.exec(args) ?? [];
  if (time !== undefined && state.stateDir !== undefined)
    return allow(time, state.stateDir).then(
      ({ text }) => visible(text),
      (error: Error) => visible(error.message),
    );
  if (args !== "doctor" && args !== "test")
    return "/agentwatch status, /agentwatch doctor, /agentwatch test or /agentwatch allow 1h";
  const place = { stateDir: state.stateDir, config: inside.config, problem: undefined };
  const subject = await subjectAt(place, inside);
  const findings = args === "doctor" ? await examine(subject) : [await sendTest(subject)];
  return inLines(findings.flatMap(lines));
}

function inLines(lines: readonly string[]): string {
  return lines.map(visible).join("\n");
}

async function showStatus(values: PlaceOptions & { json?: boolean | undefined }): Promise<number> {
  const { stateDir } = findPlace(values);
  if (!stateDir || !existsSync(stateFolder(stateDir))) {
    return fail(
      `the plugin has never run on ${stateDir ?? "this machine"}: name its state directory with --state-dir or --profile, and run this as its user`,
      values.json,
    );
  }
  const document = await readStatus(stateFolder(stateDir));
  const now = Date.now();
  if (values.json) print(JSON.stringify(document));
  else
    for (const line of inWords(document, now))
      print(line, line.startsWith("trouble") ? "trouble" : undefined);
  return troubles(document, now).length > 0 ? 1 : 0;
}

function subjectOf(options: PlaceOptions, inside: Inside | undefined): Promise<Subject> {
  return subjectAt(findPlace(options, inside?.config), inside);
}

async function subjectAt(
  { stateDir, config, problem }: ReturnType<typeof findPlace>,
  inside: Inside | undefined,
): Promise<Subject> {
  const { settings, problems } = await gatewaySettings({ stateDir, config }, inside !== undefined);
  const lastVersion = config?.meta?.lastTouchedVersion;
  return {
    stateDir,
    config,
    problems: [...(problem ? [problem] : []), ...problems],
    version: inside?.version ?? (typeof lastVersion === "string" ? lastVersion : undefined),
    settings: { ...settings, installation: stateDir && readInstallation(stateDir).value?.installation },
    isInside: inside !== undefined,
  };
}

/** Sends a health record with a random mark, and looks for the mark in AgentWatch's records. */
async function sendTest({ settings }: Subject): Promise<Finding> {
  const check = "test";
  const { url, token } = judge(settings);
  if (url === undefined)
    return { check, state: "trouble", says: "there is no usable url to send to", mend: "set url" };
  const mark = `test ${randomUUID()}`;
  const agent = String(settings.gateway ?? settings.installation ?? "openclaw");
  const record = {
    name: "agentwatch-openclaw test",
    agent_name: agent,
    status: "ok",
    message: mark,
    timestamp: new Date().toISOString(),
  };
  const mend = "`doctor` finds the reason";
  const sent = await ask(`${url}/api/v1/ingest/health`, token, record);
  if (sent.status < 200 || sent.status > 299)
    return {
      check,
      state: "trouble",
      says: `${url} did not take it (${sent.code || `HTTP ${sent.status}`})`,
      mend,
    };
  const read = await ask(`${url}/api/health?agent=${encodeURIComponent(agent)}`, token);
  const rows = Array.isArray(read.body) ? (read.body as { message?: unknown }[]) : [];
  if (rows.some((row) => row?.message === mark))
    return {
      check,
      state: "ok",
      says: `${url} took a health record in ${sent.ms} ms and shows it: "${record.name}" of ${agent}`,
    };
  const says = `${url} took it (HTTP ${sent.status}) and does not show it (${read.code || `HTTP ${read.status}`})`;
  return { check, state: "trouble", says, mend };
}

/** The lines of a finding, with its mend on the second one. */
function lines({ check, state, says, mend }: Finding): [string, ...string[]] {
  return [`${state.padEnd(8)} ${check.padEnd(11)} ${says}`, ...(mend ? [`${" ".repeat(21)}→ ${mend}`] : [])];
}
