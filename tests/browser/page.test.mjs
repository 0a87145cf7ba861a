import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { chromium as driver } from "playwright-core";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { chromium } from "../../scripts/lib/chromium.mjs";
import { inBatches, sampleCalls, sampleErrors } from "../bench/receiver-calls.mjs";
import { binary } from "../e2e/options.mjs";
import { allowances, incidents, turns } from "./spending.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const HOSTILE = "<img src=x onerror=\"document.title='broken'\">";
const SCHEMES = /** @type {const} */ (["light", "dark"]);
/** Time until an open page shows a call, in ms, on a busy machine. */
const SOON_MS = 30_000;

/** @typedef {import("playwright-core").Page} Page */

describe("the Models page", { skip: binary ? false : "AGENTWATCH_RECEIVER is not set" }, () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  /** @type {import("../../examples/gateway/receiver.mjs").Receiver} */
  let filled;
  /** @type {import("../../examples/gateway/receiver.mjs").Receiver} */
  let empty;

  before(async () => {
    browser = await driver.launch({
      executablePath: await chromium(),
      args: ["--disable-gpu", "--disable-background-networking", "--no-first-run"],
      chromiumSandbox: false,
    });
    [filled, empty] = await Promise.all([startReceiver({ binary }), startReceiver({ binary })]);
    for (const calls of inBatches(sampleCalls({ calls: 3000, models: 100, days: 7 }), 500))
      await post(filled.url, "model_usage", calls);
    await post(filled.url, "metrics", [...sampleErrors({ calls: 40, days: 7 })]);
    await post(filled.url, "model_usage", turns());
    await post(filled.url, "logs", incidents(HOSTILE, 0.13));
    await post(filled.url, "metrics", allowances(HOSTILE, 20));
    await post(filled.url, "model_usage", {
      model: HOSTILE,
      agent_name: HOSTILE,
      trigger: HOSTILE,
      prompt_tokens: 9,
    });
  });
  after(async () => {
    await browser?.close();
    await Promise.all([filled?.stop(), empty?.stop()]);
  });

  /** @param {string} url @param {import("playwright-core").BrowserContextOptions} [options] */
  async function open(url, options = {}) {
    const page = await browser.newPage({ viewport: { width: 1200, height: 800 }, ...options });
    /** @type {string[]} */
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== new URL(url).origin) problems.push(`asked ${request.url()}`);
    });
    await page.goto(url);
    return { page, problems };
  }

  const states = /** @type {[string, () => string, ((page: Page) => Promise<void>)?][]} */ ([
    ["nothing", () => `${empty.url}/models`],
    ["calls of many models", () => `${filled.url}/models?hours=6`],
    ["a filter", () => `${filled.url}/models?hours=12&agent=main&trigger=user`],
    ["a model's calls and sessions", () => `${filled.url}/models?hours=168&model=openai/gpt-5.2`],
    [
      "all that can be opened, open",
      () => `${filled.url}/models?hours=6&calls=1`,
      async (page) => {
        await page.$$eval("details", (all) => {
          for (const one of all) one.setAttribute("open", "");
        });
        await page.click(".left tbody a");
        await page.waitForSelector("#call");
        await page.$$eval("details", (all) => {
          for (const one of all) one.setAttribute("open", "");
        });
      },
    ],
    [
      "a telephone",
      () => `${filled.url}/models?hours=6`,
      (page) => page.setViewportSize({ width: 390, height: 800 }),
    ],
  ]);
  for (const [what, url, prepare] of states) {
    // Colours do not depend on the width.
    for (const colorScheme of what === "a telephone" ? SCHEMES.slice(1) : SCHEMES) {
      test(`has no axe-core violations: ${what}, ${colorScheme}`, async () => {
        const { page, problems } = await open(url(), { colorScheme });
        await prepare?.(page);
        // By the debugger, since the page's Content-Security-Policy allows no other script.
        await page.evaluate(AXE);
        const found = await page.evaluate(async () => {
          // @ts-expect-error axe is what was evaluated before.
          const { violations } = await window.axe.run(document);
          return violations.map(
            (/** @type {any} */ one) => `${one.id}: ${one.nodes[0].html} (${one.nodes[0].failureSummary})`,
          );
        });
        assert.deepEqual(found, []);
        assert.deepEqual(problems, []);
        await page.close();
      });
    }
  }

  test("is complete without JavaScript, filter and details included", async () => {
    const { page } = await open(`${filled.url}/models?hours=168`, { javaScriptEnabled: false });
    assert.equal(await page.locator("#rows tr").count(), 100);
    await page.click("#filter summary");
    await page.selectOption("#f-agent", "mailbox");
    // A click does not wait for the next page.
    await page.click("#filter button");
    await page.waitForURL(/hours=168&.*agent=mailbox/);
    assert.equal(await page.locator("#by-agent ~ .wide tbody tr").count(), 1);
    await page.click("#rows a >> nth=0");
    await page.waitForURL(/[?&]model=/);
    assert.ok((await page.locator(".left tbody tr").count()) > 0, "a model's page lists its calls");
    assert.ok((await page.locator("#sessions").count()) > 0);
    await page.click("#table-tokens summary");
    assert.ok(await page.locator("#table-tokens table").isVisible());
    await page.close();
  });

  test("shows times in the viewer's zone, and in UTC on demand", async () => {
    const url = `${filled.url}/models?hours=24&calls=1`;
    const { page, problems } = await open(url, { timezoneId: "Asia/Kolkata" });
    const inZone = (/** @type {RegExp} */ zone) =>
      page.waitForFunction(
        (zone) => new RegExp(zone).test(document.querySelector("#zone")?.textContent ?? ""),
        zone.source,
      );
    await inZone(/^Asia.(Kolkata|Calcutta)$/);
    const utc = await (await fetch(url)).text();
    /** @type {(selector: string) => Promise<string[]>} */
    const times = (selector) => page.$$eval(selector, (all) => all.map((one) => one.textContent ?? ""));
    const [, first = ""] = /#call"><time>([^<]+)</.exec(utc) ?? [];
    const later = new Date(Date.parse(`${first}Z`) + 5.5 * 3_600_000)
      .toISOString()
      .slice(0, 19)
      .replace("T", " ");
    assert.equal((await times(".left tbody th time"))[0], later);
    const [bar = ""] = await times("#table-tokens tbody th");
    assert.match(bar, /^\d\d:30$/, "half an hour apart from UTC");
    assert.match((await times("#chart-tokens .hit title"))[0] ?? "", new RegExp(`^${bar}: `));
    // A reload of the content keeps them.
    await post(filled.url, "model_usage", { model: "p/zone", prompt_tokens: 1 });
    await page.waitForFunction(() => document.body.textContent?.includes("p/zone"), undefined, {
      timeout: SOON_MS,
    });
    assert.match((await times("#table-tokens tbody th"))[0] ?? "", /^\d\d:30$/);
    await page.click("#other-zone");
    await page.waitForFunction(() =>
      /:00$/.test(document.querySelector("#table-tokens tbody th")?.textContent ?? ""),
    );
    assert.deepEqual(await times("#zone"), ["UTC"]);
    await page.reload();
    await page.waitForSelector("#other-zone:not([hidden])");
    assert.match((await times("#table-tokens tbody th"))[0] ?? "", /:00$/, "the choice is kept");
    await page.click("#other-zone");
    await inZone(/^Asia/);
    await page.reload();
    assert.match((await times("#table-tokens tbody th"))[0] ?? "", /:30$/, "from the first look on");
    assert.deepEqual(problems, []);
    await page.close();
  });

  test("has the days of the viewer's zone", async () => {
    const { page, problems } = await open(`${filled.url}/models?hours=720`, {
      timezoneId: "America/New_York",
    });
    await page.waitForFunction(() => document.querySelector("#zone")?.textContent === "America/New_York");
    const shown = await page.$$eval("#table-cost tbody tr", (rows) =>
      /** @type {HTMLTableRowElement[]} */ (rows).map((row) =>
        [...row.cells].slice(0, 2).map((cell) => cell.textContent ?? ""),
      ),
    );
    /** Cost by date of the zone. @type {Map<string, number>} */
    const expected = new Map();
    const date = new Intl.DateTimeFormat("en-GB", {
      timeZone: "America/New_York",
      day: "2-digit",
      month: "short",
    });
    for (const call of await (await fetch(`${filled.url}/models/calls.json?hours=720`)).json()) {
      // The page's English is not the British one, which has four letters for September.
      const day = date.format(new Date(call.timestamp)).replace("Sept", "Sep");
      expected.set(day, (expected.get(day) ?? 0) + call.cost_usd);
    }
    assert.ok(
      expected.size > 6 && shown.length >= 30,
      `${expected.size} days with calls, ${shown.length} bars`,
    );
    for (const [day = "", cost = ""] of shown)
      assert.ok(
        Math.abs(Number(cost.replace(/[$,]/g, "")) - (expected.get(day) ?? 0)) < 0.01,
        `${day}: ${cost}`,
      );
    assert.match((await page.locator("#month ~ .note").textContent()) ?? "", /days are America\/New_York\.$/);
    assert.deepEqual(problems, []);
    await page.close();
  });

  test("stays under 80 KB with a hundred models, and its chart keeps its proportions", async () => {
    for (const query of ["hours=720", "hours=168", "hours=24", "hours=168&calls=1", "hours=720&agent=main"]) {
      const text = await (await fetch(`${filled.url}/models?${query}`)).text();
      assert.ok(Buffer.byteLength(text) < 80_000, `${query}: ${Buffer.byteLength(text)} bytes`);
    }
    const { page } = await open(`${filled.url}/models?hours=168`);
    const table = await page.$$eval("#table-tokens tbody tr", (rows) => rows.length);
    assert.equal(await page.locator("#chart-tokens .hit rect").count(), table, "a bar and a row a step");
    const heights = await page.$$eval("#chart-tokens path[class^=s]", (paths) =>
      paths
        .map((path) => /** @type {SVGPathElement} */ (path).getBBox())
        .map(({ y, height }) => [y, y + height]),
    );
    for (const [top = 0, bottom = 0] of heights)
      assert.ok(top >= -0.1 && bottom <= 100.1, `${top} to ${bottom}`);
    await page.close();
  });

  test("shows names as text and executes none", async () => {
    const { page, problems } = await open(`${filled.url}/models?model=${encodeURIComponent(HOSTILE)}`);
    assert.equal(await page.locator("#rows th").innerText(), HOSTILE);
    assert.equal(await page.locator("main img").count(), 0);
    assert.match(await page.title(), /^Models/);
    assert.deepEqual(problems, []);
    await page.close();
  });

  test("updates without losing focus, selection or input, and announces nothing", async () => {
    const { page, problems } = await open(`${filled.url}/models?hours=168&agent=live`);
    await page.waitForSelector("#empty");
    const one = { model: "p/live", agent_name: "live", prompt_tokens: 1, cost_usd: 0.5 };
    await post(filled.url, "model_usage", one);
    await page.waitForSelector("#rows tr", { timeout: SOON_MS });
    await page.click("#table-cost summary");
    await page.focus("#rows a");
    await page.evaluate("document.querySelector('#rows tr').isTheSame = true");
    await post(filled.url, "model_usage", [one, { ...one, model: "p/dearer", cost_usd: 7 }]);
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length === 2, undefined, {
      timeout: SOON_MS,
    });
    assert.equal(await page.evaluate("document.activeElement.textContent"), "p/live");
    assert.equal(await page.evaluate("document.querySelectorAll('#rows tr')[1].isTheSame"), true);
    assert.ok(await page.locator("#table-cost table").isVisible(), "what was opened stays open");
    assert.equal(await page.locator("#notice").innerText(), "", "no word for those who listen");
    assert.deepEqual(problems, []);
    await page.close();
  });

  test("announces once that the receiver is down, and continues when it is back", async () => {
    const first = await startReceiver({ binary });
    const port = Number(new URL(first.url).port);
    const { page } = await open(`${first.url}/models`);
    await page.waitForTimeout(500);
    await first.stop();
    await page.waitForFunction(() => document.querySelector("#notice")?.textContent !== "", undefined, {
      timeout: SOON_MS,
    });
    const second = await startReceiver({ binary, port });
    try {
      await post(second.url, "model_usage", { model: "p/back", prompt_tokens: 1 });
      await page.waitForSelector("#rows tr", { timeout: SOON_MS });
      await page.waitForFunction(() => document.querySelector("#notice")?.textContent === "", undefined, {
        timeout: SOON_MS,
      });
    } finally {
      await page.close();
      await second.stop();
    }
  });

  test("can be used with the keyboard only", async () => {
    const { page } = await open(`${filled.url}/models?hours=168`);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate("document.activeElement.className"), "skip");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate("document.activeElement.id"), "figures");
    await page.focus("#table-tokens summary");
    await page.keyboard.press("Enter");
    assert.ok(await page.locator("#table-tokens table").isVisible());
    await page.close();
  });

  test("can be downloaded as CSV and JSON, with its filter", async () => {
    const get = async (/** @type {string} */ path) => {
      const answer = await fetch(filled.url + path);
      assert.equal(answer.status, 200, path);
      return answer.text();
    };
    const models = JSON.parse(await get("/models/stats.json?hours=168&agent=main"));
    const csv = (await get("/models/stats.csv?hours=168&agent=main")).trim().split("\r\n");
    assert.equal(csv.length, models.length + 1);
    const requests = models.reduce(
      (/** @type {number} */ sum, /** @type {any} */ model) => sum + model.requests,
      0,
    );
    const calls = JSON.parse(await get("/models/calls.json?hours=168&agent=main"));
    assert.equal(calls.length, requests);
    assert.ok(calls.every((/** @type {any} */ call) => call.agent_name === "main"));
    assert.equal(
      (await get("/models/calls.csv?hours=168&agent=main")).trim().split("\r\n").length,
      requests + 1,
    );
    assert.equal((await fetch(`${filled.url}/models/calls.xml`)).status, 404);
  });
});

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
