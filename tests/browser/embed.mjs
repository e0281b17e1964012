// A live on a shop's own page, which is of another origin: two lines of HTML show it, and a viewer buys in it; a page of an
// origin that the server does not know is told what to do.
//
//   node embed.mjs    runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)

import { once } from "node:events";
import { createServer } from "node:http";

import { DESKTOP, Guest, Host, launch } from "./lib/pages.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { backend } from "./lib/shop.mjs";

/** Longer than the story takes on a slow machine: something hangs. */
const MOST_MS = 2 * 60_000;

const watchdog = endsWithin(MOST_MS);

const browser = await launch();
await story("a live on a shop's page", tell);
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

/** A shop's page: what `body()` says at the time. */
async function shopPage(body) {
  const server = createServer((request, response) => {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(`<!doctype html><title>A shop</title><h1>A shop</h1>${body()}`);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { origin: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

async function tell() {
  let lines = "";
  const shop = await shopPage(() => lines);
  const stranger = await shopPage(() => lines);
  const haul = await startHaul({ variables: { HAUL__HTTP__ALLOWED_ORIGINS: shop.origin } });
  const visitors = [];
  const open = async (visit) => {
    const visitor = await visit;
    visitors.push(visitor);
    return visitor;
  };
  // What the element told the page.
  const listen = (page) =>
    page.addInitScript(() => {
      window.told = [];
      for (const type of ["haul-state", "haul-order", "haul-error"]) addEventListener(type, (event) => window.told.push({ type, ...event.detail }));
    });
  try {
    const token = await (await backend(haul)).viewer("Ann");
    lines = `<script type="module" src="${haul.url}/sdk/element.js"></script>
<haul-live live="demo" token="${token}" lang="en" ref="mia" style="display: block; width: 420px; height: 760px"></haul-live>`;
    let host, ann, frame;
    await step("two lines of HTML show the live on a page of another origin", async () => {
      host = await open(Host.enter(browser, haul.studioUrl, "VP8"));
      await host.click("source-test");
      await host.goLive();
      ann = await open(Guest.open(browser, shop.origin, DESKTOP, listen));
      frame = ann.page.frameLocator("haul-live iframe");
      await until("pictures move", async () => {
        const frames = await frame.locator("video").evaluate((video) => video.getVideoPlaybackQuality().totalVideoFrames);
        return frames > 10;
      });
      expect(ann.page.frames()[1].url().startsWith(`${haul.url}/watch/demo`), "it is the watch page");
      expect(!ann.page.frames()[1].url().includes("eyJ"), "whose address shows no token");
    });
    await step("the page is told how the live stands", () =>
      until("live", () => ann.page.evaluate(() => window.told.some(({ type, state }) => type === "haul-state" && state === "live"))));
    await step("the viewer is who the shop says, and chats", async () => {
      await frame.locator("#chat-input").fill("Hello from the shop");
      await frame.locator('[data-testid="chat-send"]').click();
      await host.at("chat-line").filter({ hasText: "Ann" }).filter({ hasText: "Hello from the shop" }).waitFor();
    });
    await step("they hold, pay and are confirmed, and the page is told of the order", async () => {
      await host.click("pin-bag");
      await host.openSale({ product: "bag", price: "50.00", stock: 3, limit: 1, minutes: 5 });
      await frame.locator("#buy").filter({ hasText: "Buy now · €50.00" }).click();
      await frame.locator('[data-testid="checkout"]').click();
      await frame.frameLocator('[data-testid="pay-frame"]').locator('[data-testid="pay"]:enabled').click();
      await frame.locator('[data-testid="confirmation"]').waitFor();
      const number = (await frame.locator('[data-testid="order-number"]').textContent()).trim();
      await until("the page is told", () =>
        ann.page.evaluate((id) => window.told.some((told) => told.type === "haul-order" && told.id === id && told.state === "sold"), number));
      await host.page.locator(`[data-testid="order-row"][data-order="${number}"][data-state="sold"]`).filter({ hasText: "Ann" }).waitFor();
    });
    await step("another language is another attribute", async () => {
      await ann.page.evaluate(() => document.querySelector("haul-live").setAttribute("lang", "zh"));
      await until("the page is Chinese", async () => (await frame.locator("#chat-input").getAttribute("placeholder").catch(() => "")) === "说点什么");
    });
    await step("a page that the server does not know shows why, and what to do", async () => {
      const eve = await open(Guest.open(browser, stranger.origin, DESKTOP, listen));
      await eve.page.locator("haul-live [role=alert]").filter({ hasText: `add ${stranger.origin} to http.allowed_origins` }).waitFor();
      expect(await eve.page.evaluate(() => window.told.some(({ type, code }) => type === "haul-error" && code === "blocked")), "its script is told");
      // The browser says that the frame was refused: that is what this step is about.
      eve.errors = [];
    });
    await step("no page had an error", () => visitors.forEach((visitor) => visitor.expectNoErrors()));
  } finally {
    for (const visitor of visitors) await visitor.page.context().close();
    await haul.stop();
    shop.stop();
    stranger.stop();
  }
}
