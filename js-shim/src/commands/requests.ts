/** Makes the GET requests that an object of the module wants, one after another. */

import { setTimeout as sleep } from "node:timers/promises";
import { printError } from "../base/terminal.js";
import { get } from "../requests/invoice-request.js";

/** An object of the module that wants requests. */
export interface Asking {
  next(): string | undefined;
  feed(piece: Uint8Array): void;
  answered(status: number, retryAfterMs: number | undefined, why: string): number;
}

/** A GET request that the module asks for. */
interface Ask {
  of_provider: boolean;
  path: string;
  key_header: [name: string, before: string];
  headers: [name: string, value: string][];
}

/** An address, and the key or token for it. */
export interface Target {
  url: string;
  secret: string | undefined;
}

/**
 * Makes requests until the module asks for no more.
 *
 * @param provider the target of requests to a provider, if there are any
 * @throws an error with the obstacle
 */
export async function makeRequests(asking: Asking, agentwatch: Target, provider?: Target): Promise<void> {
  for (let text = asking.next(); text; text = asking.next()) {
    const { of_provider, path, key_header, headers } = JSON.parse(text) as Ask;
    const [name, before] = key_header;
    const who = of_provider ? "the provider" : "AgentWatch";
    const { url, secret } = (of_provider ? provider : agentwatch) ?? agentwatch;
    const { status, why, isEndless, retryAfterMs } = await get(
      `${url}${path}`,
      { ...Object.fromEntries(headers), ...(secret !== undefined && { [name]: before + secret }) },
      (status, piece) => {
        if (of_provider || status === 200) asking.feed(piece);
      },
    );
    if (isEndless) throw new Error(`${who}'s answer was given up: ${why}`);
    const wait = asking.answered(status, retryAfterMs, why);
    if (wait > 0) printError(`waiting ${Math.ceil(wait / 1_000)} s for ${who}`);
    await sleep(wait);
  }
}
