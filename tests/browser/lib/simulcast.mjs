// A host who sends three sizes of a busy picture, cheap enough for a machine that also watches, and what a viewer's browser
// says of what it gets.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Guest, launch } from "./pages.mjs";
import { expect, until } from "./report.mjs";

/** Small pages, because drawing them takes more of the machine than the pictures do. */
const WINDOW = { viewport: { width: 480, height: 320 } };

/** The picture sent, the smallest of which Chromium sends three layers, and their widths. */
export const PICTURE = { width: 960, height: 540, framesPerSecond: 12, maxBitrate: 1_000_000 };
export const WIDTHS = { full: 960, half: 480, quarter: 240 };

/**
 * A browser whose camera shows a busy picture: texture that moves, so that an encoder spends every bit that it may, and layers
 * differ in rate as in size. Returns `{browser, close()}`.
 */
export async function launchWithCamera({ width, height, framesPerSecond } = PICTURE) {
  const directory = await mkdtemp(join(tmpdir(), "haul-camera-"));
  const clip = join(directory, "camera.y4m");
  await writeFile(clip, movingTexture(width, height, framesPerSecond));
  const browser = await launch([`--use-file-for-fake-video-capture=${clip}`]);
  return {
    browser,
    close: async () => {
      await browser.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Four seconds that end where they begin, as YUV4MPEG2. */
function movingTexture(width, height, framesPerSecond) {
  const [wide, high] = [width * 2, height * 2];
  const texture = Buffer.alloc(wide * high, 110);
  // A generator of our own, so that the picture is the same in every run.
  let state = 1;
  const below = (limit) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor(((state >>> 8) / 2 ** 24) * limit);
  };
  for (let i = 0; i < 3_000; i += 1) {
    const [left, top, across, down, grey] = [below(wide - 24), below(high - 24), 3 + below(21), 3 + below(21), 30 + below(200)];
    for (let y = top; y < top + down; y += 1) texture.fill(grey, y * wide + left, y * wide + left + across);
  }
  const parts = [Buffer.from(`YUV4MPEG2 W${width} H${height} F${framesPerSecond}:1 Ip A1:1 C420jpeg\n`)];
  const frames = 4 * framesPerSecond;
  for (let frame = 0; frame < frames; frame += 1) {
    const turn = (frame / frames) * 2 * Math.PI;
    const left = Math.round((width / 2) * (1 + Math.cos(turn)));
    const top = Math.round((height / 2) * (1 + Math.sin(turn)));
    parts.push(Buffer.from("FRAME\n"));
    for (let y = top; y < top + height; y += 1) parts.push(texture.subarray(y * wide + left, y * wide + left + width));
    parts.push(Buffer.alloc((width * height) / 2, 128));
  }
  return Buffer.concat(parts);
}

/** Publishes the camera by the SDK's own defaults from a page of the server; `prepare` may put it behind a link. */
export async function publishLayers(browser, haul, prepare = async () => {}, picture = PICTURE) {
  const context = await browser.newContext({ ...WINDOW, permissions: ["camera", "microphone"] });
  const page = await context.newPage();
  await prepare(page);
  await page.addInitScript(sendOnlyVp8);
  await page.goto(`${haul.url}/docs`);
  const token = new URL(haul.studioUrl).hash.match(/token=(.+)/)[1];
  await page.evaluate(
    async ({ token, width, height, framesPerSecond, maxBitrate }) => {
      const { publish } = await import("/sdk/haul.js");
      const video = { width, height, frameRate: framesPerSecond };
      const stream = await navigator.mediaDevices.getUserMedia({ video, audio: true });
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
    watcher.guest = await Guest.enter(browser, `${haul.url}/watch/demo`, WINDOW, prepare);
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

  /** Watches for so long. Returns what happened in the meantime. */
  async during(seconds) {
    const first = await this.counts();
    expect(first, "there is a picture to begin with");
    const started = performance.now();
    const [widths, freezesAt] = [[], []];
    let last = first;
    while (performance.now() - started < seconds * 1000) {
      await new Promise((resolve) => setTimeout(resolve, 250));
      const now = await this.counts();
      expect(now && now.timestamp >= last.timestamp, "the session is still the same");
      // A freeze is counted when it is over.
      const frozenS = now.frozenS - last.frozenS;
      if (frozenS > 0) freezesAt.push(`${((performance.now() - started) / 1000).toFixed(1)} s`);
      widths.push(now.width);
      last = now;
    }
    const tookS = (last.timestamp - first.timestamp) / 1000;
    const difference = (name) => last[name] - first[name];
    const emitted = difference("jitterBufferEmittedCount");
    return {
      tookS,
      widths,
      freezesAt,
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
export function describe({ tookS, widths, frozenS, freezes, freezesAt, framesPerSecond, kbps, lost, received, nacks, plis, bufferMs }) {
  const runs = [];
  for (const width of widths) {
    const run = runs.at(-1);
    if (run && run.width === width) run.samples += 1;
    else runs.push({ width, samples: 1 });
  }
  const shown = runs.map(({ width, samples }) => `${width} for ${(samples / 4).toFixed(1)} s`).join(", ");
  return (
    `${tookS.toFixed(1)} s: ${shown}; frozen ${frozenS.toFixed(2)} s in ${freezes} times ` +
    `(over by ${freezesAt.join(", ") || "-"}), ${framesPerSecond.toFixed(1)} fps, ` +
    `${Math.round(kbps)} kb/s, ${lost} of ${received + lost} packets lost, ${nacks} NACKs, ${plis} PLIs, buffer ${Math.round(bufferMs)} ms`
  );
}
