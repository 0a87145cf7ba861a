/** The command `agentwatch-openclaw proxy`. */

import { parseArgs } from "node:util";
import { instantiate } from "../base/wasm.js";
import { parsePort } from "../commands/listen.js";
import {
  COMMON_OPTIONS,
  endPipeline,
  log,
  openPipeline,
  runCommand,
  stopSignal,
  tally,
} from "../commands/pipeline.js";
import { isLoopback, parseHosts } from "./guard.js";
import { Proxy } from "./proxy.js";
import { parseUpstreams, shown } from "./upstreams.js";

const USAGE = `agentwatch-openclaw proxy --upstream <prefix>=<address>[,provider=<name>][,agent=<id>][,usage=ask] …

  Forwards requests to models' providers, unchanged, and counts the usage in their answers. Put its address and the
  prefix into models.providers.<name>.baseUrl: http://127.0.0.1:8471/openai/v1 in place of https://api.openai.com/v1.

  --upstream  /openai=https://api.openai.com: the target of requests whose path begins with the prefix; may be repeated.
              provider=<name>: OpenClaw's name of the provider, where it is not the prefix.
              agent=<id>: the agent whose calls have this prefix, for allowances of one agent.
              usage=ask: adds stream_options.include_usage to streaming requests that lack it.
  --port      the port to listen on; 8471, 0 for a free one
  --host      the address to listen on; 127.0.0.1. Every client that reaches another address can use the upstreams.
  --allow-host  a further host name that requests may name, such as host.docker.internal; may be repeated. Requests to
              other names, and requests of web pages, are refused.
  --url, --agent-name, --state-dir, --profile  as with ingest

Keys pass through; none is stored or logged. Exit status: 0 stopped by a signal, 2 invalid options or settings.`;

/** How long running streams are waited for at the end, in ms. */
const GRACE_MS = 10_000;

/** Runs until a signal. @returns the exit status */
export function proxyCommand(args: string[]): Promise<number> {
  const options = {
    ...COMMON_OPTIONS,
    upstream: { type: "string", multiple: true },
    port: { type: "string" },
    host: { type: "string" },
    "allow-host": { type: "string", multiple: true },
  } as const;
  return runCommand(
    USAGE,
    () => parseArgs({ args, options }),
    async (values) => {
      const upstreams = parseUpstreams(values.upstream ?? []);
      const { host = "127.0.0.1" } = values;
      const hosts = parseHosts(values["allow-host"] ?? []);
      if (!isLoopback(host))
        log.warn(
          `--host ${host}: every client that reaches this address can use the upstreams, with its own keys; leave it out for 127.0.0.1`,
        );
      const pipeline = await openPipeline("proxy", values);
      // Calls that wait in the journal are sent, and `status` and `allow` find this process, before its first call.
      await pipeline.open();
      const proxy = new Proxy({
        upstreams,
        host,
        hosts,
        port: parsePort(values.port ?? "8471"),
        onCall: (call) => pipeline.accept("proxied", [call]),
        admit: (request, { provider, agent }, model) =>
          pipeline.admit({ agent, model: model === null ? undefined : `${provider}/${model}` }, request),
        ended: (request) => pipeline.endRequest(request),
        onPassed: (passed) => pipeline.accept("passed", [passed]),
        instantiate: () => instantiate(log.warn),
        log,
        wall: () => Date.now(),
        mono: () => performance.now(),
      });
      const stopped = stopSignal();
      const { port } = await proxy.listen();
      const routes = upstreams.map(({ prefix, url, provider }) => `${prefix} → ${shown(url)} (${provider})`);
      log.info(`proxy on http://${host}:${port}: ${routes.join(", ")}`);
      await stopped;
      await proxy.close(GRACE_MS);
      await endPipeline(pipeline);
      log.info(`${tally({ ...proxy.counts })}; unread: ${tally({ ...proxy.unread })}`);
      return 0;
    },
  );
}
