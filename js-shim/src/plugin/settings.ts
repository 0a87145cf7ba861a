/** Names of settings. The engine checks their values. */

import type { GatewayConfig } from "./openclaw.js";

/** The names of all settings, as in `openclaw.plugin.json`. */
export const SETTINGS = [
  "url",
  "token",
  "agentName",
  "gateway",
  "modelName",
  "identities",
  "preview",
  "otlp",
  "prices",
  "flushIntervalMs",
  "durability",
  "journalMaxMb",
  "history",
  "alarm",
  "zone",
  "webhook",
  "allowance",
  "metricsPort",
];

/** The plugin's settings in a gateway's configuration. */
export function pluginSettings(config: GatewayConfig | undefined): Record<string, unknown> {
  const settings: unknown = config?.plugins?.entries?.agentwatch?.config;
  return typeof settings === "object" && settings !== null ? { ...settings } : {};
}

/** A text for each unknown setting, with the nearest known name. */
export function unknownSettings(config: Record<string, unknown>): string[] {
  return Object.keys(config)
    .filter((name) => !SETTINGS.includes(name))
    .map((name) => {
      const nearest = nearestOf(name);
      const advice = nearest ? `did you mean "${nearest}"?` : `the settings are ${SETTINGS.join(", ")}`;
      return `unknown setting "${name.slice(0, 64)}": ${advice}`;
    });
}

/** The known name with the smallest edit distance, where that is less than half of the name's length. */
function nearestOf(name: string): string | undefined {
  const given = name
    .toLowerCase()
    .replace(/[^a-z]/g, "")
    .slice(0, 64);
  const ranked = SETTINGS.map((known) => ({ known, apart: distance(given, known.toLowerCase()) }));
  const [best] = ranked.sort((a, b) => a.apart - b.apart);
  return best && best.apart < best.known.length / 2 ? best.known : undefined;
}

/** The edit distance (Levenshtein) of two words. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [index, letter] of [...one].entries()) {
    const next = [index + 1];
    for (const [at, theirs] of [...other].entries())
      next.push(
        Math.min((row[at] ?? 0) + (letter === theirs ? 0 : 1), (row[at + 1] ?? 0) + 1, (next[at] ?? 0) + 1),
      );
    row = next;
  }
  return row[other.length] ?? 0;
}
