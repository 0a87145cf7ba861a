/** The command `doctor`: finds problems between a gateway and AgentWatch, each with its mend. Changes nothing. */

import { existsSync, readdirSync } from "node:fs";
import { connect } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { MOST_BYTES, readOwnSync } from "../base/files.js";
import { stateFolder } from "../base/installation.js";
import { instantiate, makeEngine, priceTable } from "../base/wasm.js";
import { counted, NOTHING_IS_SENT, sendsNothing } from "../base/words.js";
import type { GatewayConfig } from "../plugin/openclaw.js";
import { pluginSettings, unknownSettings } from "../plugin/settings.js";
import { examineReceiver } from "../requests/doctor-receiver.js";
import { readStatus, type StatusDocument, troubles } from "../worker/status.js";
import { examineAccess, examineFiles, examineLease } from "./files.js";
import { examineGates } from "./gates.js";

/** The result of one check. A `note` is no problem. */
export interface Finding {
  check: string;
  state: "ok" | "note" | "trouble";
  says: string;
  /** What to do. */
  mend?: string;
}

/** The gateway that is examined. */
export interface Subject {
  stateDir: string | undefined;
  config: GatewayConfig | undefined;
  /** Parts of the configuration that could not be read, secrets included. */
  problems: string[];
  /** OpenClaw's version, where it is known. */
  version: string | undefined;
  /** The settings that the gateway has. */
  settings: Record<string, unknown>;
  /** Whether OpenClaw runs this command, with the plugin loaded. */
  isInside: boolean;
}

/** The settings after the engine's checks. */
export interface Judged {
  url: string | undefined;
  token: string | undefined;
  problems: string[];
}

const SET = "openclaw config set";
const ENTRY = "plugins.entries.agentwatch";
const DEFAULT_PORT = 18_789;

/** Runs all checks; those without a problem have a finding too. */
export async function examine(subject: Subject): Promise<Finding[]> {
  const { stateDir, config } = subject;
  const folder = stateDir && stateFolder(stateDir);
  const shut = folder && examineAccess(folder);
  const isThere = folder !== undefined && !shut && existsSync(folder);
  const document = isThere ? await readStatus(folder) : undefined;
  const judged = judge(subject.settings);
  return [
    ...examineSettings(subject, judged),
    ...(await examinePlugin(subject, document)),
    ...(shut ? [shut] : []),
    ...(isThere && document ? [...examineFiles(folder, document), ...examineLease(folder, document)] : []),
    ...(document ? examineStatus(document) : []),
    ...(document ? examineMetrics(document) : []),
    ...examineDiagnostics(subject, document),
    ...examineStreams(subject, document),
    ...examineGates(config, subject.settings, subject.version),
    ...(stateDir ? examineHooks(stateDir, config) : []),
    ...(await examineReceiver(judged, subject.settings)),
  ];
}

/** Lets the engine check the settings. `problems` has a text with its mend for each invalid value. */
export function judge(settings: Record<string, unknown>): Judged {
  const instance = instantiate();
  const engine = makeEngine(instance, settings, () => 0);
  engine.advance(Date.now(), performance.now());
  const said = JSON.parse(engine.logLines() ?? "[]") as { text: string }[];
  const { url } = JSON.parse(engine.status()) as { url: string | null };
  const problems = said.map(({ text }) => text);
  const { otlp, collector, prices, openclawPrices, byLogin, token } = settings;
  if (otlp)
    problems.push(...(JSON.parse(instance.otlpTarget(otlp, collector)) as { problems: string[] }).problems);
  const book = new instance.PriceBook(prices, openclawPrices, byLogin, priceTable());
  problems.push(...book.problems());
  // As in the engine, the token is sent only to a configured address.
  const isSent = typeof token === "string" && settings.url !== undefined;
  return { url: url ?? undefined, token: isSent ? token.trim() : undefined, problems };
}

function examineSettings({ config, problems, settings }: Subject, judged: Judged): Finding[] {
  const all = [...problems, ...unknownSettings(pluginSettings(config)), ...judged.problems];
  if (sendsNothing(settings)) all.push(NOTHING_IS_SENT);
  if (all.length === 0) return [{ check: "settings", state: "ok", says: "all are valid" }];
  return all.map((text) => {
    const [says = "", ...mend] = text.split(/; |: (?=did|set|the settings)/);
    return {
      check: "settings",
      state: "trouble",
      says,
      mend: mend.join("; ") || `see the settings of ${ENTRY}.config in the README`,
    };
  });
}

