/** HTTP requests of `reconcile`. This module reads no files and no environment. */

/** End of an answer. `status` is 0 without an answer, or if it broke off; `why` is then the error. */
export interface Ended {
  status: number;
  why: string;
  /** Whether the answer had no end within the bounds: another try would have none either. */
  isEndless: boolean;
  /** `Retry-After`, in ms from now. */
  retryAfterMs: number | undefined;
}

/** Bounds of an answer. */
export interface AnswerBounds {
  /** Maximum wait for its begin, and for each piece of its body, in ms. */
  pauseMs: number;
  /** Maximum time for all of it, in ms. */
  wholeMs: number;
  /** Maximum size, in bytes. */
  bytes: number;
}

/** A receiver answers with all calls of a day, which may be a million of 1 KB. */
const BOUNDS: AnswerBounds = { pauseMs: 60_000, wholeMs: 900_000, bytes: 2 * 1024 ** 3 };

/**
 * Sends a GET and passes its body on, piece by piece. Follows no redirects, so the key reaches no other address. Never
 * throws, and errors do not contain headers.
 */
export async function get(
  url: string,
  headers: Record<string, string>,
  take: (status: number, piece: Uint8Array) => void,
  { pauseMs, wholeMs, bytes }: AnswerBounds = BOUNDS,
): Promise<Ended> {
  const abort = new AbortController();
  let isEndless = false;
  const stop = (why: string) => abort.abort(why);
  const endless = (why: string) => {
    isEndless = true;
    stop(why);
  };
  let timer: NodeJS.Timeout | undefined;
  let left = bytes;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(stop, pauseMs, `nothing came for ${pauseMs / 1_000} s`);
  };
  const whole = setTimeout(endless, wholeMs, `it did not end within ${wholeMs / 1_000} s`);
  try {
    alive();
    const response = await fetch(url, {
      headers: { "user-agent": "agentwatch-openclaw", ...headers },
      redirect: "manual",
      signal: abort.signal,
    });
    for await (const piece of response.body ?? []) {
      alive();
      left -= piece.length;
      if (left < 0) endless(`it is larger than ${bytes} bytes`);
      abort.signal.throwIfAborted();
      take(response.status, piece);
    }
    return {
      status: response.status,
      why: "",
      isEndless,
      retryAfterMs: delayOf(response.headers.get("retry-after")),
    };
  } catch (error) {
    const { name, cause } = error as Error & { cause?: { code?: string; message?: string } };
    const why = abort.signal.aborted ? String(abort.signal.reason) : (cause?.code ?? cause?.message ?? name);
    return { status: 0, why, isEndless, retryAfterMs: undefined };
  } finally {
    clearTimeout(timer);
    clearTimeout(whole);
  }
}

/** Parses `Retry-After`: seconds or a date. Returns ms from now. */
function delayOf(text: string | null): number | undefined {
  if (text === null) return undefined;
  const ms = /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, Math.ceil(ms));
}
