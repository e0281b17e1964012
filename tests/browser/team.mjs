// Whoever helps the host, and whoever writes to them: the studio of a moderator, answers in writing, private messages that came
// while one was away, and words that are sent again because an answer was lost.
//
//   node team.mjs                          runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)
//   node team.mjs --screenshots DIRECTORY  also keeps pictures of what was seen

import { join } from "node:path";

import { axe } from "./lib/axe.mjs";
import { DESKTOP, Guest, PHONE, launch } from "./lib/pages.mjs";
import { picturesKept } from "./lib/pictures.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { backend } from "./lib/shop.mjs";
import { Wire } from "./lib/wire.mjs";

const keep = await picturesKept();
const watchdog = endsWithin(300_000);
const browser = await launch();
await story("the host's team", tell);
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

async function tell() {
  const haul = await startHaul();
  const shop = await backend(haul);
  const all = {};
  const watching = async (name, device, claims, prepare) =>
    Guest.enter(browser, `${haul.url}/watch/demo#token=${await shop.viewer(name, claims)}`, device, prepare);
  try {
    const host = (all.host = await Guest.open(browser, haul.studioUrl, DESKTOP));
    const wire = new Wire();
    const ana = (all.ana = await watching("Ana", PHONE, {}, (page) => wire.tap(page)));
    await ana.at("chat-input").waitFor();
    const mod = (all.mod = await Guest.enter(browser, `${haul.url}/watch/demo#token=${await haul.mint("--live", "demo", "--role", "moderator", "--sub", "mo", "--name", "Mo")}`, DESKTOP));
    const toasts = (visitor, pattern) => until(`a word of ${pattern}`, async () => pattern.test(await visitor.page.locator("#toasts").textContent()));

    await step("a moderator goes from the live to the studio, and a viewer does not", async () => {
      expect(await ana.at("studio-link").isHidden(), "a viewer has no link");
      const [page] = await Promise.all([mod.page.context().waitForEvent("page"), mod.click("studio-link")]);
      const watch = mod.page;
      mod.page = page;
      page.on("pageerror", (error) => mod.errors.push(error.stack || String(error)));
      await watch.close();
      await mod.at("chat-input").waitFor();
      await mod.page.waitForFunction(() => window.haul && window.haul.room.ready);
      expect(!page.url().includes("token"), "the token is out of sight");
      for (const testid of ["go-live", "end-live", "share", "source-test", "sale-open", "product-add", "giveaway-start", "coupons-fold"]) {
        expect(await mod.at(testid).isHidden(), `${testid} is the host's`);
      }
      const viewer = await Guest.open(browser, `${haul.url}/studio/demo#token=${await shop.viewer("Vera")}`, DESKTOP);
      await until("the viewer is told", async () => /for watching/.test(await viewer.page.locator("#gate-title").textContent()));
      await viewer.page.context().close();
    });

    await step("there they moderate: rules, words, lines, pins", async () => {
      await ana.say("first words");
      await mod.at("chat-line").filter({ hasText: "first words" }).locator('[data-testid="line-menu"]').click();
      await mod.click("line-pin");
      await ana.shows("chat-pin", /first words/);
      await mod.click("rules-open");
      await mod.at("words-input").fill("scam");
      await mod.click("words-add");
      await until("the list", async () => (await mod.at("words-list").textContent()).includes("scam"));
      await mod.at("rules-slow").selectOption("5000");
      await ana.shows("chat-rules", /Slow mode/);
      await mod.at("rules-slow").selectOption("0");
      await mod.page.locator("#rules-sheet [data-close]").click();
      await mod.click("pin-lamp");
      await ana.shows("pin-title", /lamp/i);
      await mod.click("unpin");
      await ana.at("pin-card").waitFor({ state: "hidden" });
    });

    await step("and speak to all: a sentence, a poll", async () => {
      await mod.page.getByText("Announcement", { exact: true }).click();
      await mod.at("announce-text").fill("Five minutes to go");
      await mod.click("announce-send");
      await ana.shows("announcement", /Five minutes/);
      await mod.click("poll-fold");
      await mod.at("poll-text").fill("Which colour?");
      await mod.at("poll-answers").fill("Red, Blue");
      await mod.click("poll-open");
      await ana.at("poll-option").first().click();
      await until("it counts", async () => /1/.test(await mod.at("poll-result").first().textContent()));
      await look(mod, "studio-moderator");
      await mod.click("poll-end");
      await mod.click("poll-end");
    });

    await step("a question whose answer was lost on the way is asked once", async () => {
      await ana.click("talk");
      await ana.at("question-input").fill("Which sizes are there?");
      wire.loseReplyTo("question.ask");
      await ana.click("question-send");
      await toasts(ana, /Asked/);
      const sent = wire.sent("question.ask");
      expect(sent.length === 2 && sent[0].client_id && sent[0].client_id === sent[1].client_id, `the same again: ${JSON.stringify(sent)}`);
      expect((await host.at("question").count()) === 1, "one question");
      await ana.page.locator("#talk-sheet [data-close]").click();
    });

    await step("a question picked by mistake is put back; the right one is answered in writing", async () => {
      await mod.click("question-pick");
      await ana.shows("answering", /Which sizes/);
      await mod.click("question-unpick");
      await ana.at("answering").waitFor({ state: "hidden" });
      await mod.click("question-pick");
      await mod.at("question-answer").fill("Small and la");
      // The list is made anew with each vote; what is being written stays, and where one writes.
      await host.page.evaluate(() => window.haul.room.dispatchEvent(new CustomEvent("change", { detail: "questions" })));
      const cid = await watching("Cid", DESKTOP);
      await cid.click("talk");
      await cid.click("question-vote");
      await mod.shows("question", /▲ 2/);
      await mod.page.keyboard.type("rge");
      await mod.click("question-done");
      await toasts(ana, /Answered: Small and large/);
      await cid.page.context().close();
    });

    await step("a private message whose answer was lost is sent once", async () => {
      await ana.click("talk");
      await ana.click("tab-thread");
      await ana.at("thread-input").fill("Where is my parcel?");
      wire.loseReplyTo("thread.send");
      await ana.click("thread-send");
      await until("it is gone from the field", async () => (await ana.at("thread-input").inputValue()) === "");
      const sent = wire.sent("thread.send");
      expect(sent.length === 2 && sent[0].client_id && sent[0].client_id === sent[1].client_id, "the same again");
      expect((await ana.at("thread-line").count()) === 1, "one message");
      await axe(ana);
      await look(ana, "watch-thread");
      await ana.page.locator("#talk-sheet [data-close]").click();
    });

    await step("what was written to somebody who was away is marked, until they have read it", async () => {
      const { page } = ana;
      const url = page.url();
      await page.goto("about:blank");
      await mod.click("threads-fold");
      await mod.click("thread-row");
      for (const words of ["It left this morning", "Here is its number"]) {
        await mod.at("thread-input").fill(words);
        await mod.click("thread-send");
        await until("it is sent", async () => (await mod.page.locator("#thread-list").textContent()).includes(words));
      }
      await mod.page.locator("#thread-sheet [data-close]").click();
      await page.goto(url);
      await ana.shows("talk-unread", /^2$/);
      await until("it is said, too", async () => /2 unread/.test(await page.locator("#talk-unread-words").textContent()));
      await look(ana, "watch-unread");
      await ana.click("talk");
      await until("the thread lies open", () => ana.at("thread-line").filter({ hasText: "number" }).isVisible());
      await ana.at("talk-unread").waitFor({ state: "hidden" });
      await page.locator("#talk-sheet [data-close]").click();
      await page.reload();
      await ana.at("chat-input").waitFor();
      await page.waitForFunction(() => window.haul && window.haul.room.thread.length === 3);
      expect(await ana.at("talk-unread").isHidden(), "read is read, after a reload too");
    });

    await step("whose question was answered while they were away hears of it when they are back, once", async () => {
      const { page } = ana;
      const url = page.url();
      const { question_id: id } = await page.evaluate(() => window.haul.channel.request("question.ask", { text: "Is it heavy?" }));
      await page.goto("about:blank");
      await host.page.evaluate((id) => window.haul.channel.request("question.answer", { question_id: id, text: "Two pounds" }), id);
      // What a server says that tells each reader which questions are theirs.
      wire.alterRoom((room) => (room.yours ??= room.questions.filter((question) => question.id === id)));
      await page.goto(url);
      await toasts(ana, /Answered: Two pounds/);
      await page.reload();
      await ana.at("chat-input").waitFor();
      await page.waitForFunction(() => window.haul && window.haul.room.ready);
      expect(!/Two pounds/.test(await page.locator("#toasts").textContent()), "not again");
    });

    await step("who was not shown to all is told so", async () => {
      wire.tell({ type: "chat.sampled", messages: 1 });
      await toasts(ana, /your message was not shown to all/);
      wire.tell({ type: "chat.sampled", messages: 3 });
      await toasts(ana, /3 of your messages/);
    });

    await step("while winners may claim, the next giveaway begins beside theirs", async () => {
      await host.click("giveaway-fold");
      const start = async (prize) => {
        await host.at("giveaway-prize").fill(prize);
        await host.click("giveaway-start");
        await ana.shows("giveaway", new RegExp(prize));
        await ana.click("giveaway-enter");
        await ana.shows("giveaway-enter", /You are in/);
      };
      await start("The blue lamp");
      await host.click("giveaway-draw");
      await ana.shows("giveaway-enter", /claim it/);
      await until("the host reads who has won", async () => /Ana/.test(await host.at("giveaway-winner").first().textContent()));
      await start("The green lamp");
      await ana.click("deck-earlier");
      await ana.shows("earlier", /blue lamp.*Claim/);
      // It is the server that knows of it.
      await ana.page.reload();
      await ana.at("deck-earlier").waitFor();
      if (!(await ana.at("earlier-claim").isVisible())) await ana.click("deck-earlier");
      await ana.click("earlier-claim");
      await until("it is claimed", async () => !(await ana.page.locator("#earlier").isVisible()));
      await until("so does the host", async () => /blue lamp · Ana/.test(await host.page.locator("#giveaway-earlier").textContent()));
      await mod.click("giveaway-fold");
      expect(await mod.at("giveaway-draw").isHidden(), "a moderator does not draw");
    });

    await step("where the chat is for followers, they write and others read why not", async () => {
      await host.page.evaluate(() => window.haul.channel.request("chat.rules.set", { who: "followers" }));
      const flo = await watching("Flo", PHONE, { follower: true });
      await flo.say("following you");
      await ana.at("chat-line").filter({ hasText: "following you" }).waitFor();
      await until("Ana reads why", async () => /Only followers/.test(await ana.at("chat-input").getAttribute("placeholder")));
      await flo.page.context().close();
    });

    for (const device of [PHONE, DESKTOP]) {
      await step(`axe finds nothing on the sheets at ${device.viewport.width} pixels`, async () => {
        const eve = await watching(`Eve-${device.viewport.width}`, device);
        for (const [testid, sheet] of [["talk", "talk-sheet"], ["bag", "bag-sheet"]]) {
          await eve.click(testid);
          await until(`${sheet} is open`, () => eve.page.locator(`#${sheet}`).evaluate((dialog) => dialog.open));
          await axe(eve, "moderate");
          await look(eve, `${sheet}-${device.viewport.width}`);
          await eve.page.locator(`#${sheet} [data-close]`).click();
        }
        await eve.page.context().close();
      });
    }
    for (const name of ["host", "mod"]) await step(`nor in the studio of the ${name}`, () => axe(all[name], "moderate"));
    await step("on a phone the moderator works too", async () => {
      await mod.page.setViewportSize(PHONE.viewport);
      expect((await mod.page.evaluate(() => document.documentElement.scrollWidth)) <= PHONE.viewport.width, "nothing sticks out at the side");
      await look(mod, "studio-moderator-phone");
      await axe(mod, "moderate");
    });
    await step("no page had an error", () => Object.values(all).forEach((visitor) => visitor.expectNoErrors()));
  } catch (error) {
    for (const [name, visitor] of Object.entries(all)) await look(visitor, `failed-${name}`);
    throw error;
  } finally {
    for (const visitor of Object.values(all)) await visitor.page.context().close();
    await haul.stop();
  }
}

async function look(visitor, name) {
  if (keep) await visitor.page.screenshot({ path: join(keep, `${name}.png`) }).catch(() => {});
}
