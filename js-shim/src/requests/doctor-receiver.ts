/** Checks the connection to AgentWatch and the receiver that answers. */

import type { Finding, Judged } from "../doctor/doctor.js";
import { environmentRoute } from "../plugin/env.js";
import { ask, type ServerAnswer } from "./ask.js";

/** Difference of the clocks, in ms, from which the doctor reports it: calls then show at the wrong minute. */
const SKEW_MS = 30_000;
const SET_URL = "openclaw config set plugins.entries.agentwatch.config.url http://<host>:8470";

/** Runs the checks. Returns no finding if no url is set. */
export async function examineReceiver(
  { url, token }: Judged,
  { inContainer, gateway, installation }: Record<string, unknown>,
): Promise<Finding[]> {
  if (url === undefined) return [];
  const first = await ask(`${url}/api/v1/ingest/capabilities`, token);
  const trouble = noAnswer(first, url, inContainer === true) ?? refusal(first, url, token);
  if (trouble) return [trouble];
  const { features, reported_twice } = (first.body ?? {}) as Record<string, unknown>;
  const kind = Array.isArray(features)
    ? ok(`${url} answers in ${first.ms} ms and knows record ids`)
    : await examineStock(url, token);
  if (kind.state !== "ok") return [kind];
  return [kind, ...clock(first), ...twice(reported_twice, String(gateway ?? installation))];
}

function ok(says: string): Finding {
  return { check: "receiver", state: "ok", says };
}

function bad(says: string, mend: string, check = "receiver"): Finding {
  return { check, state: "trouble", says, mend };
}

/** The finding for a server that did not answer, with the usual cause. */
function noAnswer({ status, code }: ServerAnswer, url: string, inContainer: boolean): Finding | undefined {
  if (status !== 0) return undefined;
  const { hostname } = new URL(url);
  const says = `${url} does not answer (${code})`;
  const isLocal = /^(localhost|127\.|\[::1\])/.test(hostname);
  const isShut = /^(ECONNREFUSED|ETIMEDOUT|TimeoutError|EHOSTUNREACH)$/.test(code);
  if (inContainer && isLocal && isShut)
    return bad(
      `${says}: inside a container this is the container itself`,
      "set url to http://172.17.0.1:8470 (Docker on Linux), or to http://host.docker.internal:8470 with --add-host=host.docker.internal:host-gateway; AgentWatch has to listen there too, and not on 127.0.0.1 alone",
    );
  if (inContainer && isShut && /^(172\.17\.|host\.docker\.)/.test(hostname))
    return bad(
      says,
      "let AgentWatch listen on Docker's bridge, and not on 127.0.0.1 alone, and let the host's firewall pass it",
    );
  return bad(says, mendOf(code));
}

function mendOf(code: string): string {
  const { proxy, isUsed, authorities } = environmentRoute();
  if (/CERT|SIGNATURE|SELF_SIGNED|ISSUER/.test(code) && !/ALTNAME|EXPIRED/.test(code))
    return authorities
      ? `NODE_EXTRA_CA_CERTS is ${authorities} here: check that this file has the authority that signed the certificate`
      : "set NODE_EXTRA_CA_CERTS to the file of the authority that signed it, in the gateway's environment, and restart the gateway";
  if (/CERT|TLS|SSL/.test(code))
    return "the certificate does not fit the address: check AgentWatch's certificate, and url";
  if (proxy && !isUsed && code !== "ECONNREFUSED")
    return "a proxy is set in the environment, and Node does not use it: set NODE_USE_ENV_PROXY=1 in the gateway's environment";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return `the name cannot be resolved here: check url for a typing error, or set it: ${SET_URL}`;
  if (code === "ECONNREFUSED")
    return `nothing listens there: start AgentWatch, or set its address: ${SET_URL}`;
  return "check the firewalls between; behind an HTTP proxy set HTTPS_PROXY and NODE_USE_ENV_PROXY=1 (docs/configuration.md)";
}

function refusal({ status }: ServerAnswer, url: string, token: string | undefined): Finding | undefined {
  if (status === 403)
    return bad(
      `${url} refuses this host name (HTTP 403)`,
      `start AgentWatch with --allow-host ${new URL(url).hostname}, and look whether a proxy before it refuses the gateway`,
    );
  if (status === 401)
    return bad(
      `${url} ${token === undefined ? "wants a token" : "refuses the token"} (HTTP ${status})`,
      `set ${token === undefined ? "it" : "the right one"}: openclaw config set plugins.entries.agentwatch.config.token <token>`,
      "token",
    );
  if (status === 407)
    return bad("a proxy wants a password (HTTP 407)", "put user and password into HTTPS_PROXY");
  if (status >= 300 && status < 400)
    return bad(
      `${url} redirects (HTTP ${status})`,
      "set url to the address itself: redirects are not followed",
    );
  if (status >= 500 && status !== 501)
    return bad(`${url} answers HTTP ${status}`, "see AgentWatch's log; calls wait, and nothing is lost yet");
  return undefined;
}

/**
 * Checks a receiver without capabilities, such as AgentWatch 0.1.0, by requests to its other endpoints. One of them is
 * an empty batch.
 */
async function examineStock(url: string, token: string | undefined): Promise<Finding> {
  const stats = await ask(`${url}/api/model-stats?hours=1`, token);
  const refused = refusal(stats, url, token);
  if (refused) return refused;
  if (stats.status !== 200 || !Array.isArray(stats.body))
    return bad(
      `what answers at ${url} is not AgentWatch (HTTP ${stats.status} for /api/model-stats)`,
      `see whether something else has its port, or set its address: ${SET_URL}`,
    );
  const batch = await ask(`${url}/api/v1/ingest/batch`, token, {});
  if (batch.status === 404 || batch.status === 405)
    return bad(
      `AgentWatch at ${url} is too old: it has no /api/v1/ingest/batch, so an answer that gets lost counts a call twice`,
      "update AgentWatch to 0.1.0 or later",
    );
  return refusal(batch, url, token) ?? ok(`${url} answers in ${stats.ms} ms, as AgentWatch 0.1.0 does`);
}

function clock({ aheadMs }: ServerAnswer): Finding[] {
  if (aheadMs === undefined) return [];
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  if (Math.abs(aheadMs) < SKEW_MS) return [{ check: "clock", state: "ok", says: "agrees with AgentWatch's" }];
  return [
    bad(
      `this machine's clock is ${seconds} s ${aheadMs < 0 ? "ahead of" : "behind"} AgentWatch's: calls show at the wrong time`,
      "set both by NTP (timedatectl set-ntp true)",
      "clock",
    ),
  ];
}

/** @param pairs the receiver's `reported_twice`: pairs of gateways with the same calls @param name this gateway */
function twice(pairs: unknown, name: string): Finding[] {
  const all = Array.isArray(pairs) ? (pairs as unknown[]).filter(Array.isArray) : [];
  const other = all.find((pair) => pair.includes(name))?.find((one: unknown) => one !== name);
  if (other === undefined) return [];
  return [
    bad(
      `AgentWatch has the calls of this gateway (${name}) from "${String(other)}" too: they count twice`,
      "choose one way for each gateway, or let all run on one host with the same --state-dir",
      "twice",
    ),
  ];
}
