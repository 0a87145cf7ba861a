import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { startAgentwatch } from "../../scripts/lib/agentwatch.mjs";
import { binary, stockCheckout } from "./options.mjs";

/** The server behind `startStock`, for the names of tests. */
export const stockName = stockCheckout ? "the real AgentWatch" : "a stock receiver";

/**
 * An AgentWatch 0.1.0: the real one where `AGENTWATCH_STOCK_SERVER` names a checkout, else our receiver with `--stock`.
 *
 * @param {{ database?: string, port?: number }} [options] Default: a database that ends with the server, a free port.
 */
export function startStock({ database, port } = {}) {
  if (stockCheckout) return startAgentwatch({ checkout: stockCheckout, database, port });
  return startReceiver({ binary, port, args: ["--db", database ?? ":memory:", "--stock"] });
}
