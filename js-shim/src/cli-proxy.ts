/** The command `agentwatch-openclaw proxy`. */

import { parseArgs } from "node:util";
import {
  COMMON_OPTIONS,
  endPipeline,
  log,
  openPipeline,
  runCommand,
  tally,
  untilAsked,
} from "./cli-pipeline.js";
import { isLoopback, parseHosts } from "./guard.js";
import { parsePort } from "./listen.js";
import { Proxy } from "./proxy.js";
import { parseUpstreams } from "./upstreams.js";
import { instantiate } from "./wasm.js";

const USAGE = `agentwatch-openclaw proxy --upstream <prefix>=<address>[,provider=<name>][,usage=ask] …

  Passes requests on to models' providers, unchanged, and counts what their answers say was used. Put its address and
  the prefix into models.providers.<name>.baseUrl: http://127.0.0.1:8471/openai/v1 where it was https://api.openai.com/v1.

  --upstream  /openai=https://api.openai.com: where requests whose path begins with the prefix go; may be repeated.
              provider=<name>: OpenClaw's name of the provider, where it is not the prefix.
              usage=ask: streams that do not ask for their usage are made to (stream_options.include_usage).
  --port      where it listens; 8471, 0 for a free one
  --host      the address that it listens on; 127.0.0.1. Whoever reaches another one can use the upstreams.
  --allow-host  a further name by which it may be asked, host.docker.internal say; may be repeated. Requests for other
              names, and those that a web page makes, are refused.
  --url, --agent-name, --state-dir, --profile  as with ingest

Keys pass through; none is stored or logged. Exit status: 0 it was asked to end, 2 wrong usage or settings.`;

/** How long streams may take to end, in ms. */
const GRACE_MS = 10_000;

/** Runs until it is asked to end; the exit status. */
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
          `--host ${host}: whoever reaches this address can use the upstreams, with keys of their own; leave it out for 127.0.0.1`,
        );
      const pipeline = await openPipeline("proxy", values);
      const proxy = new Proxy({
        upstreams,
        host,
        hosts,
        port: parsePort(values.port ?? "8471"),
        onCall: (call) => pipeline.accept("proxied", [call]),
        onPassed: (passed) => pipeline.accept("passed", [passed]),
        instantiate: () => instantiate(log.warn),
        log,
        wall: () => Date.now(),
        mono: () => performance.now(),
      });
      const asked = untilAsked();
      const { port } = await proxy.listen();
      const ways = upstreams.map(({ prefix, url, provider }) => `${prefix} → ${url.href} (${provider})`);
      log.info(`proxy on http://${host}:${port}: ${ways.join(", ")}`);
      await asked;
      await proxy.close(GRACE_MS);
      await endPipeline(pipeline);
      log.info(`${tally({ ...proxy.counts })}; unread: ${tally({ ...proxy.unread })}`);
      return 0;
    },
  );
}
