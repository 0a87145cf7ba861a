/**
 * Refuses requests that a web page had a browser send: by a foreign origin, or by a name that its owner's DNS points
 * at this machine (DNS rebinding). No server of ours reads anything of a request before it has passed here.
 */

import { BlockList, isIP } from "node:net";
import { pairs } from "./hop.js";
import { SettingError } from "./listen.js";

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Whether this is an address that no other machine reaches. */
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

/** What a server is reached by. */
export interface Reached {
  /** The address that it is bound to. */
  address: string;
  /** Further host names by which it may be asked, in lower case. */
  hosts: readonly string[];
}

/**
 * Why a request is refused, as a sentence; nothing where it may pass.
 *
 * @param target the target of its first line
 * @param raw its fields, names and values in turn
 */
export function refusal(target: string, raw: readonly string[], reached: Reached): string | undefined {
  const values = (name: string) =>
    pairs(raw).flatMap(([of, value]) => (of.toLowerCase() === name ? value : []));
  // Another form of target would name another host than the Host header does.
  if (!target.startsWith("/")) return "the request's target is no path";
  const [host = "", ...otherHosts] = values("host").map((value) => value.toLowerCase());
  const name = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host);
  if (!name || otherHosts.length > 0) return "it must have one Host header, a name or an address with a port";
  if (!isOurs(name[1] ?? name[2] ?? "", reached))
    return `its Host header names another host (${shown(host)}); if this is a name of this machine's, start with --allow-host ${shown(name[1] ?? name[2] ?? "")}`;
  const own = `http://${host.replace(/:80$/, "")}`;
  if (values("origin").some((origin) => origin.toLowerCase() !== own))
    return "a web page of another origin made it (Origin header)";
  if (values("sec-fetch-site").some((site) => site !== "same-origin" && site !== "none"))
    return "a web page of another site made it (Sec-Fetch-Site header)";
  return undefined;
}

/** Others reach a server that is not bound to the loopback interface anyway, by names that are theirs to choose. */
function isOurs(name: string, { address, hosts }: Reached): boolean {
  if (isLoopback(name) || hosts.includes(name)) return true;
  // An address is nobody's to point elsewhere.
  return !isLoopback(address) && (hosts.length === 0 || isIP(name) !== 0);
}

/** What a stranger wrote, for a log and an answer. */
function shown(text: string): string {
  return text.replace(/[^a-z0-9._:[\]-]/g, "?").slice(0, 80);
}
