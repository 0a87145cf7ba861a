/** Limits log lines: the same text is logged once a minute, and so many different ones. */

const REPEAT_AFTER_MS = 60_000;
/** Different texts in a minute. */
const MAX_TEXTS = 100;

/**
 * Wraps a log function.
 *
 * @param mono ms of the monotonic clock
 * @param most different texts in a minute
 */
export function rateLimited(
  log: (text: string) => void,
  mono: () => number,
  most = MAX_TEXTS,
): (text: string) => void {
  const lastAt = new Map<string, number>();
  let fullAt = Number.NEGATIVE_INFINITY;
  return (text) => {
    const now = mono();
    const last = lastAt.get(text);
    if (last !== undefined && now - last < REPEAT_AFTER_MS) return;
    if (lastAt.size >= most)
      for (const [text, at] of lastAt) if (now - at >= REPEAT_AFTER_MS) lastAt.delete(text);
    if (lastAt.size >= most) return;
    lastAt.delete(text);
    lastAt.set(text, now);
    const isFull = lastAt.size >= most && now - fullAt >= REPEAT_AFTER_MS;
    if (isFull) fullAt = now;
    log(isFull ? `${text}; further lines of this kind are left out for a minute` : text);
  };
}
