/**
 * The OpenClaw plugin. `register` is called several times a gateway, in several evaluations of this
 * module, so it only registers: everything that lives is shared by way of `shared`.
 */

import { subscribe } from "./diagnostics.js";
import { environmentStateDir } from "./env.js";
import { acceptInternal } from "./internal.js";
import type { PluginApi, ServiceContext } from "./openclaw.js";
import { registerOperator } from "./operator.js";
import { HOOKS, INTERNAL_EVENTS } from "./pickers.js";
import { costSettings } from "./prices.js";
import { withSecrets } from "./secret.js";
import { sessionStoreOf } from "./session-store.js";
import { unknownSettings } from "./settings.js";
import { beginSubscription, countedBy, end, ownRecorder, recorder, type Shared, shared } from "./shared.js";
import { counted } from "./words.js";

/** Before every other plugin: one that blocks a message ends the chain, one that rewrites it hides the truth. */
const FIRST = { priority: Number.MAX_SAFE_INTEGER };

/** How long a stopping gateway may be held up, in ms: newer ones give all plugins 2 s together. */
const STOP_BUDGET_MS = 1_500;

/** Resolves what is a secret, and names settings that there are not. */
async function readSettings(state: Shared, { config, logger }: ServiceContext): Promise<void> {
  const { settings: known, problems } = await withSecrets(state.config, config);
  const { token, otlp } = known;
  state.secrets = { ...(token !== undefined && { token }), ...(otlp !== undefined && { otlp }) };
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
  // The former service's listener goes behind this one's coming, so no event is missed. One that both hear counts once, by its span.
  const subscription = await subscribe(
    (type, event) => recorder(state).accept(type, event),
    ctx.config?.diagnostics?.enabled,
  );
  beginSubscription(state, subscription);
  const { url, otlp } = (await running.open()) as { url?: string | false; otlp?: { url: string } };
  const targets = [url, otlp && `the collector at ${otlp.url}`].filter(Boolean);
  const nowhere = `sending nowhere, as ${
    url === false ? "url is false and there is no otlp; set one of them" : "url is unusable"
  }`;
  // Without a worker there is no status.
  const without = url === undefined ? "sending nothing yet" : nowhere;
  const where = targets.length > 0 ? `sending to ${targets.join(" and ")}` : without;
  ctx.logger.info(`agentwatch: counting model calls by ${countedBy(subscription)}; ${where}`);
}

async function stop(): Promise<void> {
  const state = shared();
  const waiting = await end(state, STOP_BUDGET_MS);
  if (waiting > 0)
    state.log?.info(
      `agentwatch: ${counted(waiting, "call was", "calls were")} not delivered before the gateway stopped; what waits is kept and sent after its next start`,
    );
}

function register(api: PluginApi): void {
  const state = shared();
  // A command of OpenClaw's asks which commands there are, and has nothing else to give.
  if (api.registrationMode === "cli-metadata") return registerOperator(api, state);
  state.hasPlugin = true;
  state.log = api.logger;
  state.config = { ...api.pluginConfig };
  state.stateDir ??= api.runtime?.state?.resolveStateDir?.() ?? environmentStateDir();
  // Only 2026.3.13 tells no mode: there `llm_output` needs no grant, and is the only sign of messages that another plugin
  // kept from us. Newer gateways have their diagnostics for that.
  const isOld = api.registrationMode === undefined;
  for (const hook of [...HOOKS.every, ...(isOld ? HOOKS.older : HOOKS.newer)]) {
    api.on(hook, (event, ctx) => recorder(state).accept(hook, event, ctx), FIRST);
  }
  // Where nobody is asked it is not for free: 2026.3.13 logs a line several times a turn once there is one.
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
