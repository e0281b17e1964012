// The whole loop in real browsers: a host publishes, two people watch, one buys and pays, everybody sees the stock fall,
// the host leaves and returns. Told for each codec that the browser can send, and for both gates.
//
//   node loop.mjs                          runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)
//   node loop.mjs --screenshots DIRECTORY  takes the README's pictures instead

import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { DESKTOP, Guest, Host, PHONE, launch, sendableCodecs } from "./lib/pages.mjs";
import { endsWithin, exitCode, expect, skip, step, story, until } from "./lib/report.mjs";
import { startHaul, startRedis } from "./lib/server.mjs";

/** Longer than all stories take on a slow machine: something hangs. */
const MOST_MS = 5 * 60_000;
const RETURN_WITHIN_MS = 3_000;
const SALE = { product: "lamp", price: "79.00", stock: 3, limit: 1, minutes: 5 };

const watchdog = endsWithin(MOST_MS);

const browser = await launch();
const [option, directory] = process.argv.slice(2);
if (option === "--screenshots") await takeScreenshots(directory);
else await tellStories();
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

async function tellStories() {
  let codecs = new Set();
  await story("VP8, embedded gate", async () => {
    const haul = await startHaul();
    codecs = await sendableCodecs(browser, haul.url);
    await wholeLoop(haul, "VP8");
  });
  const second = codecs.has("H264") ? "H264" : "VP8";
  if (second !== "H264") skip("H264", "this browser can't send it, so the second story is VP8 too");
  await story(`${second}, Redis gate`, async () => {
    const redis = await startRedis();
    try {
      await wholeLoop(await startHaul({ gateUrl: redis.url }), second);
    } finally {
      await redis.stop();
    }
  });
  for (const codec of ["VP9", "AV1", "H265"]) {
    if (codecs.has(codec)) await story(codec, async () => pictureArrives(await startHaul(), codec));
    else skip(codec, "this browser can't send it");
  }
}

/** A camera's picture in `codec` arrives in its size, moves, and is decoded as what was sent. */
async function pictureArrives(haul, codec) {
  const visitors = [];
  try {
    await step(`a picture in ${codec} goes from the host to a viewer`, async () => {
      const host = await Host.enter(browser, haul.studioUrl, codec);
      visitors.push(host);
      await host.click("source-camera");
      await host.goLive();
      const sent = await until("pictures are sent", async () => {
        const sent = await host.stats("outbound-rtp", "video");
        return sent && sent.framesEncoded > 0 && sent.codec === codec && sent;
      });
      const ana = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP);
      visitors.push(ana);
      await ana.seesMovingPictures();
      const got = await ana.stats("inbound-rtp", "video");
      expect(got.codec === codec, `the viewer decodes ${got.codec}`);
      // The encoder may change the size meanwhile, but not the shape.
      expect(got.frameWidth * sent.frameHeight === got.frameHeight * sent.frameWidth, "the shape is the sent one's");
      expect(got.frameWidth >= 320, `${got.frameWidth} pixels wide`);
      return `${got.frameWidth} × ${got.frameHeight}, ${got.framesDecoded} decoded, ${got.keyFramesDecoded} keyframes`;
    });
    await step("no page had an error", () => visitors.forEach((visitor) => visitor.expectNoErrors()));
  } catch (error) {
    console.log(haul.log().replace(/token=\S+/g, "token=…").replace(/^/gm, "    | "));
    throw error;
  } finally {
    for (const visitor of visitors) await visitor.page.context().close();
    await haul.stop();
  }
}

