/** Checks that the gateway lets the plugin stop calls, where an allowance does. */

import { hasStop } from "../plugin/gates.js";
import type { GatewayConfig } from "../plugin/openclaw.js";
import type { Finding } from "./doctor.js";

const HOOKS = "plugins.entries.agentwatch.hooks";
const SET = "openclaw config set";
/** The hooks that stop calls. A gateway refuses what they stand before where they take longer than its timeout. */
const GATES = ["before_agent_run", "before_tool_call"] as const;
/** The shortest timeout, in ms: the plugin lets a call pass after 1 s without its worker's answer. */
const LEAST_TIMEOUT_MS = 2_000;

/** Findings of allowances with `then: "stop"`; empty without one. @param version OpenClaw's, where it is known */
export function examineGates(
  config: GatewayConfig | undefined,
  settings: Record<string, unknown>,
  version: string | undefined,
): Finding[] {
  const check = "allowance";
  if (!hasStop(settings.allowance)) return [];
  // `sync` and `proxy` run without a gateway.
  const entry = config?.plugins?.entries?.agentwatch;
  if (!entry) return [];
  if (hasNoRunGate(version))
    return [
      {
        check,
        state: "note",
        says: `OpenClaw ${version} has no hook before a run: then: "stop" refuses tools, and not the first call of a run`,
        mend: "run `agentwatch-openclaw proxy` before the provider, which refuses every call; or update OpenClaw to 2026.5 or later",
      },
    ];
  const { hooks } = entry;
  const found: Finding[] = [];
  if (hooks?.allowConversationAccess !== true)
    found.push({
      check,
      // An older OpenClaw does not know the key.
      state: version === undefined ? "note" : "trouble",
      says: `${HOOKS}.allowConversationAccess is ${shown(hooks?.allowConversationAccess)}: then: "stop" refuses tools, and not the first call of a run`,
      mend: `${version === undefined ? "on OpenClaw 2026.5 and later: " : ""}${SET} ${HOOKS}.allowConversationAccess true, and restart the gateway; the plugin reads no content by it`,
    });
  for (const gate of GATES) {
    const own = hooks?.timeouts?.[gate];
    const [name, timeout] = own === undefined ? ["timeoutMs", hooks?.timeoutMs] : [`timeouts.${gate}`, own];
    if (typeof timeout !== "number" || timeout >= LEAST_TIMEOUT_MS) continue;
    found.push({
      check,
      state: "trouble",
      says: `${HOOKS}.${name} is ${timeout}: where the plugin takes longer, the gateway itself refuses what ${gate} stands before`,
      mend: `${SET} ${HOOKS}.timeouts.${gate} 15000, and restart the gateway`,
    });
  }
  if (found.length > 0) return found;
  return [{ check, state: "ok", says: 'the gateway lets then: "stop" refuse runs and tools' }];
}

/** Whether a version is older than `before_agent_run`, and its grant. */
function hasNoRunGate(version: string | undefined): boolean {
  return /^2026\.[1-4]\./.test(version ?? "");
}

function shown(value: unknown): string {
  return value === undefined ? "not set" : JSON.stringify(value);
}
