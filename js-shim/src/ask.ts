/** Asks a server what a doctor wants to know. No file and no environment is read here. */

/** What a server answered; `status` 0 where it did not, and `code` then says why. */
export interface Asked {
  status: number;
  /** The system's or TLS's word for a failure, such as `ECONNREFUSED`. */
  code: string;
  /** How long it took, in ms. */
  ms: number;
  /** What the server's clock said meanwhile less what ours did, in ms; the header has whole seconds. */
  aheadMs: number | undefined;
  /** The body, where it is JSON. */
  body: unknown;
}

const TIMEOUT_MS = 5_000;
/** The most of a body that is read, in bytes. */
const MOST = 4 * 1024 * 1024;

/** A GET, or a POST of JSON. Redirects are not followed, so that the token stays with the address. Throws nothing. */
export async function ask(url: string, token: string | undefined, json?: unknown): Promise<Asked> {
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
    // Its second began up to a second before it answered.
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
      if (bytes > MOST) return undefined;
      text += decoder.decode(chunk, { stream: true });
    }
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
