import assert from "node:assert/strict";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chromium as driver } from "playwright-core";
import { chromium } from "../../scripts/lib/chromium.mjs";
import { startWorld, waitForTotals } from "../e2e/harness.mjs";
import { anyVersion, binary, skip, tgz } from "../e2e/options.mjs";

const QUIET = [
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];
/** Time until an open page shows a further turn, in ms, on a busy machine. */
const SHOWN_WITHIN_MS = 60_000;

describe(`the Models page in a browser, behind OpenClaw ${anyVersion}`, { skip }, () => {
  /** @type {import("../e2e/harness.mjs").World} */
  let world;
  /** @type {import("playwright-core").Browser} */
  let browser;
  before(async () => {
    browser = await driver.launch({ executablePath: await chromium(), args: QUIET, chromiumSandbox: false });
    world = await startWorld({ version: anyVersion, tgz, receiver: { binary } });
  });
  after(async () => {
    await browser?.close();
    await world?.close();
  });

  test("shows the provider's totals, and a further turn without a reload", async (t) => {
    const { gateway, provider, receiver } = world;
    await waitForTotals(provider, receiver);
    const page = await browser.newPage({ viewport: { width: 1200, height: 700 } });
    /** @type {string[]} */
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));

    await page.goto(`${receiver.url}/models`);
    await page.waitForSelector("#rows tr");
    assertShown(await rows(page), provider);

    await page.evaluate(
      "window.unloaded = false; addEventListener('pagehide', () => { window.unloaded = true; })",
    );
    const requests = provider.ledger.length;
    await gateway.agentTurn({ session: "page", message: "hello [[tools 1]]" });
    await page.waitForFunction(
      (wanted) =>
        [...document.querySelectorAll("#rows tr td:nth-of-type(1)")].reduce(
          (sum, cell) => sum + Number(cell.textContent?.replaceAll(",", "")),
          0,
        ) >= wanted,
      requests + 2,
      { timeout: SHOWN_WITHIN_MS },
    );
    assertShown(await rows(page), provider);
    assert.equal(await page.evaluate("window.unloaded"), false, "the page was not loaded again");
    assert.deepEqual(problems, []);

    const path = join(await mkdtemp(join(tmpdir(), "agentwatch-page-")), "models.png");
    await page.screenshot({ path });
    t.diagnostic(`screenshot: ${path}`);
  });
});

/**
 * The table of models, by the names of its columns.
 *
 * @param {import("playwright-core").Page} page
 * @returns {Promise<Record<string, string>[]>}
 */
function rows(page) {
  return page.$$eval("#models", ([table]) => {
    const names = [...(table?.querySelectorAll("thead th") ?? [])].map(
      (head) => head.getAttribute("data-field") ?? "model",
    );
    return [...(table?.querySelectorAll("tbody tr") ?? [])].map((row) =>
      Object.fromEntries(
        [...row.querySelectorAll("th, td")].map((cell, index) => [
          names[index],
          cell.firstElementChild?.matches("a")
            ? cell.textContent?.trim()
            : cell.firstChild?.textContent?.trim(),
        ]),
      ),
    );
  });
}

/** The number of a figure. @param {string | undefined} text */
const number = (text) => Number(text?.replaceAll(/[$,]/g, ""));

/** @param {Record<string, string>[]} shown @param {import("../e2e/harness.mjs").Provider} provider */
function assertShown(shown, provider) {
  const sent = provider.totals();
  assert.deepEqual(
    shown.map(({ model }) => model).sort(),
    sent.map(({ model }) => model),
  );
  for (const { model, requests, prompt_tokens, completion_tokens, cost_usd } of sent) {
    const row = shown.find((one) => one.model === model);
    assert.equal(number(row?.requests), requests, model);
    assert.equal(number(row?.prompt_tokens), prompt_tokens, model);
    assert.equal(number(row?.completion_tokens), completion_tokens, model);
    // The page shows four digits from a cent on, and six below.
    assert.ok(
      Math.abs(number(row?.total_cost_usd) - cost_usd) <= 0.000051,
      `${model}: ${row?.total_cost_usd}`,
    );
    assert.match(row?.avg_latency_ms ?? "", /^[\d.,]+ (ms|s)$/, model);
  }
}
