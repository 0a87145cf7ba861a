/** Limits repeated log lines: the same text is logged once a minute. */

const REPEAT_AFTER_MS = 60_000;
/** Texts that are remembered. */
const MAX_TEXTS = 100;

/** Wraps a log function. @param mono ms of the monotonic clock */
export function rateLimited(log: (text: string) => void, mono: () => number): (text: string) => void {
  const lastAt = new Map<string, number>();
  return (text) => {
    const now = mono();
    const last = lastAt.get(text);
    if (last !== undefined && now - last < REPEAT_AFTER_MS) return;
    if (lastAt.size >= MAX_TEXTS) lastAt.clear();
    lastAt.set(text, now);
    log(text);
  };
}
