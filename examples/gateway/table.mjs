import { compareTotals } from "./compare.mjs";

/**
 * The Models tab beside the provider's ledger.
 *
 * @typedef {import("./compare.mjs").Totals & { avg_latency_ms: number | null }} Row
 *
 * @param {Row[]} shown What AgentWatch shows.
 * @param {Row[]} sent What the provider sent.
 * @returns {{ text: string, isEqual: boolean }}
 */
export function table(shown, sent) {
  const models = [
    ...new Set([...shown, ...sent.filter(({ requests }) => requests > 0)].map(({ model }) => model)),
  ];
  const lines = models.sort().flatMap((model) => {
    const [seen, truth] = [shown, sent].map((rows) => rows.filter((row) => row.model === model));
    const isEqual = compareTotals(truth ?? [], seen ?? []).length === 0;
    return [
      line([model, "AgentWatch", ...cells(seen?.[0])]),
      line(["", "provider", ...cells(truth?.[0]), isEqual ? "✓ equal" : "✗ DIFFERENT"]),
    ];
  });
  const head = line(["model", "says", "requests", "prompt", "completion", "cost", "avg latency"]);
  return {
    text: [head, "─".repeat(88), ...lines].join("\n"),
    isEqual: models.length > 0 && compareTotals(sent, shown).length === 0,
  };
}

/** @param {Row | undefined} row */
function cells(row) {
  if (!row) return ["–", "–", "–", "–", "–"];
  const latency = row.avg_latency_ms === null ? "–" : `${Math.round(row.avg_latency_ms)} ms`;
  const counts = [row.requests, row.prompt_tokens, row.completion_tokens];
  return [...counts.map((count) => count.toLocaleString("en")), `$${row.cost_usd.toFixed(6)}`, latency];
}

/** @param {string[]} texts */
function line([model = "", who = "", ...rest]) {
  const widths = [9, 9, 11, 12, 12];
  const numbers = rest.slice(0, 5).map((text, i) => text.padStart(widths[i] ?? 0));
  return [model.padEnd(13), who.padEnd(11), ...numbers, ...rest.slice(5).map((text) => `  ${text}`)]
    .join(" ")
    .trimEnd();
}
