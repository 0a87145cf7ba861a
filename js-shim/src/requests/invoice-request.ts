/** The requests of `reconcile`. No file and no environment is read here. */

/** How an answer ended; `status` 0 where there was none, or where it broke off, and `why` then says why. */
export interface Ended {
  status: number;
  why: string;
  /** What the header `Retry-After` says, in ms from now. */
  retryAfterMs: number | undefined;
}

/** The longest that an answer may take to begin, and each piece of it, in ms. */
const TIMEOUT_MS = 60_000;

/**
 * A GET whose body is told piece by piece. Redirects are not followed, so that the key stays with the address. Throws
 * nothing, and says nothing of what the headers held.
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

/** `Retry-After`: seconds, or a date. */
function delayOf(text: string | null): number | undefined {
  if (text === null) return undefined;
  const ms = /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, Math.ceil(ms));
}
