// The room in a real browser: people talk, ask, vote, win and are kept in order, on the studio and the watch page; both
// pages are looked at by axe, at the size of a phone and of a desk.
//
//   node room.mjs                          runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)
//   node room.mjs --screenshots DIRECTORY  also keeps pictures of what was seen

import { join } from "node:path";

import { axe } from "./lib/axe.mjs";
import { DESKTOP, Guest, Host, PHONE, launch } from "./lib/pages.mjs";
import { picturesKept } from "./lib/pictures.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";

const keep = await picturesKept();

const watchdog = endsWithin(300_000);

const browser = await launch();
await story("the room", tell);
await story("the room in Chinese", tellInChinese);
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

async function tell() {
  const haul = await startHaul();
  const host = await Host.enter(browser, haul.studioUrl, "VP8");
  const ana = await Guest.enter(browser, `${haul.url}/watch/demo`, PHONE);
  const ben = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP);
  const all = { host, ana, ben };
  try {
    await step("two people join, and the others read who came", async () => {
      await host.click("source-test");
      await host.goLive();
      await ana.join("Ana");
      await ben.join("Ben");
      await until("the joins are told", () => ana.page.evaluate(() => document.getElementById("joined").textContent.includes("Ben")));
    });

    await step("a message is answered, with what it answers", async () => {
      await ana.say("Is it waterproof?");
      const line = ben.at("chat-line").filter({ hasText: "waterproof" });
      await line.locator('[data-testid="line-menu"]').click();
      await ben.click("line-reply");
      await ben.say("I think so");
      await until("the answer is there", async () => (await ana.page.locator(".quote").textContent()).includes("waterproof"));
    });

    await step("one tap takes a message away, another keeps its sender from writing", async () => {
      await ben.say("buy my coins");
      const line = host.at("chat-line").filter({ hasText: "coins" });
      await line.locator('[data-testid="line-mute"]').click();
      await line.locator('[data-testid="line-delete"]').click();
      await until("it is gone for others", async () => (await ana.at("chat-line").filter({ hasText: "coins" }).count()) === 0);
      await until("Ben reads why", async () => /Muted · \d+ s/.test(await ben.at("chat-input").getAttribute("placeholder")));
      expect(await ben.at("chat-send").isDisabled(), "he can't send");
    });

    await step("the host reads the log and lifts it", async () => {
      await host.click("rules-open");
      await until("the log", async () => (await host.at("log-list").textContent()).includes("deleted a message of Ben"));
      await look(host, "studio-rules");
      await host.click("restore");
      await until("Ben may write", async () => !(await ben.at("chat-send").isDisabled()));
    });

    await step("rules and words hold, and are read by all", async () => {
      await host.at("words-input").fill("scam, 代購");
      await host.click("words-add");
      await until("the list", async () => (await host.at("words-list").textContent()).includes("代購"));
      await host.at("rules-slow").selectOption("5000");
      await host.page.locator("#rules-sheet [data-close]").click();
      await ana.shows("chat-rules", /Slow mode 5 s/);
      await ana.say("找代 購");
      await until("it is refused", async () => (await ana.page.locator("#toasts").textContent()).includes("can't be said"));
      await ana.at("chat-input").fill("");
      await ben.say("hello all");
      await until("the pause counts down", async () => /Slow mode · \d s/.test(await ben.at("chat-input").getAttribute("placeholder")));
    });

    await step("a message is pinned", async () => {
      const line = host.at("chat-line").filter({ hasText: "hello all" });
      await line.locator('[data-testid="line-menu"]').click();
      await host.click("line-pin");
      await ana.shows("chat-pin", /hello all/);
    });

    await step("a question is asked, wanted, answered, and its asker hears of it", async () => {
      await ana.click("talk");
      await ana.at("question-input").fill("Which sizes are there?");
      await ana.click("question-send");
      await ben.click("talk");
      await ben.click("question-vote");
      await host.shows("questions", /▲ 2/);
      await look(ben, "watch-questions");
      await ana.page.locator("#talk-sheet [data-close]").click();
      await ben.page.locator("#talk-sheet [data-close]").click();
      await host.click("question-pick");
      await ana.shows("answering", /Which sizes/);
      await until("Ana is told", async () => (await ana.page.locator("#toasts").textContent()).includes("answering your question"));
      await host.click("question-done");
      await until("the card goes", async () => !(await ana.at("answering").isVisible()));
    });

    await step("a sentence for all, and a poll", async () => {
      await host.page.getByText("Announcement", { exact: true }).click();
      await host.at("announce-text").fill("Free shipping until nine");
      await host.click("announce-send");
      await ana.shows("announcement", /Free shipping/);
      await host.click("poll-fold");
      await host.at("poll-text").fill("Which colour next?");
      await host.at("poll-answers").fill("Red, Blue");
      await host.click("poll-open");
      await ana.at("poll-option").nth(1).click();
      await ben.at("poll-option").nth(1).click();
      await until("both count", async () => /100 %/.test(await ana.at("poll-option").nth(1).textContent()));
      await look(ana, "watch-phone-poll");
      await look(host, "studio");
      await host.click("poll-end");
      await host.click("poll-end");
      await until("it is out of sight", async () => !(await ana.at("poll").isVisible()));
    });

    await step("a giveaway is entered by tap and by word, drawn, and claimed", async () => {
      await host.click("giveaway-fold");
      await host.at("giveaway-prize").fill("The blue lamp");
      await host.at("giveaway-word").fill("lamp");
      await host.click("giveaway-start");
      await ana.click("giveaway-enter");
      await ana.shows("giveaway-enter", /You are in/);
      await until("Ben may write again", async () => !(await ben.at("chat-send").isDisabled()));
      await ben.say("Lamp!");
      await ben.shows("giveaway-enter", /You are in/);
      await host.shows("giveaway-facts", /2 entered/);
      await host.click("giveaway-draw");
      const winner = await until("somebody has won", async () => {
        for (const one of [ana, ben]) if (/claim it/.test(await one.text("giveaway-enter"))) return one;
        return null;
      });
      await look(winner, "watch-won");
      await winner.click("giveaway-enter");
      await winner.shows("giveaway-enter", /Claimed/);
      await until("the host sees it", async () => /Claimed/.test(await host.at("giveaway-winner").textContent()));
      await host.click("giveaway-end");
    });

    await step("likes rise on both sides and are counted", async () => {
      // Whatever rises meanwhile: it is gone again soon.
      const risen = (visitor) =>
        visitor.page.evaluate(() => {
          window.risen = 0;
          new MutationObserver((changes) => changes.forEach(({ addedNodes }) => (window.risen += addedNodes.length)))
            .observe(document.getElementById("sky"), { childList: true });
        });
      await risen(ana);
      await risen(ben);
      for (let i = 0; i < 5; i += 1) await ana.click("like");
      await ben.shows("like-count", /^5$/);
      for (const one of [ana, ben]) await until("hearts rise", () => one.page.evaluate(() => window.risen >= 5));
    });

    await step("a buyer and the host write in private", async () => {
      await ben.click("talk");
      await ben.click("tab-thread");
      await ben.at("thread-input").fill("Where is my parcel?");
      await ben.click("thread-send");
      await host.click("threads-fold");
      await host.click("thread-row");
      await host.at("thread-input").fill("On its way");
      await host.click("thread-send");
      await until("Ben reads it", async () => (await ben.at("thread-line").filter({ hasText: "On its way" }).count()) === 1);
      expect((await ana.page.content()).includes("parcel") === false, "nobody else has it");
      await ben.page.locator("#talk-sheet [data-close]").click();
      await host.page.locator("#thread-sheet [data-close]").click();
    });

    await step("who is banned goes, and what they said with them", async () => {
      const line = host.at("chat-line").filter({ hasText: "hello all" });
      await line.locator('[data-testid="line-menu"]').click();
      await host.click("line-ban");
      await until("Ben is told", async () => (await ben.page.locator("#veil-title").textContent()).includes("banned"));
      await until("his words are gone", async () => (await ana.at("chat-line").filter({ hasText: "hello all" }).count()) === 0);
      expect(await ana.at("chat-pin").isHidden(), "the pinned one too");
      await ben.page.reload();
      await until("he stays out", async () => (await ben.page.locator("#veil-title").textContent()).includes("banned"));
      expect((await ben.page.locator("#veil-text").innerText()) === "Until the host's team lifts it", "and reads for how long");
      expect(!(await ben.at("live-state").isVisible()), "the live is not private");
    });

    await step("by keys alone one writes, and opens and leaves a sheet", async () => {
      const { keyboard } = ana.page;
      const focused = () => ana.page.evaluate(() => document.activeElement && (document.activeElement.dataset.testid || document.activeElement.id));
      const tabTo = (testid) =>
        until(`Tab comes to ${testid}`, async () => {
          if ((await focused()) === testid) return true;
          await keyboard.press("Tab");
          return (await focused()) === testid;
        });
      await ana.page.evaluate(() => document.activeElement && document.activeElement.blur());
      await tabTo("chat-input");
      await keyboard.type("by keys");
      await keyboard.press("Enter");
      await host.at("chat-line").filter({ hasText: "by keys" }).waitFor();
      await tabTo("talk");
      await keyboard.press("Enter");
      await until("the sheet is open", () => ana.page.locator("#talk-sheet").evaluate((sheet) => sheet.open));
      await keyboard.press("Escape");
      await until("it is left", () => ana.page.locator("#talk-sheet").evaluate((sheet) => !sheet.open));
      expect((await focused()) === "talk", "and one is where one was");
    });

    await step("what viewers may do is the host's choice, and they read so", async () => {
      await host.click("rules-open");
      // A pause would close the field as well.
      await host.at("rules-slow").selectOption("0");
      await ana.at("chat-rules").waitFor({ state: "hidden" });
      await ana.say("no pause holds me");
      await host.at("chat-line").filter({ hasText: "no pause" }).waitFor();
      const placeholder = () => ana.at("chat-input").getAttribute("placeholder");
      expect(!(await ana.at("chat-send").isDisabled()), "she may write");
      for (const [who, why] of [["followers", /Only followers/], ["buyers", /Only those who bought/]]) {
        await host.at("rules-who").selectOption(who);
        await until(`she reads that it is for ${who}`, async () => why.test(await placeholder()));
        expect(await ana.at("chat-send").isDisabled(), "and may not write");
        expect(!(await ana.at("chat-input").isEditable()), "nor type");
      }
      await host.at("rules-who").selectOption("everyone");
      await host.at("rules-links").uncheck();
      await until("Ana may write", () => ana.at("chat-input").isEditable());
      await host.page.locator("#rules-sheet [data-close]").click();
      await ana.say("see www.example.com");
      await until("a link is refused", async () => /links/i.test(await ana.page.locator("#toasts").textContent()));
      await ana.at("chat-input").fill("");
    });

    await step("who is hidden writes on, and only the team reads it", async () => {
      const cid = await Guest.enter(browser, `${haul.url}/watch/demo`, PHONE);
      all.cid = cid;
      await cid.join("Cid");
      await cid.say("first words");
      const line = host.at("chat-line").filter({ hasText: "first words" });
      await line.locator('[data-testid="line-menu"]').click();
      await host.click("line-shadow");
      await cid.say("hidden words");
      for (const reader of [cid, host]) await reader.at("chat-line").filter({ hasText: "hidden words" }).waitFor();
      await ana.say("seen words");
      await ana.at("chat-line").filter({ hasText: "seen words" }).waitFor();
      expect((await ana.at("chat-line").filter({ hasText: "hidden words" }).count()) === 0, "what came before it is not there");
    });

    await step("on a phone the chat is above the product, and all one does is below the middle", async () => {
      await host.click("pin-bag");
      await ana.shows("pin-title", /./);
      const box = (selector) => ana.page.locator(selector).boundingBox();
      const [chat, pin, bar, { height }] = [await box("#chat"), await box("#pin"), await box(".bar"), ana.page.viewportSize()];
      expect(chat.y + chat.height <= pin.y + 1 && pin.y + pin.height <= bar.y + 1, "chat, product, bar");
      expect(bar.y + bar.height <= height + 1 && pin.y > height / 2, "within a thumb's reach");
      for (const testid of ["buy", "like", "talk", "bag", "chat-send"]) {
        const { y, width, height: tall } = await ana.at(testid).first().boundingBox();
        expect(y > height / 2 && Math.min(width, tall) >= 40, `${testid} can be reached and hit`);
      }
    });

    for (const [name, visitor] of Object.entries(all)) {
      await step(`axe finds nothing serious on the page of ${name}`, () => axe(visitor));
    }
    await look(ana, "watch-phone");
    await step("no page had an error", () => Object.values(all).forEach((visitor) => visitor.expectNoErrors()));
  } catch (error) {
    console.log(haul.log().replace(/token=\S+/g, "token=…").split("\n").slice(-20).join("\n").replace(/^/gm, "    | "));
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

async function tellInChinese() {
  const haul = await startHaul();
  try {
    await step("a Chinese reader reads Chinese", async () => {
      const mei = await Guest.enter(browser, `${haul.url}/watch/demo`, { ...PHONE, locale: "zh-CN" });
      await mei.join("小美");
      expect((await mei.at("chat-input").getAttribute("placeholder")) === "说点什么", "the field");
      await mei.say("多少钱？");
      await mei.click("talk");
      expect((await mei.text("question-send")) === "提问", "the button");
      await look(mei, "watch-chinese");
      await axe(mei);
      mei.expectNoErrors();
      await mei.page.context().close();
    });
    await step("who is banned reads why and until when, at once and when they come back, in both languages", async () => {
      const host = await Guest.open(browser, haul.studioUrl, DESKTOP);
      await host.page.waitForFunction(() => window.haul && window.haul.room.ready);
      const cases = [
        ["en-GB", /^You are banned from this live\.$/, /^Reason: Be nice\nUntil \S.*\d/],
        ["zh-CN", /^你已被禁止进入此直播间。$/, /^原因：Be nice\n截止时间：.*\d/],
      ];
      for (const [locale, title, text] of cases) {
        const troll = await Guest.enter(browser, `${haul.url}/watch/demo`, { ...PHONE, locale });
        await troll.join(`Troll ${locale}`);
        await troll.say(`bad words ${locale}`);
        await host.at("chat-line").filter({ hasText: `bad words ${locale}` }).waitFor();
        await host.page.evaluate(
          ({ words }) => {
            const { channel, room } = window.haul;
            const { id } = room.chat.find(({ text }) => text === words);
            return channel.request("chat.moderate", { action: "ban", message_id: id, reason: "Be nice", duration_ms: 3_600_000 });
          },
          { words: `bad words ${locale}` },
        );
        const reads = async (when) => {
          let last;
          const look = async () => {
            last = [await troll.page.locator("#veil-title").innerText(), await troll.page.locator("#veil-text").innerText()];
            return title.test(last[0]) && text.test(last[1]);
          };
          await until("", look).catch(() => expect(false, `${when} they read ${JSON.stringify(last)}`));
          expect(!(await troll.at("live-state").isVisible()), `${when} nothing says that the live is private`);
        };
        await reads("at once");
        await look(troll, `watch-banned-${locale}`);
        await troll.page.reload();
        await reads("who comes back,");
        await axe(troll);
        await troll.page.context().close();
      }
      await host.page.context().close();
    });
    await step("so does a Chinese host", async () => {
      const host = await Guest.open(browser, haul.studioUrl, { ...DESKTOP, locale: "zh-CN" });
      await host.shows("go-live", /^开播$/);
      expect((await host.page.locator("#chat-heading").textContent()) === "聊天", "the heading");
      expect((await host.page.evaluate(() => document.documentElement.lang)) === "zh-Hans", "and the page says so");
      await host.at("chat-line").filter({ hasText: "多少钱？" }).waitFor();
      await look(host, "studio-chinese");
      await axe(host);
      host.expectNoErrors();
      await host.page.context().close();
    });
    await step("on a phone the host works too", async () => {
      const host = await Guest.open(browser, haul.studioUrl, PHONE);
      await host.shows("go-live", /Go live/);
      const { width } = host.page.viewportSize();
      expect((await host.page.evaluate(() => document.documentElement.scrollWidth)) <= width, "nothing sticks out at the side");
      await look(host, "studio-phone");
      await axe(host);
      await host.page.context().close();
    });
  } finally {
    await haul.stop();
  }
}

async function look(visitor, name) {
  if (keep) await visitor.page.screenshot({ path: join(keep, `${name}.png`) });
}
