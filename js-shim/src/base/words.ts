/** A number with its noun: `1 call`, `2 calls`. */
export function counted(count: number, one: string, more = `${one}s`): string {
  return `${count} ${count === 1 ? one : more}`;
}

/** The problem that {@link sendsNothing} finds, with its mend. */
export const NOTHING_IS_SENT =
  "url is false, and there is no otlp, metricsPort or webhook, so nothing is sent anywhere: set one of them";

/** Whether no figure leaves a gateway. @param given its settings, or its status */
export function sendsNothing(given: Record<string, unknown>): boolean {
  const ways = ["otlp", "metricsPort", "metrics", "webhook"];
  return given.url === false && !ways.some((way) => given[way]);
}

/** The problem of a command whose engine fails again and again. */
export const SWITCHED_OFF =
  "counting was switched off after repeated faults, so nothing more was counted or sent; please report it";
