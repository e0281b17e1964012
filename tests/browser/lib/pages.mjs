// The two pages as a person uses them: what is clicked, what is seen, what the browser's statistics say.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { expect, until } from "./report.mjs";

const EXECUTABLE = process.env.CHROMIUM || "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
];

// A page that came from disk is from no address, and would be kept from the server's.
if (process.env.HAUL_ASSETS) FLAGS.push("--disable-features=LocalNetworkAccessChecks");

export const DESKTOP = { viewport: { width: 1440, height: 900 } };
export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** A browser with an empty profile and a camera that isn't one; `flags` beside the usual ones, `without` some of those. */
export function launch(flags = [], without = []) {
  const args = [...FLAGS.filter((flag) => !without.includes(flag)), ...flags];
  return chromium.launch({ executablePath: EXECUTABLE, args, headless: true });
}

/** Which video codecs this browser can send. */
export async function sendableCodecs(browser, url) {
  const page = await browser.newPage();
  await page.goto(`${url}/docs`);
  const codecs = await page.evaluate(() => RTCRtpSender.getCapabilities("video").codecs.map((codec) => codec.mimeType));
  await page.close();
  return new Set(codecs.map((type) => type.split("/")[1].toUpperCase()));
}

/** For whoever works on the pages: files as they are in `directory` (crates/web/assets), without building the server anew. */
async function fromDisk(context, directory) {
  const pages = { watch: "pages/watch.html", studio: "pages/studio.html", sandbox: "pages/pay.html" };
  await context.route(/\/(assets|sdk|watch|studio|sandbox\/pay)\//, async (route) => {
    const { pathname } = new URL(route.request().url());
    const [, first, ...others] = pathname.split("/");
    const isPage = route.request().resourceType() === "document" && pages[first];
    if (!isPage && !["assets", "sdk"].includes(first)) return route.fallback();
    const body = await readFile(join(directory, isPage || (first === "sdk" ? `sdk/${others.join("/")}` : others.join("/")))).catch(() => null);
    if (!body) return route.fallback();
    const types = { js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
    // What the server says of it counts all the same: who may show it, and from where.
    const response = await route.fetch().catch(() => null);
    // The page was closed meanwhile.
    if (!response) return undefined;
    return route.fulfill(response.ok() ? { response, body } : { body, contentType: types[pathname.split(".").pop()] });
  });
}

/** Somebody's page. What goes wrong in it is kept for the end. */
class Visitor {
  static async open(browser, url, device, prepare = async () => {}) {
    const visitor = new this();
    const context = await browser.newContext(device);
    visitor.page = await context.newPage();
    visitor.page.setDefaultTimeout(15_000);
    visitor.errors = [];
    visitor.page.on("pageerror", (error) => visitor.errors.push(error.stack || String(error)));
    visitor.page.on("console", (line) => {
      if (/Content Security Policy|Refused to/.test(line.text())) visitor.errors.push(line.text());
    });
    if (process.env.HAUL_ASSETS) await fromDisk(context, process.env.HAUL_ASSETS);
    await prepare(visitor.page);
    await visitor.page.goto(url);
    return visitor;
  }

  at(testid) {
    return this.page.locator(`[data-testid="${testid}"]`);
  }

  async click(testid) {
    await this.at(testid).first().click();
  }

  async text(testid) {
    return (await this.at(testid).first().textContent()).trim();
  }

  async shows(testid, pattern, withinMs) {
    let last = "";
    const words = () => `${testid} shows ${pattern}, not ${JSON.stringify(last)}`;
    const look = async () => {
      last = (await this.at(testid).count()) ? await this.text(testid) : "(nothing)";
      return pattern.test(last);
    };
    await until("", look, withinMs).catch((error) => {
      throw new Error(`${error.message}${words()}`);
    });
  }

  /** The first statistics entry of a type and kind, with its codec's name as `codec`. */
  stats(type, kind) {
    return this.page.evaluate(
      async ([type, kind]) => {
        const { pc } = window.haul;
        if (!pc) return null;
        const report = await pc.getStats();
        const entry = [...report.values()].find((entry) => entry.type === type && entry.kind === kind);
        if (!entry) return null;
        const codec = entry.codecId ? report.get(entry.codecId).mimeType.split("/")[1].toUpperCase() : null;
        return { ...entry, codec };
      },
      [type, kind],
    );
  }