async function examinePlugin(
  { stateDir, config, isInside }: Subject,
  document: StatusDocument | undefined,
): Promise<Finding[]> {
  const check = "plugin";
  const notLoaded = whyNotLoaded(config);
  if (notLoaded) return [{ check, state: "trouble", ...notLoaded }];
  const { owner, written_ms } = document ?? { owner: null, written_ms: null };
  if (owner) {
    const by = owner.role === "gateway" ? "the gateway" : `agentwatch-openclaw ${owner.role}`;
    return [{ check, state: "ok", says: `runs in ${by}, process ${owner.pid}` }];
  }
  const configured = Number(config?.gateway?.port);
  const port = configured > 0 && configured < 65_536 ? configured : DEFAULT_PORT;
  if (await answers(port))
    return [
      {
        check,
        state: "trouble",
        says: `a gateway listens on port ${port}, and nothing counts on ${stateDir}`,
        mend: isInside
          ? "restart the gateway: it was started before the plugin was installed"
          : "`openclaw plugins list` shows whether the plugin is loaded; install it or restart the gateway, or name its state directory with --state-dir or --profile",
      },
    ];
  const never = written_ms === null ? "the plugin has never run on" : "nothing runs on";
  return [
    {
      check,
      state: "trouble",
      says: `${never} ${stateDir ?? "this machine"}, and no gateway listens on port ${port}`,
      mend: "start the gateway, or name its state directory with --state-dir or --profile",
    },
  ];
}

/** Why a gateway with this configuration does not load the plugin; undefined where it does. */
function whyNotLoaded(config: GatewayConfig | undefined): Pick<Finding, "says" | "mend"> | undefined {
  const { enabled, allow, deny, entries } = config?.plugins ?? {};
  const has = (list: unknown) => Array.isArray(list) && list.includes("agentwatch");
  if (enabled === false)
    return { says: "plugins.enabled is false: no plugin is loaded", mend: `${SET} plugins.enabled true` };
  if (entries?.agentwatch?.enabled === false)
    return { says: `${ENTRY}.enabled is false`, mend: "openclaw plugins enable agentwatch" };
  if (has(deny))
    return {
      says: "plugins.deny names agentwatch",
      mend: "take agentwatch off plugins.deny in openclaw.json",
    };
  if (Array.isArray(allow) && allow.length > 0 && !has(allow))
    return {
      says: "plugins.allow does not name agentwatch, so it is not loaded",
      mend: `${SET} plugins.allow '${JSON.stringify([...allow, "agentwatch"])}'`,
    };
  return undefined;
}

/** Whether a server listens on a port of this machine. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", timeout: 1_000 });
    const end = (is: boolean) => {
      socket.destroy();
      resolve(is);
    };
    socket.once("connect", () => end(true));
    for (const event of ["error", "timeout"]) socket.once(event, () => end(false));
  });
}

/** Where `/metrics` is, or why nothing answers there. */
function examineMetrics({ owner, status }: StatusDocument): Finding[] {
  const { url, problem } = (status.metrics ?? {}) as { url?: string; problem?: string };
  const check = "metrics";
  if (!owner) return [];
  if (url) return [{ check, state: "ok", says: `Prometheus reads ${url}` }];
  if (!problem) return [];
  const [says = "", ...mend] = problem.split("; ");
  return [{ check, state: "trouble", says, mend: mend.join("; ") }];
}

/** Problems in the status: sending, journal, dropped calls, collector. */
function examineStatus(document: StatusDocument): Finding[] {
  const { status } = document;
  // Other checks report the problems that are filtered out here.
  const found: Finding[] = troubles({ ...document, faults: [] }, Date.now())
    .filter(
      (text) => !/^(nothing runs|no gateway has run|url is|metricsPort|AgentWatch has the calls)/.test(text),
    )
    .map((text) => {
      const [says = "", ...rest] = text.split("; ");
      return { check: "sending", state: "trouble", says, mend: rest.join("; ") || mendOf(text) };
    });
  const corrupt = Number(status.journal_corrupt ?? 0);
  if (corrupt > 0)
    found.push({
      check: "journal",
      state: "trouble",
      says: `${counted(corrupt, "entry of the journal was corrupt and is lost", "entries of the journal were corrupt and are lost")}`,
      mend: "check the disk; calls that the session store has are counted again within minutes",
    });
  const dropped = Object.entries((status.dropped ?? {}) as Record<string, number>);
  if (dropped.length > 0)
    found.push({
      check: "dropped",
      state: "trouble",
      says: dropped
        .map(([why, count]) => `${counted(count, "call")}: ${why.replaceAll("_", " ")}`)
        .join(", "),
      mend: "docs/troubleshooting.md explains each reason; calls that a server refused are in agentwatch/journal/refused.ndjson",
    });
  const { otlp } = status as { otlp?: Record<string, { last_error?: string | null }> };
  for (const signal of ["metrics", "traces"]) {
    const error = otlp?.[signal]?.last_error;
    if (error)
      found.push({ check: "collector", state: "trouble", says: error, mend: "see otlp in the settings" });
  }
  if (found.length === 0 && document.written_ms !== null)
    found.push({ check: "sending", state: "ok", says: "no call has waited for long" });
  return found;
}

