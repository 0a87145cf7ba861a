/** The same words are not logged twice a minute. */

const AGAIN_AFTER_MS = 60_000;
/** So many different ones are remembered. */
const MAX_KNOWN = 100;

/** Makes a quiet voice of a loud one. `mono` is a clock in ms that never goes back. */
export function quietly(say: (text: string) => void, mono: () => number): (text: string) => void {
  const last = new Map<string, number>();
  return (text) => {
    const now = mono();
    const said = last.get(text);
    if (said !== undefined && now - said < AGAIN_AFTER_MS) return;
    if (last.size >= MAX_KNOWN) last.clear();
    last.set(text, now);
    say(text);
  };
}
