/** What all evaluations of the plugin and of the hook share in a process: one pipeline, one set of settings. */

import type { Subscription } from "./diagnostics.js";
import { environmentCollector, environmentSettings, type RawSettings } from "./env.js";
import { isInContainer, openInstallation, stateFolder } from "./installation.js";
import type { Logger } from "./openclaw.js";
import { Pipeline } from "./pipeline.js";
import { instantiate, instantiateIo, priceTable } from "./wasm.js";

/** See above. */
export interface Shared {
  pipeline: Pipeline | undefined;
  /** The status of the pipeline that ended last. */
  ended: Record<string, unknown> | undefined;
  config: RawSettings;
  /** Providers that the gateway uses by login alone. */
  byLogin: string[];
  stateDir: string | undefined;
  log: Logger | undefined;
  subscription: Subscription | undefined;
  /** Whether the plugin is registered: the hook then leaves to it what both would tell. */
  hasPlugin: boolean;
}

const KEY = Symbol.for("agentwatch-openclaw/1");

/** The process's shared state; made by the first who asks. */
export function shared(): Shared {
  const registry = globalThis as { [KEY]?: Shared };
  registry[KEY] ??= {
    pipeline: undefined,
    ended: undefined,
    config: {},
    byLogin: [],
    stateDir: undefined,
    log: undefined,
    subscription: undefined,
    hasPlugin: false,
  };
  return registry[KEY];
}

/** The settings: the gateway's configuration wins over the environment. */
export function settings(state: Shared): RawSettings {
  const { problem, ...installation } = openInstallation(state.stateDir);
  if (problem) state.log?.warn(`agentwatch: ${problem}`);
  const found = { byLogin: state.byLogin, collector: environmentCollector(), inContainer: isInContainer() };
  return { ...environmentSettings(), ...state.config, ...installation, ...found };
}

/** The one pipeline of the process; made by the first event, or by the service before it. */
export function pipeline(state: Shared): Pipeline {
  state.pipeline ??= new Pipeline(
    {
      instantiate,
      instantiateIo,
      priceTable,
      log: {
        info: (text) => state.log?.info(`agentwatch: ${text}`),
        warn: (text) => state.log?.warn(`agentwatch: ${text}`),
      },
      wall: () => Date.now(),
      mono: () => performance.now(),
      folder: state.stateDir && stateFolder(state.stateDir),
      stateDir: state.stateDir,
    },
    settings(state),
  );
  return state.pipeline;
}

/**
 * Ends the pipeline: what waits is sent for at most so many ms, and the journal is free for whoever comes next. An
 * event that comes later makes a new one.
 *
 * @returns how many calls still wait
 */
export async function end(state: Shared, budgetMs: number): Promise<number> {
  const ending = state.pipeline;
  const waiting = (await ending?.stop(budgetMs)) ?? 0;
  if (state.pipeline === ending) state.pipeline = undefined;
  state.ended = ending?.status();
  await ending?.close();
  return waiting;
}
