/** The command `agentwatch-openclaw litellm`. */

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
import { environmentLitellmToken } from "./env.js";
import { parsePort, SettingError } from "./listen.js";
import { LitellmEndpoint } from "./litellm.js";
import { instantiateIo } from "./wasm.js";

const USAGE = `agentwatch-openclaw litellm [--provider <name>] [--port <port>] [--host <address>]

  Takes the log of a LiteLLM proxy and counts its calls. In LiteLLM's configuration:

    litellm_settings:
      callbacks: ["agentwatch"]
    callback_settings:
      agentwatch:
        callback_type: generic_api
        endpoint: http://127.0.0.1:8472/
        max_retries: 3
        headers: {Authorization: Bearer <AGENTWATCH_LITELLM_TOKEN>}

  --provider  OpenClaw's name of the provider that is this LiteLLM; litellm
  --port      where it listens; 8472, 0 for a free one
  --host      the address that it listens on; 127.0.0.1. Set AGENTWATCH_LITELLM_TOKEN with another one.
  --url, --agent-name, --state-dir, --profile  as with ingest

The environment's AGENTWATCH_LITELLM_TOKEN is the token that LiteLLM has to show; without it everybody who reaches the
port may log. Exit status: 0 it was asked to end, 2 wrong usage or settings.`;

/** How long requests may take to end, in ms. */
const GRACE_MS = 10_000;

/** Runs until it is asked to end; the exit status. */
export function litellmCommand(args: string[]): Promise<number> {
  const options = {
    ...COMMON_OPTIONS,
    provider: { type: "string" },
    port: { type: "string" },
    host: { type: "string" },
  } as const;
  return runCommand(
    USAGE,
    () => parseArgs({ args, options }),
    async (values) => {
      const { host = "127.0.0.1", provider = "litellm" } = values;
      const token = environmentLitellmToken();
      if (!token && !/^(127\.|::1$|localhost$)/.test(host))
        throw new SettingError(
          `--host ${host}: others reach this address; set AGENTWATCH_LITELLM_TOKEN, and the same in LiteLLM's configuration`,
        );
      const port = parsePort(values.port ?? "8472");
      const pipeline = await openPipeline("litellm", values);
      await pipeline.open();
      const accept = async (calls: unknown[]) => {
        for (const call of calls) pipeline.take("litellm", [call]);
        await pipeline.journalled();
      };
      const makers = { instantiateIo: () => instantiateIo(log.warn), mono: () => performance.now() };
      const endpoint = new LitellmEndpoint({ host, port, token, provider, accept, log, ...makers });
      const asked = untilAsked();
      const at = await endpoint.listen();
      log.info(`litellm endpoint on http://${host}:${at.port}/, calls are counted under ${provider}`);
      await asked;
      await endpoint.close(GRACE_MS);
      await endPipeline(pipeline);
      log.info(`${tally({ ...endpoint.counts })}; skipped: ${tally(endpoint.skipped)}`);
      return 0;
    },
  );
}
