/** What the commands have in common: a pipeline of their own, and an end that is asked for. */

import { openInstallation, stateFolder } from "./installation.js";
import { SettingError } from "./listen.js";
import { type Log, Pipeline } from "./pipeline.js";
import { commandSettings, findPlace, PLACE_OPTIONS, type PlaceOptions } from "./place.js";
import { SETTLED_AFTER_MS } from "./reconcile.js";
import { sessionStoreOf } from "./session-store.js";
import type { StoreHost } from "./store-watch.js";
import { printError, printUsage } from "./terminal.js";
import { instantiate, priceTable } from "./wasm.js";

/** How long the last records may take to be sent, in ms. */
const SEND_BUDGET_MS = 30_000;

/** Options that every command has. */
export const COMMON_OPTIONS = {
  url: { type: "string" },
  "agent-name": { type: "string" },
  ...PLACE_OPTIONS,
  help: { type: "boolean", short: "h" },
} as const;

/** Everything is said on standard error. */
export const log: Log = { info: printError, warn: printError };

/** The options that make a pipeline. */
export interface PipelineOptions extends PlaceOptions {
  url?: string | undefined;
  "agent-name"?: string | undefined;
  history?: string | undefined;
}

/** What a command that goes on for long does for the session store: it compares where somebody began to, or asks for it. */
const WHERE_ASKED: Omit<StoreHost, "stateDir" | "sessionStore"> = {
  begins: false,
  settledAfterMs: () => SETTLED_AFTER_MS,
  every: () => SETTLED_AFTER_MS,
  most: { history: 2_000, gaps: 100_000 },
};

/**
 * A pipeline with the settings of the gateway's configuration; the environment wins over it, and options over both.
 * `role` is what others that share the folder are told.
 */
export async function openPipeline(
  role: string,
  options: PipelineOptions,
  store: Omit<StoreHost, "stateDir" | "sessionStore"> = WHERE_ASKED,
): Promise<Pipeline> {
  const { stateDir, settings, config } = await pipelineSettings(options);
  const sessionStore = sessionStoreOf(config);
  const host = stateDir ? { stateDir, sessionStore: () => sessionStore, ...store } : undefined;
  return makePipeline(role, settings, stateDir, host);
}

/**
 * The settings of a pipeline, and the state directory of the gateway that they are of.
 *
 * @param ownDir where this command keeps its files instead
 */
export async function pipelineSettings(options: PipelineOptions, ownDir?: string) {
  const place = findPlace(options);
  const stateDir = ownDir ?? place.stateDir;
  const { problem, ...installation } = openInstallation(stateDir);
  const given = { url: options.url, agentName: options["agent-name"], history: options.history };
  const { settings, problems } = await commandSettings(place.config, given);
  for (const text of [problem, place.problem, ...problems]) if (text) log.warn(text);
  return {
    stateDir,
    settings: { ...settings, ...installation } as Record<string, unknown>,
    config: place.config,
  };
}

/** A pipeline with its files in a state directory. */
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
 * Runs a command: shows how it is used where that is asked for, and says what is wrong with its options.
 *
 * @returns the exit status: 2 where an option or a setting is wrong
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
    printError(`${(error as Error).message}${isUnknown ? "; --help shows the options" : ""}`);
    return 2;
  }
}

/** Sends the last records, for a while, and lets the journal go. */
export async function endPipeline(pipeline: Pipeline): Promise<void> {
  await pipeline.stop(SEND_BUDGET_MS);
  await pipeline.close();
}

/** Resolves when somebody asks the process to end. */
export function untilAsked(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
}

/** Counts that are not zero, as words. */
export function tally(counts: Record<string, number | undefined>): string {
  const told = Object.entries(counts).filter(([, count]) => count);
  return told.map(([name, count]) => `${count} ${name.replaceAll("_", " ")}`).join(", ") || "none";
}
