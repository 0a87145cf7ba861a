/** HTTP requests of the commands. This module reads no files and no environment. */

/** A server's answer. `status` is 0 without an answer; `code` is then the error. */
export interface ServerAnswer {
  status: number;
  /** Error code of the system or of TLS, such as `ECONNREFUSED`. */
  code: string;
  /** Duration, in ms. */
  ms: number;
  /** The server's clock minus this machine's, in ms. The header has whole seconds. */
  aheadMs: number | undefined;
  /** The parsed body; `undefined` if it is not JSON. */
  body: unknown;
}

const TIMEOUT_MS = 5_000;
/** The largest body that is read, in bytes. */
const MAX_BODY = 4 * 1024 * 1024;

/** Sends a GET, or a POST of JSON. Follows no redirects, so the token reaches no other address. Throws nothing. */
export async function ask(url: string, token: string | undefined, json?: unknown): Promise<ServerAnswer> {
  const begun = Date.now();
  const failed = { status: 0, aheadMs: undefined, body: undefined };
  try {
    const response = await fetch(url, {
      method: json === undefined ? "GET" : "POST",
      headers: {
        "user-agent": "agentwatch-openclaw",
        ...(json !== undefined && { "content-type": "application/json" }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
    const ended = Date.now();
    const date = Date.parse(response.headers.get("date") ?? "");
    const body = await read(response);
    // The header has whole seconds, so the true time is half a second later on average.
    const aheadMs = Number.isNaN(date) ? undefined : date + 500 - (begun + ended) / 2;
    return { status: response.status, code: "", ms: ended - begun, aheadMs, body };
  } catch (error) {
    const { name, cause } = error as Error & { cause?: { code?: string; message?: string } };
    return { ...failed, code: cause?.code ?? cause?.message ?? name, ms: Date.now() - begun };
  }
}

async function read(response: Response): Promise<unknown> {
  let text = "";
  let bytes = 0;
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) {
      bytes += chunk.length;
      if (bytes > MAX_BODY) return undefined;
      text += decoder.decode(chunk, { stream: true });
    }
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
