/**
 * The OpenClaw plugin. A gateway calls `register` several times, in several evaluations of this module, so `register` only
 * registers handlers; all state is in `shared()`.
 */

import { HOOKS, INTERNAL_EVENTS } from "../base/pickers.js";
import { costSettings } from "../base/prices.js";
import { counted, NOTHING_IS_SENT, sendsNothing } from "../base/words.js";
import { subscribe } from "./diagnostics.js";
import { environmentStateDir } from "./env.js";
import { gateRun, gateTool, hasStop } from "./gates.js";
import { acceptInternal } from "./internal.js";
import type { PluginApi, ServiceContext } from "./openclaw.js";
import { registerOperator } from "./operator.js";
import { withSecrets } from "./secret.js";
import { sessionStoreOf } from "./session-store.js";
import { unknownSettings } from "./settings.js";
import {
  beginSubscription,
  configuration,
  countedBy,
  end,
  ownRecorder,
  recorder,
  type Shared,
  shared,
} from "./shared.js";

/** Runs before every other plugin: another plugin may block a message, which ends the chain, or rewrite it. */
const FIRST = { priority: Number.MAX_SAFE_INTEGER };

/** How long a stopping gateway waits for this plugin, in ms. Newer gateways give all plugins 2 s together. */
const STOP_BUDGET_MS = 1_500;

/** Resolves secrets in the settings, and warns of unknown settings. */
async function readSettings(state: Shared, { config, logger }: ServiceContext): Promise<void> {
  const { settings: known, problems } = await withSecrets(state.config, config);
  const { token, otlp, webhook } = known;
  state.secrets = {
    ...(token !== undefined && { token }),
    ...(otlp !== undefined && { otlp }),
    ...(webhook !== undefined && { webhook }),
  };
  for (const text of [...unknownSettings(state.config), ...problems]) logger.warn(`agentwatch: ${text}`);
}

async function start(ctx: ServiceContext): Promise<void> {
  const state = shared();
  state.stateDir = ctx.stateDir;
  state.costs = costSettings(ctx.config);
  state.sessionStore = sessionStoreOf(ctx.config);
  state.log = ctx.logger;
  await readSettings(state, ctx);
  const running = await ownRecorder(state);
  // The listener of the service before is removed after this, so no event is missed. An event that both get counts once, by its span.
  const subscription = await subscribe(
    (type, event) => recorder(state).accept(type, event),
    ctx.config?.diagnostics?.enabled,
  );
  beginSubscription(state, subscription);
  const status = await running.open();
  const { url, otlp } = status as { url?: string | false; otlp?: { url: string } };
  const targets = [url, otlp && `the collector at ${otlp.url}`].filter(Boolean);
  const unsent = url === false ? "sending no calls, as url is false" : "sending nowhere, as url is unusable";
  const noTarget = sendsNothing({ ...configuration(state).settings, url }) ? NOTHING_IS_SENT : unsent;
  // Without a running worker the status has no url.
  const otherwise = url === undefined ? "sending nothing yet" : noTarget;
  const destination = targets.length > 0 ? `sending to ${targets.join(" and ")}` : otherwise;
  ctx.logger.info(`agentwatch: counting model calls by ${countedBy(subscription)}; ${destination}`);
}

async function stop(): Promise<void> {
  const state = shared();
  const pending = await end(state, STOP_BUDGET_MS);
  if (pending === 0) return;
  const undelivered = `agentwatch: ${counted(pending, "call was", "calls were")} not delivered before the gateway stopped`;
  const { journal_error: problem } = state.ended ?? {};
  if (problem)
    state.log?.warn(`${undelivered}, and the journal has none of the last ones: ${String(problem)}`);
  else state.log?.info(`${undelivered}; they are in the journal and are sent after its next start`);
}

function register(api: PluginApi): void {
  const state = shared();
  // A command of OpenClaw only lists commands; its API registers nothing else.
  if (api.registrationMode === "cli-metadata") return registerOperator(api, state);
  state.hasPlugin = true;
  state.log = api.logger;
  state.config = { ...api.pluginConfig };
  state.stateDir ??= api.runtime?.state?.resolveStateDir?.() ?? environmentStateDir();
  // Only 2026.3.13 has no mode. There `llm_input` and `llm_output` need no grant: the one tells a run's channel, and the
  // other is the only event of a call whose message another plugin blocked. Newer gateways have diagnostic events for both.
  const isOld = api.registrationMode === undefined;
  for (const hook of [...HOOKS.every, ...(isOld ? HOOKS.older : HOOKS.newer)]) {
    api.on(hook, (event, ctx) => recorder(state).accept(hook, event, ctx), FIRST);
  }
  if (hasStop(state.config.allowance)) {
    // Newer gateways register it only with the grant `hooks.allowConversationAccess`.
    if (!isOld) api.on("before_agent_run", (_, ctx) => gateRun(recorder(state), ctx));
    api.on("before_tool_call", (_, ctx) => gateTool(recorder(state), ctx));
  }
  // Off by default on 2026.3.13, which logs a line several times a turn once a plugin has an internal hook.
  const internal = api.config?.hooks?.internal?.enabled ?? !isOld;
  if (internal)
    api.registerHook?.([...INTERNAL_EVENTS], (event) => acceptInternal(recorder(state), event), {
      name: "agentwatch",
      description: "Logs and traces of commands and sessions",
    });
  registerOperator(api, state);
  api.registerService({ id: "agentwatch", start, stop });
}

export default {
  id: "agentwatch",
  name: "AgentWatch",
  description: "Sends the real usage of every model call to AgentWatch's Models tab",
  register,
};
