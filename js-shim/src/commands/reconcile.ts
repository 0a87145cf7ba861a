/** The command `reconcile`: compares our figures with a provider's usage and cost API. */

import { parseArgs } from "node:util";
import { fail, print, printError, printUsage } from "../base/terminal.js";
import { type Invoice, instantiate } from "../base/wasm.js";
import { wholeEnvironment } from "../plugin/env.js";
import type { GatewayConfig } from "../plugin/openclaw.js";
import { resolveReference } from "../plugin/secret.js";
import { SettingError } from "./listen.js";
import { commandSettings, findPlace, gatewaySettings, PLACE_OPTIONS } from "./place.js";
import { makeRequests } from "./requests.js";

const USAGE = `agentwatch-openclaw reconcile --provider openai|anthropic|openrouter --since <day> [--until <day>] [--json]

  Compares what AgentWatch has with what the provider's usage and cost API reports, model by day: tokens and USD.
  It reads, and changes nothing on either side.

  --provider   openai, anthropic or openrouter
  --since      the first day: 30d, 4w, or a date such as 2026-11-01. Days are UTC, as the provider has them.
  --until      the last day; yesterday, since today has not ended
  --json       one JSON document on standard output
  --differing  leaves out rows that match
  --also       a further name that OpenClaw has for this provider, such as openai-work; may be repeated
  --key-ref    <source>:<provider>:<id>, a secret reference of OpenClaw to the key, such as env:default:MY_KEY or
               file:vault:/openai/admin; other sources than env need \`openclaw agentwatch reconcile\`
  --api        another address of the provider's API
  --url, --state-dir, --profile  as with ingest

The key stands in OPENAI_ADMIN_KEY, ANTHROPIC_ADMIN_KEY or OPENROUTER_MANAGEMENT_KEY: one that may read the organisation's
usage, which a usual key may not. It is no option, since other users of the machine can see those.

Exit status: 0 everything is alike, 1 something differs, which is named, 2 it could not be compared, there are no calls, or
wrong usage.`;

const PROVIDERS = new Map([
  ["openai", { variable: "OPENAI_ADMIN_KEY", api: "https://api.openai.com" }],
  ["anthropic", { variable: "ANTHROPIC_ADMIN_KEY", api: "https://api.anthropic.com" }],
  ["openrouter", { variable: "OPENROUTER_MANAGEMENT_KEY", api: "https://openrouter.ai" }],
]);

