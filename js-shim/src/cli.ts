#!/usr/bin/env node
/** The command `agentwatch-openclaw`. */

import { parseArgs } from "node:util";
import { environmentSettings, environmentStateDir } from "./env.js";
import { ingest } from "./ingest.js";
import { isInContainer, openInstallation, stateFolder } from "./installation.js";
import { Pipeline } from "./pipeline.js";
import { instantiate, instantiateIo } from "./wasm.js";

const USAGE = `agentwatch-openclaw ingest [--url <address>] [--agent-name <name>] [--state-dir <folder>]

  ingest    reads events from standard input, one JSON object a line, and sends them to AgentWatch
  proxy     passes requests on to models' providers and counts their answers; proxy --help tells more
  litellm   takes the log of a LiteLLM proxy; litellm --help tells more

The environment's AGENTWATCH_URL, AGENTWATCH_TOKEN and AGENTWATCH_AGENT_NAME are read; options win. The token is no
option, since other users of the machine can see a command's options.

Exit status: 0 all lines were taken and sent, 1 lines were skipped, 2 not everything could be sent or wrong usage.`;

/** How long the last records may take to be sent, in ms. */
const SEND_BUDGET_MS = 30_000;

/** Commands that go on until they are asked to end, each in a file of its own. */
const SERVICES: Record<string, (args: string[]) => Promise<number>> = {
  proxy: async (args) => (await import("./cli-proxy.js")).proxyCommand(args),
  litellm: async (args) => (await import("./cli-litellm.js")).litellmCommand(args),
};

async function main(): Promise<number> {
  const [command = "", ...rest] = process.argv.slice(2);
  if (Object.hasOwn(SERVICES, command)) return SERVICES[command]?.(rest) ?? 2;
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      url: { type: "string" },
      "agent-name": { type: "string" },
      "state-dir": { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (positionals.join(" ") !== "ingest") {
    console.error(USAGE);
    return 2;
  }
  const stateDir = values["state-dir"] ?? environmentStateDir();
  const { problem, ...installation } = openInstallation(stateDir);
  if (problem) console.error(problem);
  const given = { url: values.url, agentName: values["agent-name"] };
  const chosen = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const pipeline = new Pipeline(
    {
      instantiate,
      instantiateIo,
      log: { info: (text) => console.error(text), warn: (text) => console.error(text) },
      wall: () => Date.now(),
      mono: () => performance.now(),
      folder: stateDir && stateFolder(stateDir),
      role: "ingest",
    },
    { ...environmentSettings(), ...chosen, ...installation, inContainer: isInContainer() },
  );
  return run(pipeline);
}

async function run(pipeline: Pipeline): Promise<number> {
  await pipeline.open();
  const { lines, accepted, skipped } = await ingest(process.stdin, pipeline, (text) => console.error(text));
  await pipeline.stop(SEND_BUDGET_MS);
  const status = pipeline.status();
  await pipeline.close();
  const { waiting, records_waiting, delivered, records_delivered } = status as Record<string, number>;
  const unsent = (waiting ?? 0) + (records_waiting ?? 0);
  const bad = Object.values(skipped).reduce((sum, count) => sum + count, 0);
  console.error(`${lines} lines: ${accepted} taken, ${bad} skipped`);
  for (const [reason, count] of Object.entries(skipped)) console.error(`  ${count} ${reason}`);
  if (status.standing === "spool") {
    console.error("they were handed to the process that owns the state directory, which sends them");
    return bad > 0 ? 1 : 0;
  }
  console.error(`${delivered} model calls and ${records_delivered} other records sent, ${unsent} unsent`);
  if (unsent > 0) return 2;
  return bad > 0 ? 1 : 0;
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error) => {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 2;
  },
);
