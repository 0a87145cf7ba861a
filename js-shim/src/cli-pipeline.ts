/** What the commands have in common: a pipeline of their own, and an end that is asked for. */

import { environmentConfigFile, environmentSettings, environmentStateDir } from "./env.js";
import { isInContainer, openConfig, openInstallation, stateFolder } from "./installation.js";
import { type Log, Pipeline } from "./pipeline.js";
import { costSettings } from "./prices.js";
import { instantiate, instantiateIo, priceTable } from "./wasm.js";

/** Options that every command has. */
export const COMMON_OPTIONS = {
  url: { type: "string" },
  "agent-name": { type: "string" },
  "state-dir": { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

/** Everything is said on standard error. */
export const log: Log = { info: (text) => console.error(text), warn: (text) => console.error(text) };

/** A pipeline with the environment's settings; options win. `role` is what others that share the folder are told. */
export function openPipeline(
  role: string,
  options: {
    url?: string | undefined;
    "agent-name"?: string | undefined;
    "state-dir"?: string | undefined;
  },
): Pipeline {
  const stateDir = options["state-dir"] ?? environmentStateDir();
  const { problem, ...installation } = openInstallation(stateDir);
  const { config, problem: configProblem } = openConfig(stateDir, environmentConfigFile());
  for (const text of [problem, configProblem]) if (text) log.warn(text);
  const given = { url: options.url, agentName: options["agent-name"] };
  const chosen = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const clocks = { wall: () => Date.now(), mono: () => performance.now() };
  const host = {
    instantiate,
    instantiateIo,
    priceTable,
    log,
    ...clocks,
    folder: stateDir && stateFolder(stateDir),
    role,
  };
  return new Pipeline(host, {
    ...costSettings(config),
    ...environmentSettings(),
    ...chosen,
    ...installation,
    inContainer: isInContainer(),
  });
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
