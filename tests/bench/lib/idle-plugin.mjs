// Plugins for comparison: one that registers nothing, and one with this plugin's hooks and diagnostics whose handlers do
// nothing.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** @typedef {"nothing" | "hooks"} Idle */

/** The hooks of `js-shim/src/plugin/plugin.ts`. */
const HOOKS = [
  ...["before_message_write", "before_tool_call", "after_tool_call", "session_start", "session_end"],
  ...[
    "message_received",
    "message_sent",
    "subagent_spawned",
    "subagent_ended",
    "gateway_start",
    "gateway_stop",
  ],
];
const NEWER_HOOKS = ["model_call_ended", "cron_changed"];

const TEXTS = {
  nothing: `export default { id: "idle", name: "Idle", description: "Does nothing", register() {} };`,
  hooks: `
const nothing = () => {};
async function start() {
  const { onInternalDiagnosticEvent } = await import("openclaw/plugin-sdk/diagnostic-runtime").catch(() => ({}));
  onInternalDiagnosticEvent?.(nothing);
}
function register(api) {
  if (api.registrationMode === "cli-metadata") return;
  const hooks = ${JSON.stringify(HOOKS)};
  const newer = api.registrationMode === undefined ? ["llm_input", "llm_output"] : ${JSON.stringify(NEWER_HOOKS)};
  for (const hook of [...hooks, ...newer]) api.on(hook, nothing, { priority: 1 });
  if (api.registrationMode !== undefined) api.registerHook?.(["command", "session"], nothing, { name: "idle", description: "Does nothing" });
  api.registerService({ id: "idle", start, stop: nothing });
}
export default { id: "idle", name: "Idle", description: "Does nothing", register };`,
};

/** Its package. @param {string} folder @param {Idle} kind */
export function packIdle(folder, kind) {
  const stage = join(folder, kind);
  mkdirSync(join(stage, "dist"), { recursive: true });
  const manifest = {
    id: "idle",
    name: "Idle",
    description: "Does nothing",
    activation: { onStartup: true },
    configSchema: { type: "object", properties: {}, additionalProperties: false },
  };
  const openclaw = { extensions: ["./dist/plugin.js"] };
  const about = { name: `idle-${kind}`, version: "0.1.0", type: "module", license: "MIT", openclaw };
  writeFileSync(join(stage, "openclaw.plugin.json"), JSON.stringify(manifest));
  writeFileSync(join(stage, "package.json"), JSON.stringify(about));
  writeFileSync(join(stage, "dist", "plugin.js"), TEXTS[kind]);
  execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", stage], { cwd: stage });
  return join(stage, readdirSync(stage).find((name) => name.endsWith(".tgz")) ?? "");
}
