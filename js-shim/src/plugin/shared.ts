/** State that all evaluations of the plugin and of the hook share in a process: one recorder, one set of settings. */

import { isInContainer, openInstallation, stateFolder } from "../base/installation.js";
import { TABLE } from "../base/pickers.js";
import { visible } from "../base/terminal.js";
import type { Subscription } from "./diagnostics.js";
import { environmentCollector, environmentSettings, type RawSettings } from "./env.js";
import type { Logger } from "./openclaw.js";
import { Recorder, type Status } from "./recorder.js";
import type { SessionStore } from "./session-store.js";
import type { Configuration } from "./worker-messages.js";

/** The shared state of a process. */
export interface Shared {
  recorder: Recorder | undefined;
  /** The evaluation that made the recorder. */
  maker: symbol | undefined;
  /** The status of the worker that ended last. */
  ended: Status | undefined;
  /** The plugin's settings in the gateway's configuration. */
  config: RawSettings;
  /** The settings that are references to secrets, resolved. */
  secrets: RawSettings;
  /** Prices and logins of the gateway's configuration. */
  costs: RawSettings;
  /** The gateway's state directory. */
  stateDir: string | undefined;
  /** The session store of the gateway's configuration. */
  sessionStore: SessionStore | undefined;
  log: Logger | undefined;
  subscription: Subscription | undefined;
  /** Timer that ends a subscription which no later service took over. */
  unsubscribing: NodeJS.Timeout | undefined;
  /** Whether the plugin is registered: the hook then ignores events that the plugin gets too. */
  hasPlugin: boolean;
}

const KEY = Symbol.for("agentwatch-openclaw/2");

/** This evaluation of the plugin. */
const EVALUATION = Symbol("evaluation");

/** How long diagnostic events are still recorded after a service ended, for a service that may follow, in ms. */
const NEXT_SERVICE_MS = 60_000;

/** The process's shared state. */
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

/** All settings; the gateway's configuration wins over the environment. */
function settings(state: Shared): RawSettings {
  const { problem, ...installation } = openInstallation(state.stateDir);
  if (problem) state.log?.warn(`agentwatch: ${visible(problem)}`);
  const detected = { ...installation, collector: environmentCollector(), inContainer: isInContainer() };
  return { ...environmentSettings(), ...state.config, ...state.secrets, ...state.costs, ...detected };
}

export function configuration(state: Shared): Configuration {
  return {
    settings: settings(state),
    expectDiagnostics: state.subscription?.reports === "calls",
    countedBy: state.subscription && countedBy(state.subscription),
    hasPlugin: state.hasPlugin,
    stateDir: state.stateDir,
    sessionStore: state.sessionStore,
  };
}

/** The sources that calls are counted by, as a text. */
export function countedBy({ reports, reason }: Subscription): string {
  return reports === "calls" ? "diagnostics and messages" : `messages only, as ${reason}`;
}

/** The recorder of the process; made by the service, or by an event before the service starts. */
export function recorder(state: Shared): Recorder {
  state.recorder ??= make(state);
  return state.recorder;
}

function make(state: Shared, previous?: Recorder): Recorder {
  state.maker = EVALUATION;
  const host = {
    log: {
      info: (text: string) => state.log?.info(`agentwatch: ${visible(text)}`),
      warn: (text: string) => state.log?.warn(`agentwatch: ${visible(text)}`),
    },
    folder: state.stateDir && stateFolder(state.stateDir),
    configuration: () => configuration(state),
  };
  return new Recorder(host, previous);
}

/**
 * The recorder of this evaluation. Another evaluation's recorder is closed and replaced, since its files may be removed at
 * any time: OpenClaw 2026.9.6 loads a plugin from a copy of its folder, and removes the copy when it loads the plugin
 * again. Events that the closed recorder's worker did not acknowledge are taken over in the ring, or, where another version
 * packed them, written to the spool.
 */
export async function ownRecorder(state: Shared): Promise<Recorder> {
  const { recorder: previous, maker } = state;
  if (!previous || maker === EVALUATION) return recorder(state);
  const isSameTable = previous.table === TABLE;
  const own = make(state, isSameTable ? previous : undefined);
  // From here on events go to the new recorder.
  state.recorder = own;
  await previous.close();
  if (isSameTable) return own;
  previous.spool();
  previous.retire();
  return own;
}

/**
 * Ends the worker: sends pending calls for at most `budgetMs` ms, and releases the journal. Diagnostic events are recorded
 * for a while longer, and wait in the ring for the next service.
 *
 * @returns the number of calls that are still pending
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

/** Replaces the subscription of the service before. */
export function beginSubscription(state: Shared, subscription: Subscription): void {
  unsubscribe(state);
  state.subscription = subscription;
}

function unsubscribe(state: Shared): void {
  clearTimeout(state.unsubscribing);
  state.subscription?.unsubscribe();
  state.subscription = undefined;
}
