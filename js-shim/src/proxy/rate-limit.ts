/** Limits log lines: the same text is logged once a minute, and so many different ones. */

const REPEAT_AFTER_MS = 60_000;
/** Different texts in a minute. A text may have words of any client. */
const MAX_TEXTS = 100;

/** Wraps a log function. @param mono ms of the monotonic clock */
export function rateLimited(log: (text: string) => void, mono: () => number): (text: string) => void {
  const lastAt = new Map<string, number>();
  return (text) => {
    const now = mono();
    const last = lastAt.get(text);
    if (last !== undefined && now - last < REPEAT_AFTER_MS) return;
    if (lastAt.size >= MAX_TEXTS)
      for (const [text, at] of lastAt) if (now - at >= REPEAT_AFTER_MS) lastAt.delete(text);
    if (lastAt.size >= MAX_TEXTS) return;
    lastAt.delete(text);
    lastAt.set(text, now);
    log(
      lastAt.size < MAX_TEXTS
        ? text
        : `${text} (the ${MAX_TEXTS}th different line in a minute: no further ones)`,
    );
  };
}
