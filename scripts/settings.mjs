#!/usr/bin/env node
// Writes the table of settings in README.md from openclaw.plugin.json; --check only tells whether it is current.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const README = join(PROJECT, "README.md");
const BETWEEN = /(<!-- settings: node scripts\/settings\.mjs -->\n)[^]*?(<!-- \/settings -->)/;

/**
 * One setting of the manifest's schema. A description ends with "Default: …." and may have "See docs/….md." before it.
 *
 * @typedef {{ description: string, enum?: string[] }} Property
 */

/** The table, in Markdown. @param {Record<string, Property>} properties */
function table(properties) {
  const rows = Object.entries(properties).map(([name, { description, enum: words = [] }]) => {
    const [, meaning = "", standard = ""] = /^(.*) Default: (.*)\.$/s.exec(description) ?? [];
    if (!meaning) throw new Error(`${name}: its description has to end with "Default: ….".`);
    return `| \`${name}\` | ${told(meaning, words)} | ${told(standard, words)} |`;
  });
  return [
    "| `plugins.entries.agentwatch.config` | meaning | default |",
    "| --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
}

/** A description as Markdown. @param {string} text @param {string[]} words */
function told(text, words) {
  return text
    .replace(/\.$/, "")
    .replace(/ See (docs\/\S+\.md)/, " See [$1]($1)")
    .replace(/\{[^{}]*(?:\[[^\]]*\][^{}]*)?\}|https?:[^\s,]+[^\s,.]|\b[A-Z]+_[A-Z_]+(?:…|\b)/g, "`$&`")
    .replace(new RegExp(`(^|[.;:] )(${[...words, "true", "false"].join("|")})(?=:|$)`, "g"), "$1`$2`");
}

/** README.md, and its text with the current table. */
export async function readme() {
  const { configSchema } = JSON.parse(await readFile(join(PROJECT, "openclaw.plugin.json"), "utf8"));
  const text = await readFile(README, "utf8");
  if (!BETWEEN.test(text)) throw new Error("README.md has no place for the settings");
  return {
    text,
    wanted: text.replace(BETWEEN, (_, begin, end) => begin + table(configSchema.properties) + end),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { text, wanted } = await readme();
  if (process.argv.includes("--check") && text !== wanted) {
    console.error("README.md has old settings: run node scripts/settings.mjs");
    process.exitCode = 1;
  } else if (text !== wanted) await writeFile(README, wanted);
}
