// A shop that sends things: the watch page asks where to before the payment, on a phone and on a desktop, in English and
// Chinese, and remembers it where the buyer wants it to.
//
//   node contact.mjs                          runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)
//   node contact.mjs --screenshots DIRECTORY  also keeps pictures of what was seen

import { join } from "node:path";

import { axe } from "./lib/axe.mjs";
import { DESKTOP, Guest, PHONE, launch } from "./lib/pages.mjs";
import { picturesKept } from "./lib/pictures.mjs";
import { endsWithin, exitCode, expect, step, story } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { backend } from "./lib/shop.mjs";

/** Longer than all stories take on a slow machine: something hangs. */
const MOST_MS = 2 * 60_000;

const keep = await picturesKept();
const watchdog = endsWithin(MOST_MS);
const browser = await launch();
await story("contact", tell);
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

async function tell() {
  const haul = await startHaul({ variables: { HAUL__SALE__CONTACT: "address" } });
  const shop = await backend(haul);
  const watch = async (name, query = "") => `${haul.url}/watch/demo${query}#token=${await shop.viewer(name)}`;
  const ann = await Guest.enter(browser, await watch("Ann"), PHONE);
  const bai = await Guest.enter(browser, await watch("Bai", "?lang=zh"), DESKTOP);
  const all = { ann, bai };
  const fill = async (buyer, fields) => {
    for (const [name, value] of Object.entries(fields)) await buyer.at(`contact-${name}`).fill(value);
  };
  let order;

  try {
    await step("a payment is not begun before it is known where it goes", async () => {
      await ann.click("buy");
      await ann.at("contact-name").waitFor();
      await look(ann, "contact-empty");
      await axe(ann);
      await ann.click("checkout");
      expect(await ann.at("contact-name").evaluate((field) => field.matches(":invalid")), "the browser shows what is missing");
      expect(await ann.at("checkout").isVisible(), "and the sheet stays as it is");
    });

    await step("with it, the order is paid, and the shop knows", async () => {
      await fill(ann, { name: "Ann O'Hara", line1: "1 Lamp Street", city: "Cork", postal: "T12", email: "ann@example.org" });
      await ann.at("contact-country").selectOption("IE");
      await ann.at("contact-remember").check();
      await look(ann, "contact-full");
      await pay(ann);
      order = await ann.text("order-number");
      const details = await shop.get(`/v1/orders/${order}/details`);
      expect(details.contact.address.join() === "1 Lamp Street,Cork", `the address is ${details.contact.address}`);
      expect(details.contact.country === "IE" && details.contact.name === "Ann O'Hara", "so are country and name");
      await ann.click("done");
    });

    await step("the next order finds it filled in", async () => {
      await ann.page.reload();
      await ann.click("buy");
      await ann.at("contact-name").waitFor();
      expect((await ann.at("contact-line1").inputValue()) === "1 Lamp Street", "the street is there");
      expect((await ann.at("contact-city").inputValue()) === "Cork", "the city is there");
      expect((await ann.at("contact-country").inputValue()) === "IE", "the country is there");
      await ann.click("give-back");
    });

    await step("a Chinese page asks in Chinese", async () => {
      await bai.click("buy");
      await bai.at("contact-name").waitFor();
      expect(/收货信息/.test(await bai.page.locator("#buy-body").textContent()), "in its words");
      await look(bai, "contact-chinese");
      await axe(bai);
    });
  } finally {
    for (const [name, visitor] of Object.entries(all)) {
      const errors = visitor.errors || [];
      expect(errors.length === 0, `${name}'s page has no errors: ${errors.join("; ")}`);
    }
    await haul.stop();
  }
}

async function pay(buyer) {
  await buyer.click("checkout");
  await buyer.page.frameLocator('[data-testid="pay-frame"]').locator('[data-testid="pay"]:enabled').click();
  await buyer.at("confirmation").waitFor();
}

async function look(visitor, name) {
  if (keep) await visitor.page.screenshot({ path: join(keep, `${name}.png`) });
}
