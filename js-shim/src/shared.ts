/** What all evaluations of the plugin and of the hook share in a process: one pipeline, one set of settings. */

import type { Subscription } from "./diagnostics.js";
import { environmentCollector, environmentSettings, type RawSettings } from "./env.js";
import { isInContainer, openInstallation, stateFolder } from "./installation.js";
import type { Logger } from "./openclaw.js";
import { Pipeline } from "./pipeline.js";
import { SETTLED_AFTER_MS } from "./reconcile.js";
import { ALONE_SETTLED_AFTER_MS, type StoreHost } from "./store-watch.js";
import { instantiate, instantiateIo, priceTable } from "./wasm.js";

/** See above. */
export interface Shared {
  pipeline: Pipeline | undefined;
  /** The evaluation that made it. */
  maker: symbol | undefined;
  /** The status of the pipeline that ended last. */
  ended: Record<string, unknown> | undefined;
  config: RawSettings;
  /** Of the configuration, what was a reference to a secret, resolved. */
  secrets: RawSettings;
  /** What the gateway's configuration tells of costs. */
  costs: RawSettings;
  stateDir: string | undefined;
  log: Logger | undefined;
  subscription: Subscription | undefined;
  /** Whether the plugin is registered: the hook then leaves to it what both would tell. */
  hasPlugin: boolean;
}

const KEY = Symbol.for("agentwatch-openclaw/1");

/** This evaluation of the plugin. */
const EVALUATION = Symbol("evaluation");

/** The process's shared state; made by the first who asks. */
export function shared(): Shared {
  const registry = globalThis as { [KEY]?: Shared };
  registry[KEY] ??= {
    pipeline: undefined,
    maker: undefined,
    ended: undefined,
    config: {},
    secrets: {},
    costs: {},
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
  const found = { ...installation, collector: environmentCollector(), inContainer: isInContainer() };
  return { ...environmentSettings(), ...state.config, ...state.secrets, ...state.costs, ...found };
}

/** The one pipeline of the process; made by the first event, or by the service before it. */
export function pipeline(state: Shared): Pipeline {
  if (!state.pipeline) {
    state.pipeline = make(state);
    state.maker = EVALUATION;
  }
  return state.pipeline;
}

function make(state: Shared): Pipeline {
  const log = {
    info: (text: string) => state.log?.info(`agentwatch: ${text}`),
    warn: (text: string) => state.log?.warn(`agentwatch: ${text}`),
  };
  const host = {
    instantiate: () => instantiate(log.warn),
    instantiateIo: () => instantiateIo(log.warn),
    priceTable,
    log,
    wall: () => Date.now(),
    mono: () => performance.now(),
    folder: state.stateDir && stateFolder(state.stateDir),
    store: state.stateDir ? storeOf(state, state.stateDir) : undefined,
  };
  return new Pipeline(host, settings(state));
}

/**
 * The pipeline of this evaluation, which stays: another one's files may be gone at any time. OpenClaw 2026.9.6 loads a
 * plugin from a copy of its folder, and removes the copy when it has loaded the plugin again; what is loaded only when it
 * is needed (the module that sends, what reads the session store) is missing from then on.
 */
export async function ownPipeline(state: Shared): Promise<Pipeline> {
  const { pipeline: former, maker } = state;
  if (!former || maker === EVALUATION) return pipeline(state);
  state.pipeline = undefined;
  const own = pipeline(state);
  // What it knows is in the journal, or with the one that owns that.
  await former.close();
  return own;
}

/** When a gateway looks into its session store first, and how often then, in ms: with the plugin, and with the hook. */
const FIRST_LOOK_MS = 5_000;
const LOOK_EVERY_MS = { plugin: 60_000, hook: 2_000 };
/** How many calls may wait while history and gaps are filled in: a gateway has better things to do. */
const MOST = { history: 2_000, gaps: 100_000 };

/** What the plugin hears it hears at once, so that the store has time; the hook alone hears of no call. */
function storeOf(state: Shared, stateDir: string): StoreHost {
  return {
    stateDir,
    begins: true,
    settledAfterMs: () => (state.hasPlugin ? SETTLED_AFTER_MS : ALONE_SETTLED_AFTER_MS),
    firstMs: FIRST_LOOK_MS,
    every: () => (state.hasPlugin ? LOOK_EVERY_MS.plugin : LOOK_EVERY_MS.hook),
    most: MOST,
  };
}

/**
 * Ends the pipeline: what waits is sent for at most so many ms, and the journal is free for whoever comes next. An
 * event that comes later makes a new one; diagnostics are heard until what waited is sent.
 *
 * @returns how many calls still wait
 */
export async function end(state: Shared, budgetMs: number): Promise<number> {
  const ending = state.pipeline;
  const waiting = (await ending?.stop(budgetMs)) ?? 0;
  state.subscription?.unsubscribe();
  state.subscription = undefined;
  if (state.pipeline === ending) state.pipeline = undefined;
  state.ended = ending?.status();
  await ending?.close();
  return waiting;
}
