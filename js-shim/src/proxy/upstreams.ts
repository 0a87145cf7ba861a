/** The upstreams of the proxy, chosen by the path's prefix. Requests go to no other server. */

import { SettingError } from "../commands/listen.js";
import { isAmbiguousPath } from "./target.js";

/** One upstream. */
export interface Upstream {
  /** Beginning of the path, such as `/openai`, which is removed from the forwarded path. `/` takes every path. */
  prefix: string;
  /** Origin and path, without a slash at the end. */
  url: URL;
  /** OpenClaw's name of the provider, under which calls are counted. */
  provider: string;
  /** Whether `stream_options.include_usage` is added to streaming requests that lack it. */
  asksForUsage: boolean;
  /** The agent whose calls go to this upstream, where an option names one: an allowance may be of one agent. */
  agent?: string;
}

const EXAMPLE = "--upstream /openai=https://api.openai.com,provider=openai";

/**
 * Reads the values of `--upstream`: `prefix=url[,provider=name][,agent=id][,usage=ask]`.
 *
 * @throws SettingError
 */
export function parseUpstreams(values: readonly string[]): Upstream[] {
  if (values.length === 0)
    throw new SettingError(`--upstream is missing: say where requests may go, for example ${EXAMPLE}`);
  const upstreams = values.map(parseUpstream);
  for (const [index, { prefix }] of upstreams.entries())
    if (upstreams.findIndex((other) => other.prefix === prefix) < index)
      throw new SettingError(`--upstream ${prefix}=… is given twice: choose another prefix for one of them`);
  // The longest matching prefix wins.
  return upstreams.sort((a, b) => b.prefix.length - a.prefix.length);
}

function parseUpstream(value: string): Upstream {
  const [target = "", ...options] = value.split(",");
  const at = target.indexOf("=");
  const prefix = target.slice(0, Math.max(at, 0));
  // The address may contain a key, so messages show the prefix alone.
  const wrong = (why: string) => new SettingError(`--upstream ${prefix || "…"}=…: ${why}, as in ${EXAMPLE}`);
  if (at < 0) throw wrong("there is no = between prefix and address");
  if (!/^\/([\w.~-]+(\/[\w.~-]+)*)?$/.test(prefix) || prefix.split("/").includes(".."))
    throw wrong("the prefix must be a path like /openai, without a slash at its end");
  const url = parseUrl(target.slice(at + 1), wrong);
  const upstream: Upstream = { prefix, url, provider: prefix.split("/").at(-1) ?? "", asksForUsage: false };
  for (const option of options) {
    const [name, setting = ""] = option.split("=", 2);
    if (name === "provider" && /^[\w.~-]+$/.test(setting)) upstream.provider = setting;
    else if (name === "agent" && /^[\w.~-]+$/.test(setting)) upstream.agent = setting;
    else if (option === "usage=ask") upstream.asksForUsage = true;
    else
      throw wrong(
        "what may follow the address is provider=<OpenClaw's name of it>, agent=<OpenClaw's id of it> and usage=ask",
      );
  }
  if (!upstream.provider)
    throw wrong("a prefix of / names no provider: add ,provider=<OpenClaw's name of it>");
  return upstream;
}

function parseUrl(text: string, wrong: (why: string) => SettingError): URL {
  if (!URL.canParse(text)) throw wrong("the address is no URL");
  const url = new URL(text);
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw wrong("the address must begin with https:// or http://");
  if (url.username || url.password)
    throw wrong("the address must hold no user name or password: keys come with the requests");
  if (url.search || url.hash) throw wrong("the address must have no ? or #");
  url.pathname = url.pathname.replace(/\/+$/, "");
  return url;
}

/** An upstream's address for logs and answers: its path may be a key. */
export function shown({ origin, pathname }: URL): string {
  return `${origin}/${pathname === "/" ? "" : "…"}`;
}

/** The upstream of a request. */
export interface Route {
  upstream: Upstream;
  /** The path of the forwarded request, with its query. */
  path: string;
  /** The client's path behind the prefix, with its query. It has nothing of the upstream's own path, which may be a key. */
  asked: string;
}

/** A text without the user and password of addresses, such as those of `HTTPS_PROXY` in an error of an earlier Node. */
export function withoutCredentials(text: string): string {
  return text.replace(/\/\/[^\s/@]*@/g, "//");
}

/** A request's path without its query, which says nothing of what is asked. */
export function withoutQuery(path: string): string {
  return path.split("?", 1)[0] ?? "";
}

/** The route of a request's target; undefined where no prefix matches, or the path is ambiguous. */
export function route(upstreams: readonly Upstream[], target: string): Route | undefined {
  const path = withoutQuery(target);
  if (!/^\/[\x21-\x7e]*$/.test(target) || target.includes("#")) return undefined;
  for (const upstream of upstreams) {
    const prefix = upstream.prefix === "/" ? "" : upstream.prefix;
    if (path !== prefix && !path.startsWith(`${prefix}/`)) continue;
    if (isAmbiguousPath(path.slice(prefix.length))) return undefined;
    const base = upstream.url.pathname === "/" ? "" : upstream.url.pathname;
    const asked = target.slice(prefix.length);
    const rest = `${base}${asked}`;
    return { upstream, asked, path: rest.startsWith("/") ? rest : `/${rest}` };
  }
  return undefined;
}
