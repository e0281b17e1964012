// All that a host can show at once, on screens of all sizes: whoever watches can still write, ask, like, look into the bag and
// buy, and reaches every card.
//
//   node crowded.mjs                          runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)
//   node crowded.mjs --screenshots DIRECTORY  also keeps pictures of what was seen

import { join } from "node:path";

import { axe } from "./lib/axe.mjs";
import { DESKTOP, Guest, launch } from "./lib/pages.mjs";
import { picturesKept } from "./lib/pictures.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { backend } from "./lib/shop.mjs";

const keep = await picturesKept();
const watchdog = endsWithin(300_000);

/** The smallest phone that is still sold, two usual ones, one on its side, a tablet, a desk. */
const SIZES = [[320, 568], [375, 667], [390, 844], [667, 375], [768, 1024], [1280, 800]];
const ALWAYS = ["chat-input", "chat-send", "talk", "like", "bag", "buy"];
/** Each card by what is to be reached on it. */
const CARDS = { answering: "answering", poll: "poll-option", giveaway: "giveaway-enter", coupon: "coupon-use" };
const CHAT_PX_MIN = 30;
/** About ten letters. */
const NAME_PX_MIN = 88;
const PRICES = { EUR: { minor: 1_600, digits: /16[.,]00/ }, CNY: { minor: 129_900, digits: /1,299[.,]00/ }, KWD: { minor: 12_345, digits: /12[.,]345/ } };

const browser = await launch();
await story("a crowded room", tell);
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

