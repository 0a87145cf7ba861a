/**
 * Refuses requests that a web page made a browser send: from another origin, or to a host name that an attacker's DNS
 * resolves to this machine (DNS rebinding). The plugin's servers check every request here before they read its body.
 */

import { BlockList, isIP } from "node:net";
import { SettingError } from "../commands/listen.js";
import { pairs } from "./hop.js";

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Whether an address or name is of the loopback interface. */
export function isLoopback(address: string): boolean {
  const family = isIP(address);
  if (family === 0 || address.includes("%")) return address.toLowerCase() === "localhost";
  return LOOPBACK.check(address, family === 4 ? "ipv4" : "ipv6");
}

/**
 * Reads the values of `--allow-host`.
 *
 * @throws SettingError
 */
export function parseHosts(values: readonly string[]): string[] {
  for (const value of values)
    if (!/^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/i.test(value) && isIP(value) === 0)
      throw new SettingError(
        `--allow-host ${value}: this is no host name; give the name alone, as in --allow-host host.docker.internal`,
      );
  return values.map((value) => value.toLowerCase());
}

/** The address and names of a server. */
export interface Reached {
  /** The bound address. */
  address: string;
  /** Further host names that requests may name, in lower case. */
  hosts: readonly string[];
  /** Whether no further names can be set. */
  isFixed?: boolean;
}

/**
 * Why a request is refused; undefined where it is allowed.
 *
 * @param target the target of the request line
 * @param raw header fields, names and values in turn
 */
export function refusal(target: string, raw: readonly string[], reached: Reached): string | undefined {
  const values = (name: string) =>
    pairs(raw).flatMap(([of, value]) => (of.toLowerCase() === name ? value : []));
  // An absolute target could name another host than the Host header.
  if (!target.startsWith("/")) return "the request's target is no path";
  const [host = "", ...otherHosts] = values("host").map((value) => value.toLowerCase());
  const name = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host);
  if (!name || otherHosts.length > 0) return "it must have one Host header, a name or an address with a port";
  const named = name[1] ?? name[2] ?? "";
  if (!isOurs(named, reached)) {
    const mend = reached.isFixed
      ? "ask 127.0.0.1 or localhost"
      : `if this is a name of this machine's, start with --allow-host ${shown(named)}`;
    return `its Host header names another host (${shown(host)}); ${mend}`;
  }
  const own = `http://${host.replace(/:80$/, "")}`;
  if (values("origin").some((origin) => origin.toLowerCase() !== own))
    return "a web page of another origin made it (Origin header)";
  if (values("sec-fetch-site").some((site) => site !== "same-origin" && site !== "none"))
    return "a web page of another site made it (Sec-Fetch-Site header)";
  return undefined;
}

/** Whether the Host header's name is of this server. A server that is not on the loopback interface allows any name by default. */
function isOurs(name: string, { address, hosts }: Reached): boolean {
  if (isLoopback(name) || hosts.includes(name)) return true;
  // DNS rebinding needs a name: an address cannot be redirected.
  return !isLoopback(address) && (hosts.length === 0 || isIP(name) !== 0);
}

/** Text of a request, bounded and without special characters, for logs and answers. */
function shown(text: string): string {
  return text.replace(/[^a-z0-9._:[\]-]/g, "?").slice(0, 80);
}
