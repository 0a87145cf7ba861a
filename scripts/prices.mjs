#!/usr/bin/env node
// Makes the built-in table of list prices, `crate/src/pricing/table.txt`, from the data of the crate `genai-prices`;
// --check only tells whether the table is what this script makes of the data, on the table's own day.
// `crate/tests/prices.rs` compares the table with the crate.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const TABLE = join(PROJECT, "crate", "src", "pricing", "table.txt");

/**
 * OpenClaw's providers with prices in the crate: the crate's id, and OpenClaw's ids. Left out are providers that report
 * costs themselves (openrouter), resellers of many providers (huggingface, cloudflare), and flat subscriptions.
 */
const PROVIDERS = {
  anthropic: ["anthropic"],
  arcee: ["arcee"],
  aws: ["amazon-bedrock"],
  baseten: ["baseten"],
  cerebras: ["cerebras"],
  cohere: ["cohere"],
  deepseek: ["deepseek"],
  fireworks: ["fireworks"],
  google: ["google", "google-vertex", "anthropic-vertex"],
  groq: ["groq"],
  meta: ["meta"],
  minimax: ["minimax"],
  mistral: ["mistral"],
  moonshotai: ["moonshot"],
  novita: ["novita"],
  openai: ["openai"],
  perplexity: ["perplexity"],
  together: ["together"],
  "x-ai": ["xai"],
  zai: ["zai"],
};

/** The rates of a model, in the order of the table. */
const RATES = ["input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"];

/** Fees in USD per 1,000 uses, by their names in the table. */
const FEES = { web: "web_searches_kcount", file: "storage_searches_kcount" };

/** The path of the crate's price data, and the crate's version. */
function source() {
  const args = ["metadata", "--format-version", "1", "--locked"];
  const text = execFileSync("cargo", args, { cwd: PROJECT, encoding: "utf8", maxBuffer: 64 << 20 });
  const { packages } = /** @type {{packages: {name: string, version: string, manifest_path: string}[]}} */ (
    JSON.parse(text)
  );
  const found = packages.find(({ name }) => name === "genai-prices");
  if (!found) throw new Error("the workspace does not depend on genai-prices");
  return { version: found.version, path: join(dirname(found.manifest_path), "data", "prices.json") };
}

/**
 * A rule as patterns with `|` between alternatives and `&` between conditions: `*` stands for anything, `#` for a
 * digit, `!` negates a condition.
 *
 * @param {Record<string, any>} rule
 * @returns {string}
 */
function pattern(rule) {
  const [[kind, value] = []] = Object.entries(rule);
  switch (kind) {
    case "equals":
      return plain(value);
    case "starts_with":
      return `${plain(value)}*`;
    case "ends_with":
      return `*${plain(value)}`;
    case "contains":
      return `*${plain(value)}*`;
    case "or":
      return alternatives(value.map(pattern)).join("|");
    case "and": {
      // Alternatives inside conditions are expanded.
      const parts = value.map((/** @type {any} */ part) => pattern(part).split("|"));
      return parts
        .reduce((/** @type {string[]} */ all, /** @type {string[]} */ next) =>
          all.flatMap((left) => next.map((right) => `${left}&${right}`)),
        )
        .join("|");
    }
    case "regex":
      return regex(value);
    default:
      throw new Error(`a rule of an unknown kind: ${kind}`);
  }
}