async function tell() {
  const haul = await startHaul();
  const host = await Guest.open(browser, haul.studioUrl, DESKTOP);
  const shop = await backend(haul);
  const open = async ([width, height], locale, name) => {
    const device = { viewport: { width, height }, deviceScaleFactor: 2, isMobile: width < 768, hasTouch: width < 1024, locale };
    return Guest.enter(browser, `${haul.url}/watch/demo#token=${await shop.viewer(name)}`, device);
  };
  const asked = (visitor, type, fields) => visitor.page.evaluate(([type, fields]) => window.haul.channel.request(type, fields), [type, fields]);
  const all = {};
  try {
    await host.page.waitForFunction(() => window.haul && window.haul.room.ready);
    for (const locale of ["en-GB", "zh-CN"]) {
      await step(`in an empty room, who has no name yet has room for one, and reads whole prices (${locale})`, () => nameless(locale));
    }
    await step("the host shows all there is at once", async () => {
      const ana = await open(SIZES[0], "en", "Ana");
      await ana.page.waitForFunction(() => window.haul.room.you);
      const ask = (type, fields) => asked(host, type, fields);
      for (const text of ["Good evening!", "Tonight it is all about light", "Ask what you like"]) await ask("chat.send", { text });
      const { message_id } = await asked(ana, "chat.send", { text: "Does it come with a bulb, or is that sold separately as with the other one?" });
      const { question_id } = await asked(ana, "question.ask", { text: "Which sizes are there, and does the smallest fit a bedside table?", product_id: "lamp" });
      await ask("pin", { product_id: "lamp" });
      await ask("sale.schedule", { product_id: "lamp", price_minor: 1900, stock: 20, per_buyer: 3, duration_ms: 3_600_000, hold_ms: 60_000 });
      await ask("chat.rules.set", { slow_ms: 5_000 });
      await ask("announce", { text: "Free shipping until nine for all who order two lamps or more this evening, wherever they live" });
      await ask("chat.pin", { message_id });
      await ask("question.pick", { question_id });
      await ask("poll.open", { question: "Which colour next?", options: ["Red", "Blue", "Green"], duration_ms: 3_600_000 });
      await ask("giveaway.start", { title: "The blue lamp", word: "lamp", winners: 1, duration_ms: 3_600_000, claim_ms: 3_600_000 });
      await ask("coupon.make", { code: "LIGHT-10", percent: 10, limit: 100, duration_ms: 3_600_000, product_ids: ["lamp"], show: true });
      await ana.page.context().close();
    });
    for (const size of SIZES) await step(`at ${size.join(" × ")} everything can be reached`, () => reached(size, "en"));
    await step("so it can in Chinese", () => reached([320, 568], "zh-CN"));

    async function nameless(locale) {
      const guest = await Guest.enter(browser, `${haul.url}/watch/demo`, { viewport: { width: 320, height: 568 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, locale });
      all[`nameless-${locale}`] = guest;
      await guest.at("guest-name").waitFor();
      for (const [currency, { minor, digits }] of Object.entries(PRICES)) {
        const id = `long-${currency.toLowerCase()}`;
        await shop.put(`/v1/lives/demo/products/${id}`, { title: "A paper lamp as large as the moon", subtitle: "Folded by hand", price_minor: minor, currency });
        if (locale === "en-GB") await asked(host, "sale.schedule", { product_id: id, price_minor: minor, stock: 20, per_buyer: 3, duration_ms: 3_600_000, hold_ms: 60_000 });
        await asked(host, "pin", { product_id: id });
        await guest.at("buy").filter({ hasText: digits }).waitFor();
        await guest.at("quantity").waitFor();
        for (const width of [320, 360, 390]) await whole(guest, [width, 568], `nameless-${locale}-${currency}-${width}`);
      }
      await axe(guest);
      guest.expectNoErrors();
      await guest.page.context().close();
      delete all[`nameless-${locale}`];
    }

    async function whole(guest, [width, height], name) {
      await guest.page.setViewportSize({ width, height });
      await look(guest, name);
      const cut = await guest.page.evaluate(([width, height, fieldMin]) => {
        const wrong = [];
        for (const control of document.querySelectorAll(".bar :is(button, input), .pin-buy button")) {
          if (!control.checkVisibility()) continue;
          const box = control.getBoundingClientRect();
          const name = control.id || control.dataset.testid;
          if (box.left < 0 || box.top < 0 || box.right > width || box.bottom > height) wrong.push(`${name} is off the screen`);
          if (!control.contains(document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2))) wrong.push(`${name} is covered`);
          if (control.matches("input") && box.width < fieldMin) wrong.push(`${name} is ${Math.round(box.width)} px wide`);
          if (!control.matches("#buy, #guest-join")) continue;
          const words = document.createRange();
          words.selectNodeContents(control);
          const text = words.getBoundingClientRect();
          if (text.left < box.left || text.right > box.right || text.top < box.top || text.bottom > box.bottom) wrong.push(`the words of ${name} are cut`);
        }
        return wrong;
      }, [width, height, NAME_PX_MIN]);
      expect(cut.length === 0, `${name}: ${cut.join(", ")}`);
    }

    async function reached(size, locale) {
      const name = `${locale.slice(0, 2)}-${size.join("x")}`;
      const guest = await open(size, locale, `Visitor-${name}`);
      all[name] = guest;
      await guest.page.waitForFunction(() => window.haul.room.you);
      for (const card of Object.keys(CARDS)) await guest.at(`deck-${card}`).waitFor();
      await always(guest, "as one comes");
      await look(guest, name);
      for (const [card, control] of Object.entries(CARDS)) {
        const opener = guest.at(`deck-${card}`);
        if ((await opener.getAttribute("aria-expanded")) === "false") await opener.click();
        expect((await guest.page.locator(".card:visible").count()) === 1, `one card lies open beside ${card}`);
        for (const each of await guest.at(control).all()) {
          await each.scrollIntoViewIfNeeded();
          if (control !== card) await each.click({ trial: true });
        }
        await always(guest, `with ${card} open`);
        await look(guest, `${name}-${card}`);
      }
      const last = guest.at(`deck-${Object.keys(CARDS).at(-1)}`);
      await last.click();
      expect((await guest.page.locator(".card:visible").count()) === 0, "a second tap lays the card aside");
      await always(guest, "with all laid aside");
      await look(guest, `${name}-aside`);
      await axe(guest);
      guest.expectNoErrors();
      await guest.page.context().close();
      delete all[name];
    }
  } catch (error) {
    for (const [name, visitor] of Object.entries(all)) await look(visitor, `failed-${name}`);
    throw error;
  } finally {
    await host.page.context().close();
    await haul.stop();
  }
}

/** What one is there for is on the screen, whole, with nothing over it. */
async function always(guest, when) {
  const { width, height } = guest.page.viewportSize();
  const lacking = () =>
    guest.page.evaluate(
      ([ids, width, height, chatMin]) => {
        const wrong = ids.filter((id) => {
          const element = document.querySelector(`[data-testid="${id}"]`);
          const box = element.getBoundingClientRect();
          if (box.width < 24 || box.height < 24 || box.left < 0 || box.top < 0 || box.right > width || box.bottom > height) return true;
          const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
          return !element.contains(hit);
        });
        const chat = document.getElementById("chat").getBoundingClientRect();
        if (chat.height < chatMin || chat.top < 0 || chat.bottom > height) wrong.push(`chat (${Math.round(chat.top)} to ${Math.round(chat.bottom)})`);
        return wrong.join(", ");
      },
      [ALWAYS, width, height, CHAT_PX_MIN],
    );
  let last = "";
  await until("in place", async () => !(last = await lacking()), 3_000).catch(() => expect(false, `${when}, out of reach: ${last}`));
}

async function look(visitor, name) {
  if (keep) await visitor.page.screenshot({ path: join(keep, `${name}.png`) });
}
