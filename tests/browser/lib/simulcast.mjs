// A host who sends three sizes of a busy picture, cheap enough for a machine that also watches, and what a viewer's browser
// says of what it gets.

import { expect, until } from "./report.mjs";
import { DESKTOP, Guest } from "./pages.mjs";

/** The picture sent, the smallest of which Chromium sends three layers, and their widths. */
export const PICTURE = { width: 960, height: 540, framesPerSecond: 15, maxBitrate: 1_200_000 };
export const WIDTHS = { full: 960, half: 480, quarter: 240 };

/** Publishes by the SDK's own defaults from a page of the server; `prepare` may put it behind a link. */
export async function publishLayers(browser, haul, prepare = async () => {}, picture = PICTURE) {
  const context = await browser.newContext({ ...DESKTOP, permissions: ["microphone"] });
  const page = await context.newPage();
  await prepare(page);
  await page.addInitScript(sendOnlyVp8);
  await page.goto(`${haul.url}/docs`);
  const token = new URL(haul.studioUrl).hash.match(/token=(.+)/)[1];
  await page.evaluate(
    async ({ token, width, height, framesPerSecond, maxBitrate }) => {
      const { publish } = await import("/sdk/haul.js");
      const canvas = Object.assign(document.createElement("canvas"), { width, height });
      const context = canvas.getContext("2d", { alpha: false });
      // Noise that moves: it costs the encoder every bit that it may spend, so that layers differ in rate as in size.
      const noise = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
      const grains = noise.getContext("2d");
      for (let i = 0; i < 6_000; i += 1) {
        grains.fillStyle = `hsl(${(i * 47) % 360} 60% ${20 + ((i * 31) % 60)}%)`;
        grains.fillRect(Math.random() * 2 * width, Math.random() * 2 * height, 4 + (i % 13), 4 + (i % 7));
      }
      let frame = 0;
      const draw = () => {
        frame += 1;
        const at = (size, speed) => -((size / 2) * (1 + Math.sin(frame * speed)));
        context.drawImage(noise, at(width, 0.031), at(height, 0.023));
        context.fillStyle = "#fff";
        context.fillText(String(frame), 20, 40);
      };
      draw();
      setInterval(draw, 1000 / framesPerSecond);
      const stream = canvas.captureStream(framesPerSecond);
      const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
      stream.addTrack(sound.getAudioTracks()[0]);
      const options = { live: "demo", token, codec: "VP8", maxBitrate, maxFramerate: framesPerSecond };
      window.publication = await publish(stream, options);
      // A machine that is short of time sends fewer pictures, not smaller ones: layers keep their widths.
      const sender = window.publication.pc.getSenders().find(({ track }) => track.kind === "video");
      await sender.setParameters({ ...sender.getParameters(), degradationPreference: "maintain-resolution" });
    },
    { token, ...picture },
  );
  const host = {
    page,
    /** Widths of the layers that go out now, with their rates since the last look. */
    layers: () =>
      page.evaluate(async () => {
        const report = await window.publication.pc.getStats();
        const layers = [...report.values()].filter(({ type, kind }) => type === "outbound-rtp" && kind === "video");
        return layers.map(({ rid, frameWidth, framesEncoded, bytesSent }) => ({ rid, frameWidth, framesEncoded, bytesSent }));
      }),
    leave: () => context.close(),
  };
  return host;
}

/** Runs in the page: VP8 costs the least to encode. */
function sendOnlyVp8() {
  const all = RTCRtpSender.getCapabilities.bind(RTCRtpSender);
  RTCRtpSender.getCapabilities = (kind) => {
    const capabilities = all(kind);
    const codecs = capabilities.codecs.filter(({ mimeType }) => kind !== "video" || /\/(VP8|rtx)$/i.test(mimeType));
    return { ...capabilities, codecs };
  };
}

/** Waits until all three layers go out. */
export async function sendsAllLayers(host) {
  let seen;
  const wanted = Object.values(WIDTHS).sort().join();
  await until("three layers are sent", async () => {
    seen = await host.layers();
    return seen.filter((layer) => layer.framesEncoded > 10).map((layer) => layer.frameWidth).sort().join() === wanted;
  }).catch((error) => {
    throw new Error(`${error.message}, but ${JSON.stringify(seen)}`);
  });
}

/** Somebody who watches, and whose browser's statistics are read. */
export class Watcher {
  static async enter(browser, haul, prepare) {
    const watcher = new this();
    watcher.guest = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP, prepare);
    return watcher;
  }

  /** What the browser has counted so far; null before there is a picture. */
  async counts() {
    const entry = await this.guest.stats("inbound-rtp", "video");
    if (!entry || !entry.framesDecoded) return null;
    const { frameWidth: width, framesDecoded, totalFreezesDuration, freezeCount, bytesReceived, timestamp } = entry;
    const { packetsReceived, packetsLost, nackCount, pliCount, jitterBufferDelay, jitterBufferEmittedCount } = entry;
    return {
      width, framesDecoded, frozenS: totalFreezesDuration, freezeCount, bytesReceived, timestamp,
      packetsReceived, packetsLost, nackCount, pliCount, jitterBufferDelay, jitterBufferEmittedCount,
    };
  }

  /** Watches for so long. Returns what happened in the meantime; `look` hears each sample's counts. */
  async during(seconds, look = () => {}) {
    const first = await this.counts();
    expect(first, "there is a picture to begin with");
    const started = performance.now();
    const widths = [];
    let last = first;
    while (performance.now() - started < seconds * 1000) {
      await new Promise((resolve) => setTimeout(resolve, 250));
      last = await this.counts();
      expect(last && last.timestamp >= first.timestamp, "the session is still the same");
      widths.push(last.width);
      look(last, (performance.now() - started) / 1000);
    }
    const tookS = (last.timestamp - first.timestamp) / 1000;
    const difference = (name) => last[name] - first[name];
    const emitted = difference("jitterBufferEmittedCount");
    return {
      tookS,
      widths,
      frozenS: difference("frozenS"),
      freezes: difference("freezeCount"),
      framesPerSecond: difference("framesDecoded") / tookS,
      kbps: (difference("bytesReceived") * 8) / 1000 / tookS,
      lost: difference("packetsLost"),
      received: difference("packetsReceived"),
      nacks: difference("nackCount"),
      plis: difference("pliCount"),
      bufferMs: emitted ? (difference("jitterBufferDelay") / emitted) * 1000 : 0,
    };
  }

  leave() {
    return this.guest.page.context().close();
  }
}

/** One line about a time of watching. */
export function describe({ tookS, widths, frozenS, freezes, framesPerSecond, kbps, lost, received, nacks, plis, bufferMs }) {
  const runs = [];
  for (const width of widths) {
    const run = runs.at(-1);
    if (run && run.width === width) run.samples += 1;
    else runs.push({ width, samples: 1 });
  }
  const shown = runs.map(({ width, samples }) => `${width} for ${(samples / 4).toFixed(1)} s`).join(", ");
  return (
    `${tookS.toFixed(1)} s: ${shown}; frozen ${frozenS.toFixed(2)} s in ${freezes} times, ${framesPerSecond.toFixed(1)} fps, ` +
    `${Math.round(kbps)} kb/s, ${lost} of ${received + lost} packets lost, ${nacks} NACKs, ${plis} PLIs, buffer ${Math.round(bufferMs)} ms`
  );
}
