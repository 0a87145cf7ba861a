/**
 * What both sides say about a model: the provider's ledger and the receiver's Models tab.
 *
 * @typedef {{ model: string, requests: number, prompt_tokens: number, completion_tokens: number, cost_usd: number }} Totals
 */

/** Sums of many costs differ in the last bits. */
export const COST_TOLERANCE = 1e-6;
export const COUNTS = /** @type {const} */ (["requests", "prompt_tokens", "completion_tokens"]);

/**
 * One readable line per difference; none when they agree. Models that had failures only are on no Models tab.
 *
 * @param {Totals[]} expected
 * @param {Totals[]} actual
 * @returns {string[]}
 */
export function compareTotals(expected, actual) {
  const wanted = new Map(expected.filter(({ requests }) => requests > 0).map((row) => [row.model, row]));
  const shown = new Map(actual.map((row) => [row.model, row]));
  return [...new Set([...wanted.keys(), ...shown.keys()])].sort().flatMap((model) => {
    const [sent, seen] = [wanted.get(model), shown.get(model)];
    if (!sent) return [`${model}: shown, but the provider sent nothing: ${JSON.stringify(seen)}`];
    if (!seen) return [`${model}: not shown; the provider sent ${JSON.stringify(sent)}`];
    const lines = COUNTS.filter((field) => sent[field] !== seen[field]).map(
      (field) =>
        `${model}: ${field} ${seen[field]} shown, ${sent[field]} sent (${seen[field] - sent[field]})`,
    );
    if (Math.abs(sent.cost_usd - seen.cost_usd) > COST_TOLERANCE) {
      lines.push(`${model}: cost_usd ${seen.cost_usd} shown, ${sent.cost_usd} sent`);
    }
    return lines;
  });
}

/**
 * What came since an earlier look.
 *
 * @param {Totals[]} rows
 * @param {Totals[]} before
 */
export function minus(rows, before) {
  const earlier = new Map(before.map((row) => [row.model, row]));
  return rows
    .map((row) => {
      const {
        requests = 0,
        prompt_tokens = 0,
        completion_tokens = 0,
        cost_usd = 0,
      } = earlier.get(row.model) ?? {};
      return {
        model: row.model,
        requests: row.requests - requests,
        prompt_tokens: row.prompt_tokens - prompt_tokens,
        completion_tokens: row.completion_tokens - completion_tokens,
        cost_usd: row.cost_usd - cost_usd,
      };
    })
    .filter((row) => COUNTS.some((field) => row[field] !== 0) || Math.abs(row.cost_usd) > COST_TOLERANCE);
}