async function wholeLoop(haul, codec) {
  const visitors = [];
  const enter = async (visitor) => {
    visitors.push(await visitor);
    return visitor;
  };
  let host, ana, ben, order;
  try {
    await step("a viewer may come before the host", async () => {
      ben = await enter(Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP));
      await ben.shows("live-state", /SOON/);
    });
    await step(`the host goes live with a camera in ${codec}`, async () => {
      host = await enter(Host.enter(browser, haul.studioUrl, codec));
      await host.click("source-camera");
      await host.goLive();
      await until("pictures are sent", async () => {
        const sent = await host.stats("outbound-rtp", "video");
        return sent && sent.framesEncoded > 0 && sent.codec === codec;
      });
    });
    await step("who waited sees the picture", () => ben.seesMovingPictures());
    await step("who comes later sees it", async () => {
      ana = await enter(Guest.enter(browser, `${haul.url}/watch/demo`, PHONE));
      await ana.seesMovingPictures();
      expect((await ana.stats("inbound-rtp", "video")).codec === codec, `the viewer decodes ${codec}`);
    });
    await step("both hear the sound", async () => {
      await ana.hearsSound();
      await ben.hearsSound();
    });
    await step("everybody is counted", () => host.shows("viewers", /^2$/));

    await step("both see the product that the host pins", async () => {
      await host.click("pin-bag");
      for (const viewer of [ana, ben]) await viewer.shows("pin-title", /Market tote/);
    });
    await step("both see the sale that the host opens", async () => {
      await host.openSale(SALE);
      for (const viewer of [ana, ben]) {
        await viewer.shows("pin-title", /Paper moon lamp/);
        await viewer.shows("stock", /^3$/);
        await viewer.shows("countdown", /\d/);
      }
    });
    await step("a guest chats, and others read it", async () => {
      await ana.join("Ana");
      await ana.say("Is it bright?");
      await ben.at("chat-line").filter({ hasText: "Is it bright?" }).waitFor();
      await host.at("chat-line").filter({ hasText: "Is it bright?" }).waitFor();
    });
    await step("the guest buys, and the other sees the stock fall", async () => {
      order = await ana.buy(async () => {
        await ana.shows("hold-countdown", /\d/);
        await ben.shows("stock", /^2$/);
        await ben.shows("being-bought", /^1 being bought$/);
      });
      expect(order.length > 0, "an order has a number");
      await ben.shows("stock", /^2$/);
      await ben.shows("being-bought", /^$/);
    });
    await step("the studio shows the order and the totals", async () => {
      const row = host.page.locator(`[data-testid="order-row"][data-order="${order}"][data-state="sold"]`);
      await row.filter({ hasText: "Ana" }).waitFor();
      await host.shows("totals-orders", /^1$/);
      await host.shows("totals-units", /^1$/);
      await host.shows("totals-revenue", /79/);
      // And draws them over time.
      await host.shows("plot-viewers-now", /^2 \(max 2\)$/);
      await host.shows("plot-orders-now", /^1$/);
      await host.shows("plot-revenue-now", /79/);
      for (const line of ["viewers", "orders", "revenue"]) {
        const points = await host.page.locator(`#plot-${line} polyline`).getAttribute("points");
        expect(points.split(" ").length > 2, `${line} have a line`);
      }
    });

    await step("the host leaves, and viewers are told", async () => {
      for (const viewer of [ana, ben]) await viewer.markConnection();
      await host.endLive();
      for (const viewer of [ana, ben]) await viewer.shows("live-state", /AWAY/);
    });
    await step(`the host returns, and the picture is back within ${RETURN_WITHIN_MS} ms, same session`, async () => {
      const before = await Promise.all([ana.frames(), ben.frames()]);
      const clicked = Date.now();
      await host.click("go-live");
      for (const [i, viewer] of [ana, ben].entries()) {
        const left = RETURN_WITHIN_MS - (Date.now() - clicked);
        await until("frame counters rise again", async () => (await viewer.frames()) > before[i], left);
      }
      const took = Date.now() - clicked;
      for (const viewer of [ana, ben]) {
        expect(await viewer.hasSameConnection(), "the viewer's connection is the one from before");
        await viewer.seesMovingPictures();
      }
      return `after ${took} ms`;
    });
    await step("no page had an error", () => visitors.forEach((visitor) => visitor.expectNoErrors()));
    await step("Ctrl-C drains and ends well", async () => {
      const code = await haul.stop();
      expect(code === 0, `exit code ${code}`);
      expect(!/panicked|eyJ/.test(haul.log().replace(/#token=\S+/, "")), "no panic and no token in the log");
    });
  } catch (error) {
    console.log(haul.log().replace(/token=\S+/g, "token=…").replace(/^/gm, "    | "));
    for (const visitor of visitors) visitor.errors.forEach((line) => console.log(`    page: ${line}`));
    throw error;
  } finally {
    for (const visitor of visitors) await visitor.page.context().close();
    await haul.stop();
  }
}

/** An evening in the shop, for the README. */
async function takeScreenshots(into) {
  await mkdir(into, { recursive: true });
  const haul = await startHaul();
  const host = await Host.enter(browser, haul.studioUrl, "VP8");
  await host.click("source-test");
  await host.goLive();
  const watch = `${haul.url}/watch/demo`;
  const [mia, ben] = [await Guest.enter(browser, watch, PHONE), await Guest.enter(browser, watch, PHONE)];
  await host.openSale({ product: "lamp", price: "79.00", stock: 40, limit: 2, minutes: 10 });
  await mia.join("Mia");
  await ben.join("Ben");
  await ben.say("Just found this place, hello!");
  await mia.say("How bright is the lamp?");
  await host.at("chat-input").fill("Soft: forty watts, and it dims");
  await host.click("chat-send");
  await ben.buy(async () => {});
  await ben.click("done");
  await ben.say("Got one, thank you!");
  await mia.seesMovingPictures();
  await mia.at("chat-line").filter({ hasText: "Got one" }).waitFor();
  await host.at("order-row").first().waitFor();
  // Toasts come and go; a picture without them is calmer.
  for (const { page } of [host, mia]) await page.locator("#toasts > *").first().waitFor({ state: "detached" });
  await host.page.locator(".shop").evaluate((column) => column.scrollTo(0, 0));
  await host.page.mouse.move(0, 0);
  await host.page.screenshot({ path: join(into, "studio.png") });
  await mia.page.screenshot({ path: join(into, "watch.png") });
  console.log(`ok - studio.png and watch.png are in ${into}`);
  await haul.stop();
}
