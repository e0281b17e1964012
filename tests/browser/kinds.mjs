// Hosts who send sound alone or pictures alone, and viewers who can't decode what is sent.
//
//   node kinds.mjs    runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)

import { DESKTOP, Guest, launch } from "./lib/pages.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";

/** Longer than the story takes on a slow machine: something hangs. */
const MOST_MS = 2 * 60_000;
/** Longer than the page waits before it takes a host for away, and makes another session where nothing comes. */
const LONG_MS = 12_000;

const watchdog = endsWithin(MOST_MS);

/** A host with tracks of these kinds, of whom only WHIP is seen. */
async function publish(browser, haul, kinds, codec = "VP8") {
  const token = new URL(haul.studioUrl).hash.replace("#token=", "");
  const page = await browser.newPage();
  await page.goto(`${haul.url}/docs`);
  await page.evaluate(
    async ([token, kinds, codec]) => {
      const pc = (window.pc = new RTCPeerConnection());
      const sound = () => {
        const context = (window.context = new AudioContext());
        const [tone, out] = [context.createOscillator(), context.createMediaStreamDestination()];
        tone.connect(out);
        tone.start();
        return out.stream;
      };
      const pictures = () => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
        const context = canvas.getContext("2d");
        setInterval(() => {
          context.fillStyle = `hsl(${(Date.now() / 10) % 360} 80% 50%)`;
          context.fillRect(0, 0, 320, 180);
        }, 40);
        return canvas.captureStream(25);
      };
      for (const kind of kinds) {
        const stream = kind === "audio" ? sound() : pictures();
        const transceiver = pc.addTransceiver(stream.getTracks()[0], { direction: "sendonly" });
        if (kind === "audio") continue;
        const { codecs } = RTCRtpSender.getCapabilities("video");
        transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType === `video/${codec}`));
      }
      await pc.setLocalDescription();
      const answer = await fetch("/whip/demo", {
        method: "POST",
        headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` },
        body: pc.localDescription.sdp,
      });
      if (answer.status !== 201) throw new Error(await answer.text());
      await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    },
    [token, kinds, codec],
  );
  await until("the host is connected", () => page.evaluate(() => window.pc.connectionState === "connected"));
  return page;
}

/** Makes of a browser one that can't decode VP8. */
function withoutVp8() {
  const add = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (kind, init) {
    const transceiver = add.call(this, kind, init);
    if (kind !== "video") return transceiver;
    const { codecs } = RTCRtpReceiver.getCapabilities("video");
    transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType !== "video/VP8"));
    return transceiver;
  };
}

const received = async (guest, kind) => ((await guest.stats("inbound-rtp", kind)) || {}).packetsReceived || 0;

const arrives = async (guest, kind) => {
  const before = await received(guest, kind);
  await until(`${kind} arrives`, async () => (await received(guest, kind)) > before + 20);
};

const browser = await launch(["--autoplay-policy=no-user-gesture-required"]);
await story("kinds", async () => {
  const haul = await startHaul();
  let host, guest;
  await step("sound alone is a live that one stays in", async () => {
    host = await publish(browser, haul, ["audio"]);
    guest = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP);
    await arrives(guest, "audio");
    await guest.markConnection();
    for (const end = Date.now() + LONG_MS; Date.now() < end; ) {
      await arrives(guest, "audio");
      await guest.shows("live-state", /^LIVE$/, 500);
    }
    expect(await guest.hasSameConnection(), "the viewer's connection is the one from before");
  });
  await step("so are pictures alone, for the same viewer", async () => {
    await host.close();
    host = await publish(browser, haul, ["video"]);
    await guest.seesMovingPictures();
  });
  await step("and both", async () => {
    await host.close();
    host = await publish(browser, haul, ["audio", "video"]);
    await guest.seesMovingPictures();
    await arrives(guest, "audio");
  });
  await step("who can't decode the pictures is told so, and comes in when the host sends others", async () => {
    const other = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP, (page) => page.addInitScript(withoutVp8));
    await until("the page says so", async () => /can't play/.test(await other.page.locator("#veil-title").textContent()));
    await host.close();
    host = await publish(browser, haul, ["audio", "video"], "VP9");
    await other.seesMovingPictures();
    await guest.seesMovingPictures();
    other.expectNoErrors();
  });
  await step("no page had an error", () => guest.expectNoErrors());
  await haul.stop();
});
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());
