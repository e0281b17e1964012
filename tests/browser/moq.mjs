// Media over QUIC in browsers: our pages watch and publish by it, beside WebRTC, and fall back from one to the other.
//
//   node moq.mjs     runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)

import { behind, startLink } from "./lib/link.mjs";
import { carryTcpTo, startHaulWithMoq } from "./lib/moq.mjs";
import { DESKTOP, Guest, Host, launch } from "./lib/pages.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";

/** Longer than all takes on a slow machine: something hangs. */
const MOST_MS = 6 * 60_000;
/** Lips and voice further apart than this are noticed (ITU-R BT.1359). */
const APART_MAX_MS = 80;

const watchdog = endsWithin(MOST_MS);

/** A network that carries no UDP of WebRTC, as the page sees it: nobody tells it where the server's media is. */
const withoutWebRtc = (page) =>
  page.addInitScript(() => {
    const whole = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (description) {
      const sdp = description.sdp.split("\r\n").filter((line) => !/^a=candidate:/i.test(line)).join("\r\n");
      return whole.call(this, { type: description.type, sdp });
    };
  });

/** One that carries no QUIC: sessions never come about. */
const withoutQuic = (page) =>
  page.addInitScript(() => {
    window.WebTransport = class {
      constructor() {
        this.ready = new Promise(() => {});
        this.closed = new Promise(() => {});
      }
      close() {}
    };
  });

/** One where a proxy lets nothing of MoQ through, on whatever it travels. */
const withoutMoq = async (page) => {
  await withoutQuic(page);
  await page.addInitScript(() => {
    const Whole = window.WebSocket;
    window.WebSocket = class extends Whole {
      constructor(url, protocols) {
        super(String(protocols).includes("qmux") ? "ws://127.0.0.1:9/" : url, protocols);
      }
    };
  });
};

/** A browser that has never heard of WebTransport. */
const withoutWebTransport = (page) => page.addInitScript(() => delete window.WebTransport);

const url = (haul, transport) => `${haul.url}/watch/demo?transport=${transport}`;
const facts = (viewer) => viewer.page.evaluate(() => window.haul.player.facts());
const transport = (viewer) => viewer.page.evaluate(() => window.haul.player.transport);

async function metric(haul, name) {
  const metrics = await (await fetch(`${haul.url}/metrics`)).text();
  return Number(metrics.match(new RegExp(`^${name}(?:_total)? (\\d+)`, "m"))?.[1] ?? NaN);
}

/** Pictures that move, sound that isn't silence, and both together. */
async function playsByMoq(viewer) {
  await viewer.seesMovingPictures(20_000);
  expect((await transport(viewer)) === "moq", "it plays by MoQ");
  await viewer.click("sound");
  await until("sound is heard", async () => (await facts(viewer)).level > 0.001, 20_000);
  // The first pictures of a busy machine are late; that they catch up is what is asked.
  const heard = await until(`pictures are within ${APART_MAX_MS} ms of the sound`, async () => {
    const now = await facts(viewer);
    const together = now.apartMs !== null && Math.abs(now.apartMs) <= APART_MAX_MS;
    return together && now.heard > 100 && now.shown > 50 && now;
  }, 30_000);
  const apart = Math.round(heard.apartMs);
  return apart;
}

