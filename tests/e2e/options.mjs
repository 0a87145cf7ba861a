import { VERSIONS } from "./scenarios.mjs";

/**
 * Environment variables: `AGENTWATCH_TGZ` is the packed plugin, `AGENTWATCH_RECEIVER` another receiver than
 * cargo's, `OPENCLAW_VERSIONS` (comma-separated) other gateways. `AGENTWATCH_STOCK_SERVER` is a
 * checkout of AgentWatch, whose server takes the place of our receiver's `--stock`.
 */
const { AGENTWATCH_TGZ, AGENTWATCH_RECEIVER, AGENTWATCH_STOCK_SERVER, OPENCLAW_VERSIONS } = process.env;

export const tgz = AGENTWATCH_TGZ;
export const binary = AGENTWATCH_RECEIVER;
export const stockCheckout = AGENTWATCH_STOCK_SERVER;
export const versions = OPENCLAW_VERSIONS?.split(",") ?? VERSIONS;

/** The option `skip` of `describe` and `test`: without a package the tests are skipped. */
export const skip = !tgz && "AGENTWATCH_TGZ is not set";

/** The faster version, for tests that do not depend on the version. */
export const anyVersion = versions[0] ?? "2026.3.13";
