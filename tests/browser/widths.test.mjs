import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chromium as driver } from "playwright-core";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { chromium } from "../../scripts/lib/chromium.mjs";
import { inBatches, sampleCalls, sampleErrors } from "../bench/receiver-calls.mjs";
import { binary } from "../e2e/options.mjs";
import { allowances, incidents, turns } from "./spending.mjs";

const WIDTHS = [320, 375, 768, 1024, 1280, 1440, 1920];
/** Folder for pictures of each state and width; none are taken without it. */
const PICTURES = process.env.AGENTWATCH_PICTURES;
const SCHEME = process.env.AGENTWATCH_SCHEME === "dark" ? "dark" : "light";
/** Names that are long, cannot be broken at a blank, are wide, or run from right to left. */
const NAMES = [
  `anthropic/${"x".repeat(290)}`,
  "an agent with a very long name that has blanks ".repeat(5).trim(),
  "漢字".repeat(60),
  `\u202e${"מודל-".repeat(40)}`,
  "openrouter/deepseek/deepseek-r1-distill-llama-70b:free",
];

/**
 * Where the boxes of a page do not fit. What scrolls by itself (`.wide`, `pre`) has to fit, its content does not.
 * Runs in the page.
 */
function misfits() {
  const scrolls = ".wide, pre, select, .skip, svg";
  const found = [];
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth)
    found.push(`the page is ${scrollWidth} px wide in a window of ${clientWidth}`);
  const name = (/** @type {Element} */ one) => {
    const names = `${one.tagName.toLowerCase()}${one.id && `#${one.id}`}.${one.getAttribute("class") ?? ""}`;
    return `${names} "${one.textContent?.trim().slice(0, 30)}"`;
  };
  for (const holder of document.querySelectorAll(
    ".card, .chart, .summary > div, main, header, footer, form",
  )) {
    const outer = holder.getBoundingClientRect();
    if (outer.width === 0) continue;
    for (const one of holder.querySelectorAll("*")) {
      if (one.parentElement?.closest(scrolls) || one.matches(".skip")) continue;
      const inner = [one.getBoundingClientRect()];
      // A text that is wider than its box does not change the box.
      for (const text of one.matches(scrolls) ? [] : one.childNodes) {
        if (text.nodeType !== Node.TEXT_NODE) continue;
        const range = document.createRange();
        range.selectNodeContents(text);
        inner.push(range.getBoundingClientRect());
      }
      for (const { width, left, right } of inner)
        if (width > 0 && (right > outer.right + 1 || left < outer.left - 1))
          found.push(
            `${name(one)}: ${left} to ${right}, in ${name(holder)}: ${outer.left} to ${outer.right}`,
          );
    }
  }
  return found;
}

/** The tables that are wider than what they scroll in. Runs in the page. */
function scrolling() {
  return [...document.querySelectorAll(".cards .wide")]
    .filter((one) => one.scrollWidth > one.clientWidth)
    .map(
      (one) =>
        `${one.parentElement?.querySelector("h2")?.textContent}: ${one.scrollWidth} in ${one.clientWidth}`,
    );
}

describe("the Models page at every width", {
  skip: binary ? false : "AGENTWATCH_RECEIVER is not set",
}, () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  /** @type {import("../../examples/gateway/receiver.mjs").Receiver} */
  let usual;
  /** @type {import("../../examples/gateway/receiver.mjs").Receiver} */
  let extreme;

  before(async () => {
    browser = await driver.launch({
      executablePath: await chromium(),
      args: ["--disable-gpu", "--disable-background-networking", "--no-first-run"],
      chromiumSandbox: false,
    });
    [usual, extreme] = await Promise.all([startReceiver({ binary }), startReceiver({ binary })]);
    for (const calls of inBatches(sampleCalls({ calls: 3000, days: 7 }), 500))
      await post(usual.url, "model_usage", calls);
    await post(usual.url, "metrics", [...sampleErrors({ calls: 40, days: 7 })]);
    for (const calls of inBatches(sampleCalls({ calls: 500, models: 100, days: 1 }), 500))
      await post(extreme.url, "model_usage", calls);
    await post(extreme.url, "metrics", [...sampleErrors({ calls: 40, days: 1 })]);
    await post(extreme.url, "model_usage", extremes());
    await post(usual.url, "model_usage", turns());
    await post(usual.url, "logs", incidents(NAMES.at(-1) ?? "", 0.13));
    await post(usual.url, "metrics", allowances("20.00 USD a day for agent main", 20));
    await post(
      extreme.url,
      "logs",
      NAMES.flatMap((name) => incidents(name, 123_456_789.5)),
    );
    await post(
      extreme.url,
      "metrics",
      NAMES.flatMap((name) => allowances(name, 1e15)),
    );
  });
  after(async () => {
    await browser?.close();
    await Promise.all([usual?.stop(), extreme?.stop()]);
  });

  const states = /** @type {[string, () => string][]} */ ([
    ["usual", () => `${usual.url}/models?hours=168`],
    ["usual calls", () => `${usual.url}/models?hours=168&calls=1&agent=main`],
    ["extreme", () => `${extreme.url}/models?hours=24`],
    [
      "extreme calls",
      () => `${extreme.url}/models?hours=24&calls=1&agent=${encodeURIComponent(NAMES[1] ?? "")}`,
    ],
  ]);
  for (const [what, url] of states) {
    test(`nothing leaves its card, and the page does not scroll sideways: ${what}`, async () => {
      const page = await browser.newPage({ colorScheme: SCHEME });
      await page.goto(url());
      await page.$$eval("details", (all) => {
        for (const one of all) one.setAttribute("open", "");
      });
      const found = [];
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 900 });
        await picture(page, `${what}-${width}`);
        for (const misfit of await page.evaluate(misfits)) found.push(`${width}: ${misfit}`);
        // Usual names and figures are seen whole where there is room for two cards side by side.
        if (what === "usual")
          for (const table of await page.evaluate(scrolling)) found.push(`${width}: ${table}`);
      }
      assert.deepEqual(found, []);
      await page.close();
    });
  }
});

/** Calls of long names and large numbers. */
function extremes() {
  return NAMES.flatMap((name, index) =>
    ["", "completed", "failed"].map((outcome) => ({
      model: name,
      agent_name: NAMES[(index + 1) % NAMES.length],
      trigger: name,
      channel: name,
      job: name,
      gateway: name,
      session_key: name,
      prompt_stats: {
        system_prompt: 2e9,
        tool_definitions: 3e9,
        messages: 4e9,
        other: 1e9,
        cost_usd: 99_999_999.5,
      },
      cache_saved_usd: 123_456_789.12,
      cache_write_extra_usd: 98_765_432.1,
      outcome: outcome || "completed",
      cost_usd: 123_456_789.12 * (index + 1),
      cost_source: outcome ? name : "unknown",
      prompt_tokens: 987_654_321_987,
      cache_read_tokens: 987_654_321_000,
      completion_tokens: 123_456_789_123,
      latency_ms: 123_456_789,
    })),
  );
}

/** @param {import("playwright-core").Page} page @param {string} name */
async function picture(page, name) {
  if (!PICTURES) return;
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name.replaceAll(" ", "-")}.png`), fullPage: true });
}

/** @param {string} url @param {string} kind @param {unknown} body */
async function post(url, kind, body) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${url}/api/v1/ingest/${kind}`, {
    method: "POST",
    headers,
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}