function mendOf(trouble: string): string {
  if (/journal/.test(trouble)) return "make room on the disk, and check that it can be written";
  return "see the checks of the receiver below";
}

function examineDiagnostics({ config, version }: Subject, document: StatusDocument | undefined): Finding[] {
  const check = "diagnostics";
  const by = document?.status.counted_by;
  if (config?.diagnostics?.enabled === false && !isOld(version))
    return [
      {
        check,
        state: "trouble",
        says: "diagnostics.enabled is false: compactions are not counted, and latency is less exact",
        mend: `${SET} diagnostics.enabled true, and restart the gateway`,
      },
    ];
  return by ? [{ check, state: "ok", says: `calls are counted by ${String(by)}` }] : [];
}

/** 2026.3 requests usage in streams from OpenAI's servers only, unless a model's `compat` says that its server has it. */
function examineStreams({ config, version }: Subject, document: StatusDocument | undefined): Finding[] {
  const missing = Number(document?.status.missing_usage ?? 0);
  if (!isOld(version) && missing === 0) return [];
  const silent = Object.entries(config?.models?.providers ?? {}).flatMap(([provider, entry]) =>
    entry?.api === "openai-completions" && !String(entry.baseUrl ?? "").includes("//api.openai.com")
      ? listed(entry.models)
          .filter((model) => model?.compat?.supportsUsageInStreaming !== true)
          .map((model) => `${provider}/${String(model?.id)}`)
      : [],
  );
  const shown = silent.slice(0, 5).join(", ");
  if (silent.length > 0 && isOld(version))
    return [
      {
        check: "streams",
        state: "trouble",
        says: `OpenClaw asks for no usage in streams of ${shown}: ${counted(missing, "call")} had none`,
        mend: "set compat: {supportsUsageInStreaming: true} on each of them in models.providers",
      },
    ];
  if (missing === 0) return [];
  return [
    {
      check: "streams",
      state: "note",
      says: `${counted(missing, "call")} came without usage, and ${missing === 1 ? "counts" : "count"} with 0 tokens${shown && `; perhaps of ${shown}`}`,
      mend: "let the provider report usage in streams; `agentwatch-openclaw proxy` with usage=ask requests it",
    },
  ];
}

/** A list of the configuration; empty where the value is no list. */
function listed<T>(value: T[] | undefined): T[] {
  return Array.isArray(value) ? value : [];
}

function isOld(version: string | undefined): boolean {
  return /^2026\.3\./.test(version ?? "");
}

/** Other hooks that report to AgentWatch, such as AgentWatch's own, which this plugin replaces. */
function examineHooks(stateDir: string, config: GatewayConfig | undefined): Finding[] {
  const { internal } = config?.hooks ?? {};
  const { defaults, list, entries } = config?.agents ?? {};
  const workspaces = [defaults, ...listed(list), ...Object.values(entries ?? {})].map(
    (one) => one?.workspace,
  );
  const folders = [
    join(stateDir, "hooks"),
    ...workspaces.map((folder) => typeof folder === "string" && join(folder, "hooks")),
    ...listed(internal?.load?.extraDirs as unknown[]),
  ].filter((folder): folder is string => typeof folder === "string");
  const found: Finding[] = [];
  for (const folder of new Set(folders.map((path) => path.replace(/^~(?=\/)/, homedir()))))
    for (const name of namesIn(folder)) {
      const path = join(folder, name);
      if (internal?.entries?.[name]?.enabled === false || !isForeignHook(path)) continue;
      found.push({
        check: "hook",
        state: "trouble",
        says: `${path} is another hook that reports to AgentWatch: messages and commands count twice`,
        mend: `openclaw hooks disable ${name}, or remove the folder, and restart the gateway`,
      });
    }
  return found;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => existsSync(join(folder, name, "HOOK.md")));
  } catch {
    // Missing or not readable: no gateway of this user loads hooks from it.
    return [];
  }
}

/** Whether a hook sends to AgentWatch and is not the hook of this package, whose handler only exports `hook.js`. */
function isForeignHook(path: string): boolean {
  const handlers = ["handler.ts", "handler.js", "index.ts", "index.js"].map((name) => join(path, name));
  const handler = handlers.find(existsSync);
  try {
    const text = handler ? readOwnSync(handler, MOST_BYTES, "foreign").toString("utf8") : "";
    return /api\/v1\/ingest|AGENTWATCH_URL/.test(text);
  } catch {
    // Not readable: no gateway of this user loads it.
    return false;
  }
}
