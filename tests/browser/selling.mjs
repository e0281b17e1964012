// Selling in real browsers: forms and bundles, first paid, early access, the wait in line, pausing, more stock, refunds and
// restocking, products of other shops, saved products, whose doing it was.
//
//   node selling.mjs                          runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)
//   node selling.mjs --screenshots DIRECTORY  also keeps pictures of what was seen

import { join } from "node:path";

import { axe } from "./lib/axe.mjs";
import { DESKTOP, Guest, Host, PHONE, launch } from "./lib/pages.mjs";
import { picturesKept } from "./lib/pictures.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { backend, stock } from "./lib/shop.mjs";

/** Longer than all stories take on a slow machine: something hangs. */
const MOST_MS = 4 * 60_000;

const keep = await picturesKept();

const watchdog = endsWithin(MOST_MS);

const browser = await launch();
await story("selling", tell);
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

async function tell() {
  const haul = await startHaul();
  const shop = await backend(haul);
  await stock(shop);
  await shop.put("/v1/creators/mia", { name: "Mia", kind: "koc", code: "mia" });
  const watch = async (name, claims, query = "") => `${haul.url}/watch/demo${query}#token=${await shop.viewer(name, claims)}`;
  const host = await Host.enter(browser, haul.studioUrl, "VP8");
  const ana = await Guest.enter(browser, await watch("Ana", { tier: "gold" }, "?ref=mia"), PHONE);
  const ben = await Guest.enter(browser, await watch("Ben", {}), DESKTOP);
  const all = { host, ana, ben };
  const channel = (visitor, type, fields) =>
    visitor.page.evaluate(([type, fields]) => window.haul.channel.request(type, fields), [type, fields]);
  const order = (name) => host.page.locator('[data-testid="order-row"]').filter({ hasText: name });

  try {
    await step("the host sells a shirt in all its forms, and a lamp with it", async () => {
      await until("the forms are known", async () => {
        await host.at("sale-product").selectOption("shirt");
        return host.at("sale-variant").isVisible();
      });
      await host.at("sale-stock").fill("2");
      await host.at("sale-limit").fill("2");
      await host.click("sale-add-line");
      expect((await host.at("sale-line").count()) === 4, "four forms are in the sale");
      await host.at("sale-product").selectOption("lamp");
      await host.at("sale-price").fill("79.00");
      await host.at("sale-stock").fill("5");
      await host.click("sale-open");
      await until("five lines are for sale", async () => (await host.at("sale-line-stock").count()) === 5);
      await look(host, "studio-lines");
    });

    await step("a buyer chooses colour and size, adds the lamp, and pays once", async () => {
      await ana.shows("pin-title", /Linen shirt/);
      await ana.shows("buy", /Choose/);
      await ana.click("buy");
      await ana.click("form-Sand");
      await ana.click("form-L");
      await ana.at("also-plus-4").click();
      await ana.shows("product-buy", /128/);
      await look(ana, "watch-product");
      await axe(ana);
      await ana.click("product-buy");
      await ana.at("checkout").waitFor();
      expect((await ana.at("buy-item").count()) === 2, "both are set aside");
      expect(/Sand, L/.test(await ana.page.locator("#buy-body").textContent()), "in the form that was chosen");
      await look(ana, "watch-held");
      await pay(ana);
      await order("Ana").filter({ hasText: "Sand, L" }).filter({ hasText: "Paper moon lamp" }).waitFor();
    });

    await step("the sale counts each line", async () => {
      const lines = async () => (await host.at("sale-line-stock").allTextContents()).map((words) => words.match(/^\d+/)[0]).join();
      await until("one of Sand, L and one lamp are gone", async () => (await lines()) === "2,2,2,1,4");
      await host.at("line-add").nth(3).click();
      await until("ten more of Sand, L", async () => (await lines()) === "2,2,2,11,4");
    });

    await step("the order is put down to whose link was followed", async () => {
      const id = await order("Ana").getAttribute("data-order");
      await until("its division names the creator", async () => {
        const split = await shop.get(`/v1/orders/${id}/split`).catch(() => null);
        return split && JSON.stringify(split).includes("mia");
      });
    });

    await step("the host sends a part of the money back, and the buyer hears of it", async () => {
      await order("Ana").locator('[data-testid="order-open"]').click();
      await host.at("refund-amount").fill("49.00");
      await host.click("refund");
      await host.shows("refund-list", /done/);
      await host.shows("order-sheet-state", /Partly refunded/);
      await ana.page.locator("#toasts").filter({ hasText: /went back to you/ }).waitFor();
      await look(host, "studio-order");
      await axe(host);
    });

    await step("what came back is put on the shelf again, once", async () => {
      await host.click("restock");
      await host.shows("restock", /back on the shelf/);
      await until("it is for sale again", async () => (await host.at("sale-line-stock").allTextContents()).pop().startsWith("5 of 5"));
      expect(await host.at("restock").isDisabled(), "not twice");
      await host.click("order-close");
    });

    await step("orders are found by words and by state", async () => {
      await host.at("order-search").fill("nobody");
      await until("none is shown", async () => (await host.at("order-row").count()) === 0);
      await host.at("order-search").fill("shirt");
      await host.at("order-state").selectOption("partly_refunded");
      await order("Ana").waitFor();
      await host.at("order-search").fill("");
      await host.at("order-state").selectOption("");
    });

    await step("a pause is told and ends; closing early ends the sale", async () => {
      await ana.click("done").catch(() => {});
      await host.click("sale-pause");
      await ben.shows("buy", /Paused/);
      await host.click("sale-pause");
      await ben.shows("buy", /Choose/);
      await host.click("sale-close");
      await ben.shows("buy", /Tell me when it is back/);
    });

    await step("a saved product's return is told", async () => {
      await ben.click("buy");
      await ben.shows("buy", /You hear when it is back/);
      await ben.page.reload();
      await ben.shows("buy", /You hear when it is back/);
      await channel(host, "sale.schedule", { product_id: "shirt", variant_id: "SHIRT-BM", price_minor: 4400, stock: 1, duration_ms: 600_000 });
      await ben.page.locator("#toasts").filter({ hasText: "Back in stock: Linen shirt" }).waitFor();
    });

    let places = null;
    await step("who finds all units taken waits in line, and sees their place", async () => {
      const { sale } = await channel(host, "sale.schedule", { product_id: "bag", price_minor: 1600, stock: 1, duration_ms: 600_000, offer_ms: 60_000 });
      await host.click("pin-bag");
      await ana.shows("pin-title", /Market tote/);
      await ana.shows("buy", /Buy now/);
      await ana.click("buy");
      await ana.at("checkout").waitFor();
      await ben.shows("buy", /Wait in line/);
      await ben.click("buy");
      await ben.shows("place", /1/);
      await look(ben, "watch-line");
      await axe(ben);
      places = sale;
    });

    await step("the place outlives a reload, and a look elsewhere", async () => {
      await ben.page.reload();
      await ben.shows("buy", /In line: place 1/);
      await ben.click("buy");
      await ben.shows("place", /1/);
      await ben.click("done");
    });

    await step("their turn comes with a deadline of its own, and they buy", async () => {
      await ana.click("give-back");
      await ben.page.locator("#buy-heading").filter({ hasText: "It's your turn" }).waitFor();
      await ben.shows("hold-countdown", /^(0:\d\d|1:00)$/);
      await look(ben, "watch-turn");
      await pay(ben);
      await ben.click("done");
      await ana.shows("buy", /Tell me when it is back/);
      expect(places.offer_ms === 60_000, "the sale has a line");
    });

    await step("first paid, first served: both go to pay, one gets it, the other the money back", async () => {
      await channel(host, "sale.schedule", { product_id: "tea", price_minor: 2400, stock: 1, duration_ms: 600_000, mode: "first_paid" });
      await host.click("pin-tea");
      for (const buyer of [ana, ben]) {
        await buyer.shows("buy", /Buy now/);
        await buyer.shows("pin-note", /First paid/);
        await buyer.click("buy");
        await buyer.click("checkout");
        await payFrame(buyer).locator('[data-testid="pay"]:enabled').waitFor();
      }
      await payFrame(ana).locator('[data-testid="pay"]').click();
      await ana.at("confirmation").waitFor();
      await payFrame(ben).locator('[data-testid="pay"]').click();
      await ben.page.locator("#buy-heading").filter({ hasText: "Others paid first" }).waitFor();
      await look(ben, "watch-first-paid");
      await ana.click("done");
      await ben.click("done");
      await until("the money is back", () => ben.page.evaluate(() => window.haul.room.you.orders.some(({ state }) => state === "refunded")));
      expect(!(await ben.page.locator("#buy-sheet").isVisible()), "what was read and closed stays closed");
    });

    await step("a tier comes in earlier, and others read so", async () => {
      await host.at("sale-product").selectOption("lamp");
      await host.at("sale-stock").fill("9");
      await host.click("sale-more");
      await host.at("sale-tier").fill("gold");
      await host.at("sale-early").fill("600");
      await host.at("sale-when").selectOption("10");
      await host.click("sale-open");
      await ana.shows("pin-title", /Paper moon lamp/);
      await ana.shows("buy", /Buy now/);
      await ana.shows("pin-note", /Early access: gold/);
      await ben.shows("buy", /Opens at/);
      await ben.shows("pin-note", /gold members get in 10:00 earlier/);
      await look(host, "studio-early");
    });

    await step("a coupon is dropped into the room, kept with a tap, and taken off", async () => {
      await host.click("coupons-fold");
      await host.at("coupon-code").fill("mia-10");
      await host.at("coupon-limit").fill("1");
      await host.click("coupon-make");
      await ana.shows("coupon", /10 % off · MIA-10/);
      await look(ana, "watch-coupon");
      await ana.click("coupon-use");
      await ana.shows("coupon-use", /Kept/);
      await ana.click("buy");
      await ana.at("checkout").waitFor();
      expect((await ana.at("coupon-input").inputValue()) === "MIA-10", "its code is filled in");
      await pay(ana);
      await ana.shows("coupon-off", /MIA-10.*8\.90/);
      await host.shows("coupon-row", /1 of 1 used/);
      await look(host, "studio-coupon");
      await ana.click("done");
    });

    await step("a coupon that is used up is refused, and one buys without it", async () => {
      const { sale } = await channel(host, "sale.schedule", { product_id: "tea", price_minor: 2000, stock: 5, duration_ms: 600_000 });
      await host.click("pin-tea");
      await ben.shows("pin-title", /oolong/);
      await until("the new sale is shown", () => ben.page.evaluate((id) => window.haul.room.saleOf("tea").id === id, sale.id));
      await ben.shows("buy", /Buy now/);
      await ben.click("buy");
      await ben.at("coupon-input").fill("MIA-10");
      await ben.click("checkout");
      await ben.page.locator("#toasts").filter({ hasText: "used up" }).waitFor();
      await pay(ben);
      await ben.click("done");
      await host.click("coupon-close");
      await until("it is out of sight", async () => !(await ana.at("coupon").isVisible()));
    });

    await step("a draw gives everybody the same chance, and each is told", async () => {
      await channel(host, "sale.schedule", { product_id: "bag", price_minor: 1500, stock: 1, duration_ms: 600_000, draw_ms: 15_000 });
      await host.click("pin-bag");
      for (const buyer of [ana, ben]) {
        await buyer.shows("pin-title", /Market tote/);
        await buyer.shows("buy", /Enter the draw/);
        await buyer.click("buy");
        await buyer.shows("drawn-in", /Drawn in/);
      }
      await look(ana, "watch-draw");
      const heading = (buyer) => buyer.page.locator("#buy-heading").textContent();
      const words = await until("both are told", async () => {
        const said = await Promise.all([ana, ben].map(heading));
        return said.every((each) => /drawn|Not this time/.test(each)) && said;
      }, 40_000);
      expect(words.filter((each) => /You were drawn/.test(each)).length === 1, `one of them, not ${words}`);
      const [winner, other] = /You were drawn/.test(words[0]) ? [ana, ben] : [ben, ana];
      await other.click("done");
      await pay(winner);
      await winner.click("done");
    });

    await step("a product of another shop leads there by a signed link", async () => {
      await host.click("pin-cup");
      await ana.shows("pin-title", /Stoneware cup/);
      await ana.at("pin-shop").waitFor();
      const link = await ana.at("pin-shop").getAttribute("href");
      const answer = await fetch(`${haul.url}${link}`, { redirect: "manual" });
      expect(answer.status === 302, `${answer.status}`);
      expect(answer.headers.get("location").startsWith("https://friends.example/cup"), answer.headers.get("location"));
      await look(ana, "watch-external");
    });

    await step("taps on products are counted", async () => {
      await until("clicks are counted", async () => (await shop.get("/v1/products/shirt/metrics")).clicks >= 1);
    });

    await step("the bag has all of it, and axe finds nothing serious", async () => {
      await ana.click("bag");
      await ana.at("my-order").first().waitFor();
      await look(ana, "watch-bag");
      await axe(ana);
      await ana.page.locator("#bag-sheet [data-close]").click();
      await axe(host);
    });

    await step("a Chinese reader reads products in Chinese", async () => {
      const mei = await Guest.enter(browser, await watch("Mei", {}), { ...PHONE, locale: "zh-CN" });
      all.mei = mei;
      await mei.click("bag");
      await mei.page.locator('[data-product="shirt"]').filter({ hasText: "亚麻衬衫" }).waitFor();
      await look(mei, "watch-bag-chinese");
    });

    await step("no page had an error", () => Object.values(all).forEach((visitor) => visitor.expectNoErrors()));
  } catch (error) {
    console.log(haul.log().replace(/token=\S+/g, "token=…").split("\n").slice(-12).join("\n").replace(/^/gm, "    | "));
    for (const [name, visitor] of Object.entries(all)) {
      if (keep) await visitor.page.screenshot({ path: join(keep, `failed-${name}.png`) }).catch(() => {});
      if (visitor.errors.length) console.log(`    ${name}: ${visitor.errors.join("\n")}`);
    }
    throw error;
  } finally {
    for (const visitor of Object.values(all)) await visitor.page.context().close();
    await haul.stop();
  }
}

function payFrame(buyer) {
  return buyer.page.frameLocator('[data-testid="pay-frame"]');
}

async function pay(buyer) {
  await buyer.click("checkout");
  await payFrame(buyer).locator('[data-testid="pay"]:enabled').click();
  await buyer.at("confirmation").waitFor();
}

async function look(visitor, name) {
  if (keep) await visitor.page.screenshot({ path: join(keep, `${name}.png`) });
}
