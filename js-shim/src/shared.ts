/** What all evaluations of the plugin and of the hook share in a process: one recorder, one set of settings. */

import type { Subscription } from "./diagnostics.js";
import { environmentCollector, environmentSettings, type RawSettings } from "./env.js";
import { isInContainer, openInstallation, stateFolder } from "./installation.js";
import type { Logger } from "./openclaw.js";
import { TABLE } from "./pickers.js";
import { Recorder, type Status } from "./recorder.js";
import type { SessionStore } from "./store-places.js";
import { visible } from "./terminal.js";
import type { Configuration } from "./worker-messages.js";

/** See above. */
export interface Shared {
  recorder: Recorder | undefined;
  /** The evaluation that made it. */
  maker: symbol | undefined;
  /** The status of the worker that ended last. */
  ended: Status | undefined;
  config: RawSettings;
  /** Of the configuration, what was a reference to a secret, resolved. */
  secrets: RawSettings;
  /** What the gateway's configuration tells of costs. */
  costs: RawSettings;
  stateDir: string | undefined;
  /** Where its configuration says that sessions are. */
  sessionStore: SessionStore | undefined;
  log: Logger | undefined;
  subscription: Subscription | undefined;
  /** Ends a subscription that no service took over. */
  unsubscribing: NodeJS.Timeout | undefined;
  /** Whether the plugin is registered: the hook then leaves to it what both would tell. */
  hasPlugin: boolean;
}

const KEY = Symbol.for("agentwatch-openclaw/2");

/** This evaluation of the plugin. */
const EVALUATION = Symbol("evaluation");

/** How long diagnostics are heard for a service that may follow the one that ended, in ms. */
const NEXT_SERVICE_MS = 60_000;

/** The process's shared state; made by the first who asks. */
export function shared(): Shared {
  const registry = globalThis as { [KEY]?: Shared };
  registry[KEY] ??= {
    recorder: undefined,
    maker: undefined,
    ended: undefined,
    config: {},
    secrets: {},
    costs: {},
    stateDir: undefined,
    sessionStore: undefined,
    log: undefined,
    subscription: undefined,
    unsubscribing: undefined,
    hasPlugin: false,
  };
  return registry[KEY];
}

/** The settings: the gateway's configuration wins over the environment. */
function settings(state: Shared): RawSettings {
  const { problem, ...installation } = openInstallation(state.stateDir);
  if (problem) state.log?.warn(`agentwatch: ${visible(problem)}`);
  const found = { ...installation, collector: environmentCollector(), inContainer: isInContainer() };
  return { ...environmentSettings(), ...state.config, ...state.secrets, ...state.costs, ...found };
}

function configuration(state: Shared): Configuration {
  return {
    settings: settings(state),
    expectDiagnostics: state.subscription?.tells === "calls",
    countedBy: state.subscription && countedBy(state.subscription),
    hasPlugin: state.hasPlugin,
    stateDir: state.stateDir,
    sessionStore: state.sessionStore,
  };
}

/** By what calls are counted, in words. */
export function countedBy({ tells, because }: Subscription): string {
  return tells === "calls" ? "diagnostics and messages" : `messages only, as ${because}`;
}

/** The one recorder of the process; made by the first event, or by the service before it. */
export function recorder(state: Shared): Recorder {
  state.recorder ??= make(state);
  return state.recorder;
}

function make(state: Shared, former?: Recorder): Recorder {
  state.maker = EVALUATION;
  const host = {
    log: {
      info: (text: string) => state.log?.info(`agentwatch: ${visible(text)}`),
      warn: (text: string) => state.log?.warn(`agentwatch: ${visible(text)}`),
    },
    folder: state.stateDir && stateFolder(state.stateDir),
    configuration: () => configuration(state),
  };
  return new Recorder(host, former?.memory);
}

/**
 * The recorder of this evaluation, which stays: another one's files may be gone at any time. OpenClaw 2026.9.6 loads a
 * plugin from a copy of its folder, and removes the copy when it has loaded the plugin again. What the former recorder
 * heard and its worker did not take in stands in the ring, or, where that was packed by another version, in the spool.
 */
export async function ownRecorder(state: Shared): Promise<Recorder> {
  const { recorder: former, maker } = state;
  if (!former || maker === EVALUATION) return recorder(state);
  const goesOn = former.table === TABLE;
  // From here on events go to the new one.
  const own = make(state, goesOn ? former : undefined);
  state.recorder = own;
  await former.close();
  if (!goesOn) former.spool();
  return own;
}

/**
 * Ends the worker: what waits is sent for at most so many ms, and the journal is free for whoever comes next. Diagnostics
 * are heard on for a while: events that come between two services wait for the next one in the ring.
 *
 * @returns how many calls still wait
 */
export async function end(state: Shared, budgetMs: number): Promise<number> {
  const ending = state.recorder;
  const waiting = (await ending?.stop(budgetMs)) ?? 0;
  state.ended = await ending?.close();
  clearTimeout(state.unsubscribing);
  state.unsubscribing = setTimeout(() => unsubscribe(state), NEXT_SERVICE_MS);
  state.unsubscribing.unref();
  return waiting;
}

/** A service begins: it hears what comes from now on. */
export function beginSubscription(state: Shared, subscription: Subscription): void {
  unsubscribe(state);
  state.subscription = subscription;
}

function unsubscribe(state: Shared): void {
  clearTimeout(state.unsubscribing);
  state.subscription?.unsubscribe();
  state.subscription = undefined;
}
