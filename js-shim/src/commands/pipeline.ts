/** Common parts of the commands: options, pipeline, log, shutdown. */

import { openInstallation, stateFolder } from "../base/installation.js";
import { fail, printError, printUsage } from "../base/terminal.js";
import { instantiate, priceTable } from "../base/wasm.js";
import { type Log, Pipeline } from "../worker/pipeline.js";
import { SETTLED_AFTER_MS } from "../worker/store-reading.js";
import type { StoreHost } from "../worker/store-watch.js";
import { SettingError } from "./listen.js";
import { commandSettings, configuredStore, findPlace, PLACE_OPTIONS, type PlaceOptions } from "./place.js";

/** Maximum time for which the last records are sent at the end, in ms. */
const SEND_BUDGET_MS = 30_000;

/** Options of every command. */
export const COMMON_OPTIONS = {
  url: { type: "string" },
  "agent-name": { type: "string" },
  ...PLACE_OPTIONS,
  help: { type: "boolean", short: "h" },
} as const;

/** Logs on standard error: standard output is for results. */
export const log: Log = { info: printError, warn: printError };

/** Values of the options that a pipeline needs. */
export interface PipelineOptions extends PlaceOptions {
  url?: string | undefined;
  "agent-name"?: string | undefined;
  history?: string | undefined;
}

/** Long-running commands read the session store only after a gateway or `sync` began to, or on request. */
const STORE_ON_REQUEST: Omit<StoreHost, "stateDir" | "sessionStore"> = {
  begins: false,
  settledAfterMs: () => SETTLED_AFTER_MS,
  every: () => SETTLED_AFTER_MS,
  most: { history: 2_000, gaps: 100_000 },
};

/**
 * Creates a pipeline with the settings of the gateway's configuration. The environment overrides the configuration, and
 * options override both.
 *
 * @param role name of this process, for other processes that share the folder
 */
export async function openPipeline(
  role: string,
  options: PipelineOptions,
  store: Omit<StoreHost, "stateDir" | "sessionStore"> = STORE_ON_REQUEST,
): Promise<Pipeline> {
  const { stateDir, settings, config } = await pipelineSettings(options);
  const { store: sessionStore, problem, note } = configuredStore({ stateDir, config });
  for (const text of [problem, note]) if (text) log.warn(text);
  const host = stateDir ? { stateDir, sessionStore: () => sessionStore, ...store } : undefined;
  return makePipeline(role, settings, stateDir, host);
}

/**
 * Reads the settings of a pipeline, and the gateway's state directory and configuration.
 *
 * @param ownDir a state directory of the command itself, instead of the gateway's
 */
export async function pipelineSettings(options: PipelineOptions, ownDir?: string) {
  const place = findPlace(options);
  const stateDir = ownDir ?? place.stateDir;
  const { problem, ...installation } = openInstallation(stateDir);
  const given = { url: options.url, agentName: options["agent-name"], history: options.history };
  const { settings, problems } = await commandSettings(place, given);
  for (const text of [problem, place.problem, ...problems]) if (text) log.warn(text);
  return {
    stateDir,
    settings: { ...settings, ...installation } as Record<string, unknown>,
    config: place.config,
  };
}

/** Creates a pipeline with its files in a state directory. */
export function makePipeline(
  role: string,
  settings: Record<string, unknown>,
  stateDir: string | undefined,
  store: StoreHost | undefined,
): Pipeline {
  const clocks = { wall: () => Date.now(), mono: () => performance.now() };
  const host = {
    instantiate: () => instantiate(log.warn),
    priceTable,
    log,
    ...clocks,
    folder: stateDir && stateFolder(stateDir),
    store,
    role,
  };
  return new Pipeline(host, settings);
}

/**
 * Runs a command; prints its usage for `--help`, and errors of options and settings.
 *
 * @returns the exit status: 2 where an option or a setting is invalid
 */
export async function runCommand<V extends { help?: boolean | undefined }>(
  usage: string,
  parse: () => { values: V },
  run: (values: V) => Promise<number>,
): Promise<number> {
  try {
    const { values } = parse();
    if (!values.help) return await run(values);
    printUsage(usage, true);
    return 0;
  } catch (error) {
    const isUnknown = String((error as NodeJS.ErrnoException).code).startsWith("ERR_PARSE_ARGS");
    if (!(error instanceof SettingError) && !isUnknown) throw error;
    const why = `${(error as Error).message}${isUnknown ? "; --help shows the options" : ""}`;
    return fail(why, process.argv.includes("--json"));
  }
}

/** Sends the last records for a while, and releases the journal. */
export async function endPipeline(pipeline: Pipeline): Promise<void> {
  await pipeline.stop(SEND_BUDGET_MS);
  await pipeline.close();
}

/** Resolves at SIGINT or SIGTERM. */
export function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
}

/** Formats the counts that are not zero. */
export function tally(counts: Record<string, number | undefined>): string {
  const shown = Object.entries(counts).filter(([, count]) => count);
  return shown.map(([name, count]) => `${count} ${name.replaceAll("_", " ")}`).join(", ") || "none";
}
