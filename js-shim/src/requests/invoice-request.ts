/** HTTP requests of `reconcile`. This module reads no files and no environment. */

/** End of an answer. `status` is 0 without an answer, or if it broke off; `why` is then the error. */
export interface Ended {
  status: number;
  why: string;
  /** `Retry-After`, in ms from now. */
  retryAfterMs: number | undefined;
}

/** Maximum wait for the begin of an answer, and for each piece of its body, in ms. */
const TIMEOUT_MS = 60_000;

/**
 * Sends a GET and passes its body on, piece by piece. Follows no redirects, so the key reaches no other address. Never
 * throws, and errors do not contain headers.
 */
export async function get(
  url: string,
  headers: Record<string, string>,
  take: (status: number, piece: Uint8Array) => void,
): Promise<Ended> {
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), TIMEOUT_MS);
  };
  try {
    alive();
    const response = await fetch(url, {
      headers: { "user-agent": "agentwatch-openclaw", ...headers },
      redirect: "manual",
      signal: abort.signal,
    });
    for await (const piece of response.body ?? []) {
      alive();
      take(response.status, piece);
    }
    return {
      status: response.status,
      why: "",
      retryAfterMs: delayOf(response.headers.get("retry-after")),
    };
  } catch (error) {
    const { name, cause } = error as Error & { cause?: { code?: string; message?: string } };
    const why = abort.signal.aborted
      ? `nothing came for ${TIMEOUT_MS / 1_000} s`
      : (cause?.code ?? cause?.message ?? name);
    return { status: 0, why, retryAfterMs: undefined };
  } finally {
    clearTimeout(timer);
  }
}

/** Parses `Retry-After`: seconds or a date. Returns ms from now. */
function delayOf(text: string | null): number | undefined {
  if (text === null) return undefined;
  const ms = /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, Math.ceil(ms));
}