  expectNoErrors() {
    expect(this.errors.length === 0, `errors in the page:\n${this.errors.join("\n")}`);
  }
}

export class Host extends Visitor {
  /** Opens the studio; `codec` is the one video codec that this browser then has. */
  static enter(browser, url, codec) {
    return this.open(browser, url, DESKTOP, (page) =>
      page.addInitScript((codec) => {
        const all = RTCRtpSender.getCapabilities.bind(RTCRtpSender);
        const wanted = new RegExp(`^video/(${codec}|rtx|red|ulpfec|flexfec-03)$`, "i");
        RTCRtpSender.getCapabilities = (kind) => {
          const capabilities = all(kind);
          if (kind !== "video") return capabilities;
          return { ...capabilities, codecs: capabilities.codecs.filter(({ mimeType }) => wanted.test(mimeType)) };
        };
      }, codec),
    );
  }

  async goLive() {
    await this.click("go-live");
    await this.shows("live-state", /^LIVE$/);
  }

  async endLive() {
    await this.click("end-live");
    // An open sale makes the studio ask.
    const confirm = this.page.locator("#end-confirm");
    if (await confirm.isVisible()) await confirm.click();
    await this.shows("live-state", /OFF AIR/);
  }

  async openSale({ product, price, stock, limit, minutes }) {
    await this.at("sale-product").selectOption(product);
    await this.at("sale-price").fill(price);
    await this.at("sale-stock").fill(String(stock));
    await this.at("sale-limit").fill(String(limit));
    await this.at("sale-minutes").fill(String(minutes));
    await this.click("sale-open");
  }
}

export class Guest extends Visitor {
  /** The page as it is once its scripts run: they come after the first picture. */
  static async enter(browser, url, device, prepare) {
    const guest = await this.open(browser, url, device, prepare);
    await guest.page.waitForFunction(() => "haul" in window, null, { polling: 50 });
    return guest;
  }

  async join(name) {
    await this.at("guest-name").fill(name);
    await this.click("guest-join");
    await this.at("chat-input").waitFor();
  }

  async say(words) {
    await this.at("chat-input").fill(words);
    await this.click("chat-send");
  }

  frames() {
    return this.at("video").evaluate((video) => video.getVideoPlaybackQuality().totalVideoFrames);
  }

  /** A small picture of the picture, to see whether it changes. */
  pixels() {
    return this.at("video").evaluate((video) => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 32;
      const context = canvas.getContext("2d");
      context.drawImage(video, 0, 0, 32, 32);
      return [...context.getImageData(0, 0, 32, 32).data].join(",");
    });
  }

  async seesMovingPictures(withinMs = 15_000) {
    await until("a first frame is shown", async () => (await this.frames()) > 0, withinMs);
    const [frames, pixels] = [await this.frames(), await this.pixels()];
    await until("ten more frames are shown", async () => (await this.frames()) >= frames + 10, withinMs);
    await until("the pixels change", async () => (await this.pixels()) !== pixels, withinMs);
  }

  async hearsSound() {
    await this.click("sound");
    const now = () => this.stats("inbound-rtp", "audio");
    const before = await until("sound arrives", async () => {
      const entry = await now();
      return entry && entry.packetsReceived > 0 && entry;
    });
    await until("sound is decoded, and is not silence", async () => {
      const { packetsReceived, totalAudioEnergy } = await now();
      return packetsReceived > before.packetsReceived + 10 && totalAudioEnergy > (before.totalAudioEnergy || 0);
    });
  }

  /** Remembers the connection, to see later whether it is still the same. */
  markConnection() {
    return this.page.evaluate(() => {
      window.markedConnection = window.haul.pc;
    });
  }

  hasSameConnection() {
    return this.page.evaluate(() => window.markedConnection === window.haul.pc && window.haul.pc !== null);
  }

  /** From "Buy" to the order number, which it returns. `whileHeld` runs before the payment. */
  async buy(whileHeld) {
    await this.click("buy");
    await this.at("checkout").waitFor();
    await whileHeld();
    await this.click("checkout");
    const frame = this.page.frameLocator('[data-testid="pay-frame"]');
    await frame.locator('[data-testid="pay"]:enabled').click();
    await this.at("confirmation").waitFor();
    return this.text("order-number");
  }
}
