// What somebody meets on whose side something is wrong: no camera, no WebRTC, a token that is missing, broken, for something
// else or has run out, a live that has not begun, a server that is gone. Each page says what it is and what to do; axe looks
// at each, in English and in Chinese.
//
//   node newcomer.mjs                          runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)
//   node newcomer.mjs --screenshots DIRECTORY  also keeps pictures of what was seen

import { join } from "node:path";

import { axe } from "./lib/axe.mjs";
import { DESKTOP, Guest, Host, PHONE, launch } from "./lib/pages.mjs";
import { picturesKept } from "./lib/pictures.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { backend } from "./lib/shop.mjs";

/** Longer than the story takes on a slow machine: something hangs. */
const MOST_MS = 3 * 60_000;

const keep = await picturesKept();

const watchdog = endsWithin(MOST_MS);

const browser = await launch();
await story("what a newcomer meets", tell);
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());

async function tell() {
  const haul = await startHaul();
  const shop = await backend(haul);
  await shop.put("/v1/lives/closed", { title: "For friends", public: false });
  const mint = (live, role, ttl = "1h") => haul.mint("--live", live, "--role", role, "--sub", "someone", "--ttl", ttl);
  const host = await mint("demo", "host");
  const tokens = {
    none: "",
    broken: `#token=${host.slice(0, -6)}AAAAAA`,
    viewer: `#token=${await mint("demo", "viewer")}`,
    other: `#token=${await mint("elsewhere", "host")}`,
    expired: `#token=${await mint("closed", "host", "1s")}`,
  };
  const { exp } = JSON.parse(Buffer.from(tokens.expired.split(".")[1], "base64url"));
  await until("the short token runs out", () => Date.now() > exp * 1000);

  /** Opens a page in both languages, and looks for what is said there. */
  const meets = async (name, path, device, says, chinese, prepare) => {
    const meet = async (locale, pattern) => {
      const visitor = await Guest.open(browser, `${haul.url}${path}`, { ...device, locale }, prepare);
      const words = () => visitor.page.evaluate(() => document.body.innerText);
      let last = "";
      await until("", async () => pattern.test((last = await words()))).catch((error) => {
        throw new Error(`${error.message}${name} (${locale}) says ${pattern}, not ${JSON.stringify(last.slice(0, 400))}`);
      });
      if (keep) await visitor.page.screenshot({ path: join(keep, `${name}-${locale}.png`) });
      await axe(visitor);
      visitor.expectNoErrors();
      await visitor.page.context().close();
    };
    await Promise.all([meet("en-GB", says), meet("zh-CN", chinese)]);
  };
  const studio = (live, token) => `/studio/${live}${tokens[token]}`;
  const watch = (live, token) => `/watch/${live}${tokens[token]}`;

  try {
    await step("the studio without a token asks for one, and says how to make it", () =>
      meets("studio-none", studio("demo", "none"), DESKTOP, /needs a host token[^]*haul token --live demo --role host/, /需要主播凭证[^]*haul token --live demo --role host/));
    await step("a broken token is not valid here", () => meets("studio-broken", studio("demo", "broken"), DESKTOP, /not valid here/, /凭证在此无效/));
    await step("a viewer's token is for watching", () => meets("studio-viewer", studio("demo", "viewer"), DESKTOP, /token is for watching/, /仅可观看/));
    await step("another live's token is for another live", () => meets("studio-other", studio("demo", "other"), DESKTOP, /for another live/, /属于另一场直播/));
    await step("an expired token has run out", () => meets("studio-expired", studio("closed", "expired"), DESKTOP, /has run out/, /凭证已过期/));

    await step("without a camera the studio says what to do", async () => {
      const meet = async (error, locale, pattern) => {
        const visitor = await Host.open(browser, haul.studioUrl, { ...DESKTOP, locale }, (page) =>
          page.addInitScript((name) => (navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", name))), error),
        );
        await visitor.click("source-camera");
        await visitor.page.locator("#air-error").filter({ hasText: pattern }).waitFor();
        if (keep) await visitor.page.screenshot({ path: join(keep, `studio-${error}-${locale}.png`) });
        await axe(visitor);
        expect(await visitor.at("go-live").isDisabled(), "there is nothing to go live with");
        await visitor.page.context().close();
      };
      await meet("NotFoundError", "en-GB", /No camera or microphone was found/);
      await meet("NotAllowedError", "en-GB", /Allow it in the address bar/);
      await meet("NotReadableError", "zh-CN", /其他程序正在使用/);
    });

    const withoutWebRtc = (page) => page.addInitScript(() => delete window.RTCPeerConnection);
    await step("without WebRTC the studio points to OBS", () =>
      meets("studio-no-webrtc", `/studio/demo#token=${host}`, DESKTOP, /no WebRTC[^]*OBS/, /不支持 WebRTC[^]*OBS/, withoutWebRtc));
    await step("without WebRTC a viewer has chat and shop, and reads where the picture plays", () =>
      meets("watch-no-webrtc", watch("demo", "none"), PHONE, /can't play the live[^]*no WebRTC[^]*Chrome/, /无法播放直播[^]*WebRTC/, withoutWebRtc));

    await step("a live that has not begun begins soon", () => meets("watch-soon", watch("demo", "none"), PHONE, /Starting soon[^]*Join as guest/, /即将开播[^]*以访客身份加入/));
    await step("a guest reads why a name won't do, or why they stay outside", async () => {
      const team = await Guest.open(browser, haul.studioUrl, DESKTOP);
      await team.page.waitForFunction(() => window.haul && window.haul.room.ready);
      const ask = (type, fields) => team.page.evaluate(([type, fields]) => window.haul.channel.request(type, fields), [type, fields]);
      await ask("chat.words", { add: ["scam"], remove: [] });
      await ask("chat.rules.set", { links: false });
      const ana = await Guest.enter(browser, `${haul.url}/watch/demo`, PHONE);
      await ana.join("Ana");
      await ana.page.waitForFunction(() => window.haul.room.you);
      const cases = [
        ["ana", "Somebody here is called so already. Choose another name.", "这个名字已有人使用，请换一个。"],
        ["Scam", "A word in this name may not be used here. Choose another.", "名字中有不允许使用的词语，请换一个。"],
        ["coins.shop", "A name can't have a link in it. Choose another.", "名字中不能有链接，请换一个。"],
        [`x${"\u0301".repeat(20)}`, "This name has too many marks over one letter. Choose another.", "名字中一个字母上的符号太多，请换一个。"],
        ["\u200b", "This name can't be used. Choose another.", "此名字无法使用，请换一个。"],
      ];
      const tooMany = [
        "Too many guests came from your network. Try again in 20:00, or ask the shop for a link of your own.",
        "你所在网络的访客过多，请在 20:00 后重试，或向店铺索取专属链接。",
      ];
      for (const [column, locale] of [[1, "en-GB"], [2, "zh-CN"]]) {
        const visitor = await Guest.enter(browser, `${haul.url}/watch/demo`, { ...PHONE, locale });
        const refused = async (name, words) => {
          await visitor.at("guest-name").fill(name);
          await visitor.click("guest-join");
          const toasts = () => visitor.page.locator("#toasts .toast").allTextContents();
          let last;
          await until("", async () => (last = await toasts()).includes(words)).catch(() => expect(false, `${name} is told ${words}, not ${JSON.stringify(last)}`));
        };
        for (const words of cases) await refused(words[0], words[column]);
        // The server limits no guests of its own machine.
        await visitor.page.route("**/guests", (route) =>
          route.fulfill({ status: 429, headers: { "Retry-After": "1200" }, contentType: "application/problem+json", body: JSON.stringify({ code: "rate_limited", why: "guests", detail: "too many guests from your address" }) }),
        );
        await refused("Kim", tooMany[column - 1]);
        if (keep) await visitor.page.screenshot({ path: join(keep, `watch-name-${locale}.png`) });
        await visitor.page.context().close();
      }
      for (const visitor of [team, ana]) await visitor.page.context().close();
    });
    await step("a private live without a token is private", () => meets("watch-private", watch("closed", "none"), PHONE, /live is private/, /私密直播/));
    await step("an expired link has run out", () => meets("watch-expired", watch("closed", "expired"), PHONE, /link has run out[^]*Ask the shop/, /链接已过期[^]*索取新链接/));
    await step("a link of another live is for another live", () => meets("watch-other", watch("closed", "other"), PHONE, /for another live/, /属于另一场直播/));
    await step("a broken link does not work", () => meets("watch-broken", watch("closed", "broken"), PHONE, /link doesn't work/, /此链接无效/));

    await step("when the server goes, everybody reads so", async () => {
      const host = await Host.enter(browser, haul.studioUrl, "VP8");
      const ana = await Guest.enter(browser, `${haul.url}/watch/demo`, PHONE);
      await host.click("source-test");
      await host.goLive();
      await ana.seesMovingPictures();
      await haul.stop();
      await until("the watch page says so", () => ana.page.evaluate(() => !document.getElementById("link").hidden));
      await host.page.locator("#link-state").filter({ hasText: /server can't be reached/ }).waitFor();
      await ana.page.locator("#veil-title").filter({ hasText: /Reconnecting|server can't be reached/ }).waitFor();
      await axe(ana);
      if (keep) await ana.page.screenshot({ path: join(keep, "watch-gone.png") });
      for (const visitor of [host, ana]) await visitor.page.context().close();
    });
  } finally {
    await haul.stop();
  }
}
