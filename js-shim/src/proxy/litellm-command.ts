/** The command `agentwatch-openclaw litellm`. */

import { parseArgs } from "node:util";
import { instantiate } from "../base/wasm.js";
import { parsePort, SettingError } from "../commands/listen.js";
import {
  COMMON_OPTIONS,
  endPipeline,
  log,
  openPipeline,
  runCommand,
  stopSignal,
  tally,
} from "../commands/pipeline.js";
import { environmentLitellmToken } from "../plugin/env.js";
import { isLoopback, parseHosts } from "./guard.js";
import { Intake } from "./intake.js";
import { LitellmEndpoint, type LoggedCall } from "./litellm.js";

const USAGE = `agentwatch-openclaw litellm [--provider <name>] [--port <port>] [--host <address>]

  Receives the log of a LiteLLM proxy and counts its calls. In LiteLLM's configuration:

    litellm_settings:
      callbacks: ["agentwatch"]
    callback_settings:
      agentwatch:
        callback_type: generic_api
        endpoint: http://127.0.0.1:8472/
        max_retries: 3
        headers: {Authorization: Bearer <AGENTWATCH_LITELLM_TOKEN>}

  --provider  OpenClaw's name of the provider that is this LiteLLM; litellm
  --port      the port to listen on; 8472, 0 for a free one
  --host      the address to listen on; 127.0.0.1. Set AGENTWATCH_LITELLM_TOKEN for any other address.
  --allow-host  a further host name that requests may name, such as host.docker.internal; may be repeated. Requests to
              other names, and requests of web pages, are refused.
  --url, --agent-name, --state-dir, --profile  as with ingest

The environment's AGENTWATCH_LITELLM_TOKEN is the token that LiteLLM has to send; without it every client that reaches the
port may log. Exit status: 0 stopped by a signal, 2 invalid options or settings.`;

/** How long running requests are waited for at the end, in ms. */
const GRACE_MS = 10_000;

/** Runs until a signal. @returns the exit status */
export function litellmCommand(args: string[]): Promise<number> {
  const options = {
    ...COMMON_OPTIONS,
    provider: { type: "string" },
    port: { type: "string" },
    host: { type: "string" },
    "allow-host": { type: "string", multiple: true },
  } as const;
  return runCommand(
    USAGE,
    () => parseArgs({ args, options }),
    async (values) => {
      const { host = "127.0.0.1", provider = "litellm" } = values;
      const token = environmentLitellmToken();
      if (!token && !isLoopback(host))
        throw new SettingError(
          `--host ${host}: others reach this address; set AGENTWATCH_LITELLM_TOKEN, and the same in LiteLLM's configuration`,
        );
      const port = parsePort(values.port ?? "8472");
      const hosts = parseHosts(values["allow-host"] ?? []);
      const pipeline = await openPipeline("litellm", values);
      await pipeline.open();
      const intake = new Intake(pipeline);
      const accept = (calls: LoggedCall[]) => intake.accept(calls);
      const functions = { instantiate: () => instantiate(log.warn), mono: () => performance.now() };
      const endpoint = new LitellmEndpoint({ host, port, hosts, token, provider, accept, log, ...functions });
      const stopped = stopSignal();
      const at = await endpoint.listen();
      log.info(`litellm endpoint on http://${host}:${at.port}/, calls are counted under ${provider}`);
      await stopped;
      await endpoint.close(GRACE_MS);
      await endPipeline(pipeline);
      log.info(`${tally({ ...endpoint.counts })}; skipped: ${tally(endpoint.skipped)}`);
      return 0;
    },
  );
}
