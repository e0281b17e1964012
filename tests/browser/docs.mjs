// What docs/channel.md shows in HTML and JavaScript, run as it is written there on a shop's own page: the element, and the
// client module from the first word to the checkout.
//
//   node docs.mjs    runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import { DESKTOP, Guest, Host, launch } from "./lib/pages.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { backend } from "./lib/shop.mjs";

const watchdog = endsWithin(2 * 60_000);
const docs = await readFile(fileURLToPath(new URL("../../docs/channel.md", import.meta.url)), "utf8");

const browser = await launch();
await story("the documentation of the channel", tell);
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

/** The only example in this language. */
function example(language) {
  const all = docs.split(`\`\`\`${language}\n`).slice(1).map((rest) => rest.split("```")[0]);
  expect(all.length === 1, `one example of ${language}`);
  return all[0];
}

async function tell() {
  let body = "";
  const server = createServer((request, response) => {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(`<!doctype html><title>A shop</title>${body}`);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const shop = `http://127.0.0.1:${server.address().port}`;
  const haul = await startHaul({ variables: { HAUL__HTTP__ALLOWED_ORIGINS: shop } });
  const visitors = [];
  try {
    const merchant = await backend(haul);
    const ours = (text) => text.replaceAll("https://live.example", haul.url);
    let token;
    await step("a host sells three things in one sale", async () => {
      const key = await haul.mint("--live", "tea-time", "--role", "host", "--sub", "host");
      const host = await Host.enter(browser, `${haul.url}/studio/tea-time#token=${key}`, "VP8");
      visitors.push(host);
      await host.shows("live-state", /OFF AIR/);
      await merchant.put("/v1/lives/tea-time", { title: "Tea time", public: true });
      const things = ["cup", "pot", "tray"].map((id) => ({ id, title: `A ${id}`, price_minor: 1_200, currency: "EUR" }));
      for (const { id, ...thing } of things) await merchant.put(`/v1/lives/tea-time/products/${id}`, thing);
      const german = { ...things[0], locale: "en", texts: { de: { title: "Eine Tasse" } } };
      await merchant.post("/v1/products:batch", { products: [german] });
      await host.click("source-test");
      await host.goLive();
      const [first, ...more] = things.map(({ id }) => ({ product_id: id, price_minor: 1_000, stock: 5 }));
      await host.page.evaluate(
        (schedule) => window.haul.channel.request("sale.schedule", schedule),
        { ...first, duration_ms: 600_000, more },
      );
      token = await merchant.viewer("Ann", {}, "tea-time");
    });
    await step("the module connects, looks, and buys as it is shown", async () => {
      const code = ours(example("js"));
      body = `<video muted></video><script type="module">
${code.replace(/^(import .*)$/m, `$1\nconst token = ${JSON.stringify(token)};`)}
window.done = { title: products[0].title, order, pay_url, held, state: channel.state };
</script>`;
      const ann = await Guest.open(browser, shop, DESKTOP);
      visitors.push(ann);
      const done = await until("it runs to its end", () => ann.page.evaluate(() => window.done || null));
      expect(done.order.state === "paying" && done.pay_url.length > 0, "there is an order to pay");
      expect(done.held.quantity === 2, "of both lines");
      expect(done.title === "Eine Tasse", "products are told in the language that is asked for");
      ann.expectNoErrors();
    });
    await step("the element shows the live", async () => {
      body = ours(example("html")).replace("eyJ…", token);
      const ann = await Guest.open(browser, shop, DESKTOP);
      visitors.push(ann);
      await until("pictures move", () =>
        ann.page.frameLocator("haul-live iframe").locator("video").evaluate((video) => video.getVideoPlaybackQuality().totalVideoFrames > 5));
      ann.expectNoErrors();
    });
  } catch (error) {
    console.log(haul.log().replace(/token=\S+/g, "token=…").split("\n").slice(-20).join("\n").replace(/^/gm, "    | "));
    for (const visitor of visitors) if (visitor.errors.length) console.log(`    ${visitor.errors.join("\n")}`);
    throw error;
  } finally {
    for (const visitor of visitors) await visitor.page.context().close();
    await haul.stop();
    server.close();
  }
}