/** @param {string} text */
function plain(text) {
  if (/[*#!&|\s]/.test(text)) throw new Error(`a name with a character that the table uses: ${text}`);
  return text.toLowerCase();
}

/**
 * Converts the regular expressions of the data: fixed texts with digits, and "no speech model".
 *
 * @param {string} text
 */
function regex(text) {
  if (text === "^(?!.*-[tT][tT][sS](?:$|-))") return "!*-tts&!*-tts-*";
  const body = /^\^(.*?)(\$?)$/.exec(text)?.[1] ?? "";
  const variants = body.includes("[-@]") ? [body.replace("[-@]", "-"), body.replace("[-@]", "@")] : [body];
  return variants
    .map((variant) => {
      const name = variant
        .replace(/\\d(?:\{(\d)\})?/g, (_, times) => "#".repeat(Number(times ?? 1)))
        .replaceAll("\\.", ".");
      if (/[\\[\](){}?+*^$]/.test(name)) throw new Error(`an expression that the table cannot say: ${text}`);
      return text.endsWith("$") ? name : `${name}*`;
    })
    .join("|");
}

/**
 * Removes patterns that another pattern covers.
 *
 * @param {string[]} patterns
 */
function alternatives(patterns) {
  const all = [...new Set(patterns.flatMap((one) => one.split("|")))];
  const covers = (/** @type {string} */ wide, /** @type {string} */ narrow) => {
    if (wide === narrow || /[&!#]/.test(wide + narrow)) return false;
    const text = new RegExp(
      `^${wide
        .split("*")
        .map((part) => part.replace(/[.\\+^$()[\]{}?]/g, "\\$&"))
        .join(".*")}$`,
    );
    return text.test(narrow);
  };
  return all.filter((one) => !all.some((other) => covers(other, one)));
}

/**
 * The prices in force on a day. Where they change with the hour, the highest ones: an estimate should not be too low.
 *
 * @param {any} prices
 * @param {string} day
 */
function inForce(prices, day) {
  if (!Array.isArray(prices)) return prices;
  const dated = prices.filter(({ constraint }) => !constraint || (constraint.start_date ?? "~") <= day);
  const hourly = prices.filter(({ constraint }) => constraint?.start_time);
  const rank = (/** @type {any} */ one) => base(one.prices.output_mtok) + base(one.prices.input_mtok);
  const all = [dated.at(-1), ...hourly];
  return all.reduce((dearest, one) => (rank(one) > rank(dearest) ? one : dearest)).prices;
}

/** @param {any} price */
const base = (price) => (typeof price === "object" ? price.base : (price ?? 0));

/**
 * A model's rates by tier, each tier with its start before them, then the fees. A missing rate is left out; cached tokens
 * then cost as much as other tokens of the prompt.
 *
 * @param {any} prices
 */
function rates(prices) {
  const isByTokens = prices.input_mtok !== undefined && prices.output_mtok !== undefined;
  if (!isByTokens || prices.requests_kcount !== undefined) return undefined;
  const starts = RATES.flatMap(
    (key) => prices[key]?.tiers?.map((/** @type {any} */ tier) => tier.start) ?? [],
  );
  const tiers = [0, ...new Set(starts)].sort((a, b) => a - b);
  const at = (/** @type {any} */ price, /** @type {number} */ start) =>
    typeof price === "object"
      ? (price.tiers.filter((/** @type {any} */ tier) => tier.start <= start).at(-1)?.price ?? price.base)
      : price;
  const fees = Object.entries(FEES)
    .filter(([, key]) => prices[key])
    .map(([word, key]) => `${word}=${number(base(prices[key]))}`);
  const all = tiers
    .map((start) => {
      const row = RATES.map((key) => (prices[key] === undefined ? "-" : number(at(prices[key], start))));
      while (row.at(-1) === "-") row.pop();
      return (start ? [`>${start}`, ...row] : row).join(" ");
    })
    .join(" ");
  return [all, ...fees].join(" ");
}

/** @param {number} value */
const number = (value) => String(value).replace(/^0\./, ".");

/** The table. @param {string} day The prices are those in force on this day, such as 2026-11-01. */
function table(day) {
  const { version, path } = source();
  const lines = [
    `; List prices in USD per 1M tokens: input, output, cache read, cache write; fees in USD per 1,000. Made by \`npm run prices\`.`,
    `; ${day} genai-prices ${version}`,
  ];
  for (const provider of JSON.parse(readFileSync(path, "utf8"))) {
    const ids = PROVIDERS[/** @type {keyof typeof PROVIDERS} */ (provider.id)];
    if (!ids) continue;
    const fallback = (provider.fallback_model_providers ?? []).map(
      (/** @type {keyof typeof PROVIDERS} */ id) => ` > ${PROVIDERS[id][0]}`,
    );
    lines.push(`= ${ids.join(" ")}${fallback[0] ?? ""}`);
    for (const model of provider.models) {
      const row = rates(inForce(model.prices, day));
      // A model without token prices still ends the search, as it does in the crate.
      lines.push([pattern(model.match), row].filter(Boolean).join(" "));
    }
  }
  return `${lines.join("\n")}\n`;
}

if (process.argv.includes("--check")) {
  const text = readFileSync(TABLE, "utf8");
  const day = /^; (\d{4}-\d\d-\d\d) /m.exec(text)?.[1] ?? "";
  if (text !== table(day)) {
    console.error(`${TABLE} has other prices than the crate: run npm run prices`);
    process.exitCode = 1;
  }
} else writeFileSync(TABLE, table(new Date().toISOString().slice(0, 10)));
