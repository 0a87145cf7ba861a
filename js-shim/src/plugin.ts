/**
 * The OpenClaw plugin. `register` is called several times a gateway, in several evaluations of this
 * module, so it only registers: everything that lives is shared by way of `shared`.
 */

import { subscribe } from "./diagnostics.js";
import { environmentStateDir } from "./env.js";
import { acceptInternal } from "./internal.js";
import type { PluginApi, ServiceContext } from "./openclaw.js";
import { registerOperator } from "./operator.js";
import { costSettings } from "./prices.js";
import { withSecrets } from "./secret.js";
import { unknownSettings } from "./settings.js";
import { beginSubscription, countedBy, end, ownRecorder, recorder, type Shared, shared } from "./shared.js";
import { counted } from "./words.js";

/** Typed hooks that the core reads; none of them needs conversation access. */
const HOOKS = [
  "before_message_write",
  "before_tool_call",
  "after_tool_call",
  "session_start",
  "session_end",
  "message_received",
  "message_sent",
  "subagent_spawned",
  "subagent_ended",
  "gateway_start",
  "gateway_stop",
];

/** Those that 2026.3.13 does not know, and would log a warning for. */
const NEWER_HOOKS = ["model_call_started", "model_call_ended", "cron_changed"];

/**
 * Only 2026.3.13, which tells no registration mode: there it needs no grant, and its sum of a run is the only sign
 * of messages that another plugin kept from us. Newer gateways have their diagnostics for that.
 */
const OLDER_HOOKS = ["llm_output"];

/** Families of internal events that no typed hook tells of; a gateway has them where its internal hooks are enabled. */
const INTERNAL_EVENTS = ["command", "session"];

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
  state.log = ctx.logger;
  await readSettings(state, ctx);
  const running = await ownRecorder(state);
  // A call is told to one listener: nothing comes between the two lines.
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
  const where = targets.length > 0 ? `sending to ${targets.join(" and ")}` : nowhere;
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
  const isOld = api.registrationMode === undefined;
  for (const hook of [...HOOKS, ...(isOld ? OLDER_HOOKS : NEWER_HOOKS)]) {
    api.on(hook, (event, ctx) => recorder(state).accept(hook, event, ctx), FIRST);
  }
  // Where nobody is asked it is not for free: 2026.3.13 logs a line several times a turn once there is one.
  const internal = api.config?.hooks?.internal?.enabled ?? !isOld;
  if (internal)
    api.registerHook?.(INTERNAL_EVENTS, (event) => acceptInternal(recorder(state), event), {
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
