/**
 * Prints lines on a terminal. Their texts come from files, servers and arguments, so control characters are printed as
 * `\u001b`: a terminal would obey them, and a line break would forge a line.
 */

import { styleText } from "node:util";

/** Control characters (C0, C1), format characters such as those for text direction, line separators, lone surrogates. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Escapes invisible characters. A line of JSON stays equivalent JSON. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (found) =>
    found
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

/** Colours of a line's first word. */
const COLOURS = { ok: "green", note: "yellow", trouble: "red" } as const;

/** Prints a line on standard output, with its first word in the colour of `state` where the terminal has colours. */
export function print(line: string, state?: keyof typeof COLOURS): void {
  const shown = visible(line);
  console.log(state ? shown.replace(/^\S+ */, (word) => styleText(COLOURS[state], word)) : shown);
}

/** Prints a line on standard error. */
export function printError(line: string): void {
  console.error(visible(line));
}

/** Prints a command's usage: on standard output for `--help`, else on standard error. */
export function printUsage(usage: string, isHelp: boolean): void {
  for (const line of usage.split("\n")) (isHelp ? print : printError)(line);
}

/**
 * Reports why a command ended. With `--json` it is one document on standard output, too.
 *
 * @returns the exit status
 */
export function fail(why: string, isJson: boolean | undefined): number {
  if (isJson) print(JSON.stringify({ error: why }));
  printError(why);
  return 2;
}