const OPTIONS = {
  ...PLACE_OPTIONS,
  provider: { type: "string" },
  since: { type: "string" },
  until: { type: "string" },
  json: { type: "boolean" },
  differing: { type: "boolean" },
  also: { type: "string", multiple: true },
  "key-ref": { type: "string" },
  api: { type: "string" },
  url: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

type Options = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>["values"];

/** Context of the gateway's own command. */
interface Inside {
  config: GatewayConfig | undefined;
}

/** Addresses of the provider's API and of AgentWatch, with their keys. */
interface Places {
  api: string;
  key: string;
  url: string;
  token: string | undefined;
}

/** The value of the module's `result`. */
interface Result {
  status: number;
  lines: string[];
  outcome: unknown;
}

/**
 * Runs the command.
 *
 * @param inside the gateway's configuration, if this is the gateway's own command
 * @returns the exit status
 */
export async function reconcileCommand(args: string[], inside?: Inside): Promise<number> {
  let options: Options;
  try {
    const parsed = parseArgs({ args, options: OPTIONS, allowPositionals: true });
    options = parsed.values;
    if (parsed.positionals.length > 0) throw new SettingError("reconcile takes options alone");
  } catch (error) {
    const text = `${(error as Error).message}; --help shows the options`;
    return fail(text, args.includes("--json"));
  }
  if (options.help) {
    printUsage(USAGE, true);
    return 0;
  }
  let key = "";
  // The provider's descriptions may repeat the key.
  const hidden = (text: string) => (key ? text.replaceAll(key, "(key)") : text);
  try {
    const invoice = openInvoice(options);
    const places = await findPlaces(options, inside);
    key = places.key;
    const { api, url, token } = places;
    await makeRequests(invoice, { url, secret: token }, { url: api, secret: key });
    const result: Result = JSON.parse(invoice.result(options.differing === true));
    const { status, lines, outcome } = result;
    for (const line of options.json ? [JSON.stringify(outcome)] : lines) print(hidden(line));
    return status;
  } catch (error) {
    return fail(hidden((error as Error).message), options.json);
  }
}

/** @throws where an option is missing or wrong */
function openInvoice({ provider, since, until, also = [] }: Options): Invoice {
  if (provider === undefined)
    throw new SettingError(`--provider is missing: write ${[...PROVIDERS.keys()].join(", ")}`);
  if (since === undefined)
    throw new SettingError("--since is missing: write 30d, or a date such as 2026-11-01");
  return new (instantiate(printError).Invoice)(provider, since, until, also, Date.now());
}

/** @throws SettingError where an address or a key is missing or cannot be used */
async function findPlaces(options: Options, inside: Inside | undefined): Promise<Places> {
  const { variable, api } = PROVIDERS.get(options.provider ?? "") ?? { variable: "", api: "" };
  const place = findPlace(options, inside?.config);
  const given = options.url === undefined ? {} : { url: options.url };
  // The gateway's token is not sent to another url.
  const isGateways = inside !== undefined && options.url === undefined;
  const found = isGateways ? await gatewaySettings(place, true) : await commandSettings(place, given);
  for (const text of [place.problem, ...found.problems]) if (text) printError(text);
  const { judge } = await import("../doctor/doctor.js");
  const { url, token } = judge(found.settings);
  if (url === undefined)
    throw new SettingError("there is no usable url to ask AgentWatch: set url, or --url");
  return {
    api: address(options.api ?? api),
    key: await findKey(options["key-ref"], variable, place.config),
    url,
    token,
  };
}

/** Finds the provider's key: by the reference, or in the environment. */
async function findKey(ref: string | undefined, variable: string, config: GatewayConfig | undefined) {
  if (ref === undefined) {
    const key = wholeEnvironment()[variable]?.trim();
    if (key) return checked(key, variable);
    throw new SettingError(
      `${variable} is not set: it holds the key that may read the usage; or name it with --key-ref`,
    );
  }
  const [, source, name, id = ""] = /^([^:]+):([^:]*):(.+)$/.exec(ref) ?? [];
  // The message does not repeat the value: it may be the key itself.
  if (!source || (source === "env" && !/^[A-Z_][A-Z0-9_]*$/i.test(id)))
    throw new SettingError(`--key-ref: write <source>:<provider>:<id>, such as env:default:${variable}`);
  const secret = await resolveReference(config, "--key-ref", { source, provider: name || "default", id });
  if (typeof secret !== "string") throw new SettingError(`--key-ref ${secret.why}`);
  return checked(secret.trim(), "--key-ref");
}

/** Checks that a key is valid in a header, and long enough to be replaced in output. */
function checked(key: string, from: string): string {
  if (/^[\w.~+/=:-]{8,}$/.test(key)) return key;
  throw new SettingError(
    `${from} holds no key: one has at least 8 letters, digits and .~+/=:- and nothing else`,
  );
}

/** Checks the address of an API. Plain HTTP is for this machine only, since the request has a key. */
function address(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLocal = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url?.hostname ?? "");
  const isSafe = url?.protocol === "https:" || (url?.protocol === "http:" && isLocal);
  if (!url || !isSafe || url.username || url.password || url.search || url.hash)
    throw new SettingError(
      "--api: write an address such as https://api.openai.com, without a key or a query",
    );
  return url.href.replace(/\/+$/, "");
}
