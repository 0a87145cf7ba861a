/**
 * The gates of a gateway: hooks that refuse a run or a tool call where an allowance is spent. Only registered where an
 * allowance stops. The worker decides; where it does not answer in time, the call passes, and that is counted.
 */

import type { Caller } from "../base/wasm.js";
import type { Recorder } from "./recorder.js";

/** The part of a hook's context that tells whose call begins. Nothing else of a hook is read. */
interface GateContext {
  sessionKey?: unknown;
  agentId?: unknown;
  channel?: unknown;
  messageProvider?: unknown;
  channelId?: unknown;
  trigger?: unknown;
  jobId?: unknown;
  toolName?: unknown;
  modelProviderId?: unknown;
  modelId?: unknown;
}

/** Whether any allowance of a setting stops calls. */
export function hasStop(allowance: unknown): boolean {
  return (
    Array.isArray(allowance) && allowance.some((entry) => (entry as { then?: unknown })?.then === "stop")
  );
}

/** `before_agent_run`: before a run's first model call. Versions before 2026.5 do not know it. */
export async function gateRun(recorder: Recorder, ctx: unknown) {
  const message = await refusal(recorder, ctx);
  return message === undefined ? undefined : { outcome: "block", reason: "allowance", message };
}

/** `before_tool_call`: before a tool whose result a further model call would read. */
export async function gateTool(recorder: Recorder, ctx: unknown) {
  const blockReason = await refusal(recorder, ctx);
  return blockReason === undefined ? undefined : { block: true, blockReason };
}

/** Why the next call is refused; undefined where it may pass. Throws nothing: newer gateways refuse where a gate throws. */
async function refusal(recorder: Recorder, ctx: unknown): Promise<string | undefined> {
  try {
    return await recorder.admit(callerOf((ctx ?? {}) as GateContext));
  } catch {
    // A getter of the gateway's threw.
    return undefined;
  }
}

function callerOf(ctx: GateContext): Caller {
  const { modelProviderId: provider, modelId: model } = ctx;
  const isKnown = typeof provider === "string" && typeof model === "string";
  return {
    sessionKey: text(ctx.sessionKey),
    agent: text(ctx.agentId),
    channel: text(ctx.channel ?? ctx.messageProvider),
    channelId: text(ctx.channelId),
    trigger: text(ctx.trigger),
    job: text(ctx.jobId),
    tool: text(ctx.toolName),
    model: isKnown ? `${provider}/${model}` : undefined,
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
