/** What can be said of the settings before the core judges their values. */

import type { GatewayConfig } from "./openclaw.js";

/** The settings, as `openclaw.plugin.json` has them. */
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
];

/** The plugin's settings in a gateway's configuration. */
export function pluginSettings(config: GatewayConfig | undefined): Record<string, unknown> {
  const settings: unknown = config?.plugins?.entries?.agentwatch?.config;
  return typeof settings === "object" && settings !== null ? { ...settings } : {};
}

/** Settings that there are not, each with the nearest that there is. */
export function unknownSettings(config: Record<string, unknown>): string[] {
  return Object.keys(config)
    .filter((name) => !SETTINGS.includes(name))
    .map((name) => {
      const nearest = nearestOf(name);
      const advice = nearest ? `did you mean "${nearest}"?` : `there are ${SETTINGS.join(", ")}`;
      return `unknown setting "${name.slice(0, 64)}": ${advice}`;
    });
}

/** The setting of which the fewest letters differ, if that is less than half of them. */
function nearestOf(name: string): string | undefined {
  const given = name
    .toLowerCase()
    .replace(/[^a-z]/g, "")
    .slice(0, 64);
  const ranked = SETTINGS.map((known) => ({ known, apart: distance(given, known.toLowerCase()) }));
  const [best] = ranked.sort((a, b) => a.apart - b.apart);
  return best && best.apart < best.known.length / 2 ? best.known : undefined;
}

/** How many letters have to be added, removed or changed. */
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