const browser = await launch([], ["--disable-quic"]);
await story("Media over QUIC", async () => {
  const haul = await startHaulWithMoq();
  const { port } = await (await fetch(`${haul.url}/v1/moq`)).json();
  const tcpOnly = await carryTcpTo(port);
  let host;
  try {
    await step("a host publishes by WebRTC", async () => {
      host = await Host.open(browser, haul.studioUrl, DESKTOP);
      await host.click("source-camera");
      await host.goLive();
      await until("pictures are sent", async () => ((await host.stats("outbound-rtp", "video"))?.framesEncoded ?? 0) > 10);
    });
    await step("a viewer sees and hears it by MoQ, chat and all", async () => {
      const viewer = await Guest.enter(browser, url(haul, "moq"), DESKTOP);
      const apart = await playsByMoq(viewer);
      expect((await metric(haul, "haul_moq_viewers")) === 1, "the server counts one who watches by MoQ");
      await viewer.join("Ann");
      await viewer.say("hello from QUIC");
      await until("the word is in the chat", async () => (await viewer.page.locator("#chat").textContent()).includes("hello from QUIC"));
      viewer.expectNoErrors();
      const { codec, delayMs, dropped } = await facts(viewer);
      await viewer.page.context().close();
      return `${codec}, ${Math.round(delayMs)} ms held, ${dropped} dropped, pictures ${apart} ms behind the sound`;
    });
    await step("where WebRTC is blocked, a viewer falls back to MoQ", async () => {
      const viewer = await Guest.enter(browser, url(haul, "webrtc"), DESKTOP, withoutWebRtc);
      await viewer.seesMovingPictures(30_000);
      expect((await transport(viewer)) === "moq", "it plays by MoQ");
      viewer.expectNoErrors();
      await viewer.page.context().close();
    });
    await step("where UDP is blocked, a viewer falls back to MoQ over a websocket, with sound, chat and all", async () => {
      const viewer = await Guest.enter(browser, url(haul, "webrtc"), DESKTOP, async (page) => {
        await withoutWebRtc(page);
        // Nobody answers UDP at this port. TCP goes through.
        await page.route("**/v1/moq", async (route) => {
          const door = await (await route.fetch()).json();
          await route.fulfill({ json: { ...door, port: tcpOnly.port } });
        });
      });
      const apart = await playsByMoq(viewer);
      const { carrier, delayMs, dropped } = await facts(viewer);
      expect(carrier === "websocket", `it is carried by ${carrier}`);
      expect((await metric(haul, "haul_moq_websockets")) === 1, "the server counts a websocket");
      await viewer.join("Bea");
      await viewer.say("hello over TCP");
      await until("the word is in the chat", async () => (await viewer.page.locator("#chat").textContent()).includes("hello over TCP"));
      await viewer.page.context().close();
      return `${Math.round(delayMs)} ms held, ${dropped} dropped, pictures ${apart} ms behind the sound`;
    });
    await step("where WebRTC's packets stop in the middle, a viewer goes on by MoQ; and by WebRTC where that is cut in turn", async () => {
      const links = await Promise.all([haul.udpPort, haul.udpPort + 1].map((udpPort) => startLink(udpPort)));
      const become = (words) => Promise.all(links.map((link) => link.set("both", words)));
      const door = await carryTcpTo(port);
      try {
        const viewer = await Guest.enter(browser, url(haul, "webrtc"), DESKTOP, async (page) => {
          await behind(...links)(page);
          await page.route("**/v1/moq", async (route) => {
            const told = await (await route.fetch()).json();
            await route.fulfill({ json: { ...told, port: door.port } });
          });
        });
        await viewer.seesMovingPictures(20_000);
        expect((await transport(viewer)) === "webrtc", "it plays by WebRTC");
        await viewer.join("Cleo");
        const playsBy = (way) =>
          until(`it plays by ${way}`, () => viewer.page.evaluate((way) => {
            const { player } = window.haul;
            return player.transport === way && player.state === "playing";
          }, way), 60_000);
        const chats = async (words) => {
          await viewer.say(words);
          await until("the word is in the chat", async () => (await viewer.page.locator("#chat").textContent()).includes(words));
        };
        const cut = performance.now();
        await become("loss=1");
        await playsBy("moq");
        const first = performance.now() - cut;
        await viewer.seesMovingPictures(20_000);
        await chats("still here");
        await become("loss=0");
        const closed = performance.now();
        door.close();
        await playsBy("webrtc");
        const second = performance.now() - closed;
        await viewer.seesMovingPictures(20_000);
        await chats("and here again");
        await viewer.page.context().close();
        return `by MoQ after ${(first / 1000).toFixed(1)} s, by WebRTC after ${(second / 1000).toFixed(1)} s`;
      } finally {
        door.close();
        await Promise.all(links.map((link) => link.stop()));
      }
    });
    await step("a browser without WebTransport plays over a websocket, at once", async () => {
      const viewer = await Guest.enter(browser, url(haul, "moq"), DESKTOP, withoutWebTransport);
      await viewer.seesMovingPictures(20_000);
      expect((await transport(viewer)) === "moq" && (await facts(viewer)).carrier === "websocket", "MoQ over a websocket");
      viewer.expectNoErrors();
      await viewer.page.context().close();
    });
    await step("who plays by WebRTC what it does not carry the sound of is moved to MoQ", async () => {
      const viewer = await Guest.enter(browser, url(haul, "webrtc"), DESKTOP);
      await viewer.seesMovingPictures(20_000);
      expect((await transport(viewer)) === "webrtc", "it plays by WebRTC");
      await viewer.page.evaluate(() => {
        const { room } = window.haul;
        room.live = { ...room.live, sound: "moq_only" };
        room.dispatchEvent(new CustomEvent("change", { detail: "live" }));
      });
      await until("it plays by MoQ", async () => (await transport(viewer)) === "moq" && ((await facts(viewer)) || {}).shown > 10, 20_000);
      viewer.expectNoErrors();
      await viewer.page.context().close();
    });
    await step("where MoQ is blocked, a viewer who prefers it falls back to WebRTC", async () => {
      const viewer = await Guest.enter(browser, url(haul, "moq"), DESKTOP, withoutMoq);
      await viewer.seesMovingPictures(30_000);
      expect((await transport(viewer)) === "webrtc", "it plays by WebRTC");
      await viewer.page.context().close();
    });
    await step("the host returns by MoQ, and viewers of both kinds see and hear it", async () => {
      await host.endLive();
      await host.page.context().close();
      const [path, token] = haul.studioUrl.split("#");
      host = await Host.open(browser, `${path}?transport=moq#${token}`, DESKTOP);
      await host.click("source-camera");
      await host.goLive();
      const byWebRtc = await Guest.enter(browser, url(haul, "webrtc"), DESKTOP);
      await byWebRtc.seesMovingPictures(20_000);
      await byWebRtc.hearsSound();
      expect((await transport(byWebRtc)) === "webrtc", "one plays by WebRTC");
      await byWebRtc.page.context().close();
      const byMoq = await Guest.enter(browser, url(haul, "moq"), DESKTOP);
      const apart = await playsByMoq(byMoq);
      host.expectNoErrors();
      byMoq.expectNoErrors();
      const { codec } = await facts(byMoq);
      await byMoq.page.context().close();
      return `${codec}, pictures ${apart} ms behind the sound`;
    });
    await step("where QUIC is blocked, a host who publishes by MoQ does so over a websocket", async () => {
      await host.endLive();
      await host.page.context().close();
      const [path, token] = haul.studioUrl.split("#");
      host = await Host.open(browser, `${path}?transport=moq#${token}`, DESKTOP, withoutQuic);
      await host.click("source-camera");
      await host.goLive();
      const viewer = await Guest.enter(browser, url(haul, "webrtc"), DESKTOP);
      await viewer.seesMovingPictures(20_000);
      await viewer.hearsSound();
      expect((await metric(haul, "haul_moq_websockets")) === 1, "the host's session is a websocket");
      await viewer.page.context().close();
      host.expectNoErrors();
    });
    await step("who comes before the host waits by MoQ, and sees it begin, end and begin again", async () => {
      await host.endLive();
      const viewer = await Guest.enter(browser, url(haul, "moq"), DESKTOP);
      const shows = (state) => until(`it is ${state}`, () => viewer.page.evaluate((state) => window.haul.player.state === state, state));
      await shows("waiting");
      await host.goLive();
      await viewer.seesMovingPictures(20_000);
      await host.endLive();
      await shows("away");
      await host.goLive();
      await viewer.seesMovingPictures(20_000);
      expect((await transport(viewer)) === "moq", "by MoQ all the time");
      viewer.expectNoErrors();
      await viewer.page.context().close();
    });
    await step("the host ends the live, and nobody is left at the server", async () => {
      await host.endLive();
      await host.page.close();
      await until("no MoQ session is left", async () => (await metric(haul, "haul_moq_connections")) === 0, 20_000);
    });
  } finally {
    tcpOnly.close();
    const code = await haul.stop();
    expect(code === 0, `the server ends well, not with ${code}:\n${haul.log()}`);
  }
});
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());
