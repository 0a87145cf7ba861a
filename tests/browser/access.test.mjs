import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { chromium as driver } from "playwright-core";
import { startReceiver } from "../../examples/gateway/receiver.mjs";
import { chromium } from "../../scripts/lib/chromium.mjs";
import { binary } from "../e2e/options.mjs";

const TOKEN = "a-token-of-the-tests";

describe("access with a browser", { skip: binary ? false : "AGENTWATCH_RECEIVER is not set" }, () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  /** @type {import("../../examples/gateway/receiver.mjs").Receiver} */
  let receiver;
  /** A page of another site with every kind of request that a page can make. */
  const site = createServer((_, answer) => {
    const ingest = `${receiver.url}/api/v1/ingest/model_usage?token=${TOKEN}`;
    answer.setHeader("content-type", "text/html");
    answer.end(`<form method=post action="${ingest}" enctype=text/plain><input name='{"model":"x","y":"' value='"}'></form>
      <img src="${receiver.url}/assets/icon.svg"><a href="${receiver.url}/models">the models</a>`);
  });

  before(async () => {
    receiver = await startReceiver({ binary, token: TOKEN });
    browser = await driver.launch({
      executablePath: await chromium(),
      args: ["--disable-gpu", "--disable-background-networking", "--no-first-run"],
      chromiumSandbox: false,
    });
    await new Promise((resolve) => site.listen(0, "127.0.0.1", () => resolve(undefined)));
  });
  after(async () => {
    await browser?.close();
    await receiver?.stop();
    site.close();
  });

  test("signs in, listens and signs out by the page's own forms", async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${receiver.url}/models?hours=6`);
    await page.fill("#token", "wrong");
    await page.click("button");
    assert.equal(await page.textContent("#error"), "That is not the token.");
    await page.fill("#token", TOKEN);
    await page.click("button");
    await page.waitForSelector("#empty");
    assert.equal(page.url(), `${receiver.url}/models?hours=6`);
    // The page keeps the viewer's zone in a cookie of its own.
    const sessions = async () => (await context.cookies()).filter(({ name }) => name !== "zone");
    const [cookie] = await sessions();
    assert.ok(cookie?.httpOnly && cookie.sameSite === "Strict" && !cookie.value.includes(TOKEN));
    const heard = await page.evaluate(
      `new Promise((resolve) => {
        const source = new EventSource("/models/events");
        for (const kind of ["changed", "error"]) source.addEventListener(kind, () => resolve(kind));
      })`,
    );
    assert.equal(heard, "changed");
    await page.click("footer form button");
    await page.waitForURL(`${receiver.url}/login`);
    assert.deepEqual(await sessions(), []);
    await context.close();
  });

  test("a page of another site posts nothing and embeds nothing, and its link leads to the sign-in", async () => {
    const page = await browser.newPage();
    const { port } = /** @type {import("node:net").AddressInfo} */ (site.address());
    const ingest = `${receiver.url}/api/v1/ingest/model_usage?token=${TOKEN}`;
    // Two host names of one machine are two sites; two ports of one name are one site.
    for (const url of [`http://localhost:${port}/`, `http://127.0.0.1:${port}/`]) {
      await page.goto(url);
      assert.equal(await page.evaluate("document.querySelector('img').naturalWidth"), 0);
      await page.evaluate(
        `fetch(${JSON.stringify(ingest)}, { method: "POST", mode: "no-cors", body: '{"model":"x"}' }).catch(() => {})`,
      );
      const [answer] = await Promise.all([
        page.waitForNavigation(),
        page.evaluate("document.querySelector('form').submit()"),
      ]);
      assert.equal(answer?.status(), 403);
      await page.goto(url);
      await page.click("a");
      await page.waitForURL(`${receiver.url}/login?next=%2Fmodels`);
    }
    const headers = { authorization: `Bearer ${TOKEN}` };
    const stats = await fetch(`${receiver.url}/api/model-stats`, { headers });
    assert.deepEqual(await stats.json(), []);
    await page.close();
  });
});
