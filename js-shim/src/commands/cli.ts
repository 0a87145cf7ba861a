#!/usr/bin/env node
/** The command `agentwatch-openclaw`. */

import { parseArgs } from "node:util";
import { fail, printError, printUsage } from "../base/terminal.js";
import { SWITCHED_OFF } from "../base/words.js";
import type { Pipeline } from "../worker/pipeline.js";
import { ingest } from "./ingest.js";
import { COMMON_OPTIONS, openPipeline } from "./pipeline.js";

const USAGE = `agentwatch-openclaw ingest [--url <address>] [--agent-name <name>] [--state-dir <folder>] [--profile <name>]

  status    shows counted, sent, pending and dropped calls
  doctor    finds problems and says how to mend them
  test      sends a marked record to AgentWatch and reads it back
  allow     lets all calls pass for a time, whatever the allowances
  ingest    reads events from standard input, one JSON object a line, and sends them to AgentWatch
  proxy     forwards requests to models' providers and counts their answers
  litellm   receives the log of a LiteLLM proxy
  sync      counts the calls of the gateway's session store
  report    shows what calls cost, by model, agent, channel, job, session or day
  reconcile compares the figures of AgentWatch with a provider's own usage and costs
  purge     removes the state of an uninstalled plugin

Each command has --help. Settings are the plugin's settings in the gateway's configuration. The environment's AGENTWATCH_URL,
AGENTWATCH_TOKEN and AGENTWATCH_AGENT_NAME win over it, options over both. The token is no option, since other users of the
machine can see a command's options.

Exit status: 0 all lines were read and sent, 1 lines were skipped, 2 not everything could be sent, or an invalid option.`;

/** How long the last records are sent at the end, in ms. */
const SEND_BUDGET_MS = 30_000;

/** A command of `doctor/commands.ts`. */
function operator(command: string): (args: string[]) => Promise<number> {
  return async (args) => (await import("../doctor/commands.js")).operatorCommand([command, ...args]);
}

/** The commands; each module is loaded when its command runs. */
const COMMANDS: Record<string, (args: string[]) => Promise<number>> = {
  status: operator("status"),
  doctor: operator("doctor"),
  test: operator("test"),
  allow: operator("allow"),
  proxy: async (args) => (await import("../proxy/proxy-command.js")).proxyCommand(args),
  sync: async (args) => (await import("./sync.js")).syncCommand(args),
  litellm: async (args) => (await import("../proxy/litellm-command.js")).litellmCommand(args),
  report: async (args) => (await import("./report.js")).reportCommand(args),
  reconcile: async (args) => (await import("./reconcile.js")).reconcileCommand(args),
  purge: async (args) => (await import("./purge.js")).purgeCommand(args),
};

async function main(): Promise<number> {
  const [command = "", ...rest] = process.argv.slice(2);
  if (Object.hasOwn(COMMANDS, command)) return COMMANDS[command]?.(rest) ?? 2;
  const { values, positionals } = parseArgs({ allowPositionals: true, options: COMMON_OPTIONS });
  if (values.help) {
    printUsage(USAGE, true);
    return 0;
  }
  if (positionals.join(" ") !== "ingest") {
    printUsage(USAGE, false);
    return 2;
  }
  return run(await openPipeline("ingest", values));
}

async function run(pipeline: Pipeline): Promise<number> {
  await pipeline.open();
  const { lines, accepted, skipped } = await ingest(process.stdin, pipeline, printError);
  await pipeline.stop(SEND_BUDGET_MS);
  const status = pipeline.status();
  await pipeline.close();
  const { waiting, records_waiting, delivered, records_delivered } = status as Record<string, number>;
  const unsent = (waiting ?? 0) + (records_waiting ?? 0);
  const bad = Object.values(skipped).reduce((sum, count) => sum + count, 0);
  printError(`${lines} lines: ${accepted} taken, ${bad} skipped`);
  for (const [reason, count] of Object.entries(skipped)) printError(`  ${count} ${reason}`);
  if (status.off) {
    printError(SWITCHED_OFF);
    return 2;
  }
  if (status.standing === "spool") {
    printError("they were handed to the process that owns the state directory, which sends them");
    return bad > 0 ? 1 : 0;
  }
  printError(`${delivered} model calls and ${records_delivered} other records sent, ${unsent} unsent`);
  if (unsent > 0) return 2;
  return bad > 0 ? 1 : 0;
}

/** How long a request that hangs may keep the process of a command that is over, in ms. */
const END_WITHIN_MS = 1_000;

/** Ends the process, once its output is written. */
function endSoon(): void {
  const isWritten = [process.stdout, process.stderr].every(({ writableLength }) => writableLength === 0);
  setTimeout(() => (isWritten ? process.exit() : endSoon()), END_WITHIN_MS).unref();
}

main().then(
  (status) => {
    process.exitCode = status;
    endSoon();
  },
  (error) => {
    const why = error instanceof Error ? error.message : String(error);
    process.exitCode = fail(why, process.argv.includes("--json"));
  },
);
