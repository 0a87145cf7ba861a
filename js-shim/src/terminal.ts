/**
 * Lines for terminals. What they show comes from files, servers and arguments, so control characters in it are shown as
 * `\u001b`: a terminal would obey them, and a line break would make a line of its own.
 */

import { styleText } from "node:util";

/** Controls (C0, C1), invisible format characters (those for the direction of text among them), line separators, lone surrogates. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A text in which nothing is invisible. JSON in one line stays JSON of the same meaning. */
export function visible(text: string): string {
  return text.replace(UNSEEN, (found) =>
    found
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

/** Colours of a line's first word, by what they mean. */
const COLOURS = { ok: "green", note: "yellow", trouble: "red" } as const;

/** Prints a line; its first word in colour where the terminal has some. */
export function print(line: string, state?: keyof typeof COLOURS): void {
  const shown = visible(line);
  console.log(state ? shown.replace(/^\S+ */, (word) => styleText(COLOURS[state], word)) : shown);
}

/** Prints a line on standard error. */
export function printError(line: string): void {
  console.error(visible(line));
}

/** Prints how a command is used: a text of the program's own, with its line breaks. */
export function printUsage(usage: string, isAsked: boolean): void {
  for (const line of usage.split("\n")) (isAsked ? print : printError)(line);
}
