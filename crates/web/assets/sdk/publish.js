// Publishing a MediaStream over WHIP, and keeping it published.

import { HaulError, backoffMs, pause } from "./error.js";
import { Session, statsOf } from "./session.js";

const DEFAULTS = {
  maxBitrate: 2_500_000,
  startBitrate: 1_000_000,
  maxFramerate: 30,
  audioBitrate: 96_000,
  contentHint: "motion",
  layers: 3,
};
/**
 * Simulcast layers, the whole picture last, as browsers want them. A picture of half the width and height looks as good at
 * somewhat more than a quarter of the rate.
 */
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, share: 0.08 },
  { rid: "h", scaleResolutionDownBy: 2, share: 0.28 },
  { rid: "f", scaleResolutionDownBy: 1, share: 1 },
];
/**
 * The most layers of a picture whose longer side has at least so many pixels. Chromium sends no more than this of small
 * pictures, and what it leaves out is the largest.
 */
const MOST_LAYERS = [
  [960, 3],
  [480, 2],
  [0, 1],
];
/** Answers that trying again does not change. */
const REFUSED = new Set([400, 401, 403, 404, 405, 413, 415]);

/**
 * Publishes `stream` to a live. Options: `live`, `token` (role host), `base`, `maxBitrate` and `startBitrate` in bit/s,
 * `maxFramerate`, `contentHint` ("motion", "detail"), `codec` ("H264" or "VP8" first; H264 by default, as every phone decodes it in
 * hardware), `layers` (at most so many sizes of the picture at once, 3 by default, fewer of a small one, so that viewers with a
 * slow line get a smaller picture; `maxBitrate` is that of the largest, the others take a third of it more). Resolves with a `Publication` once the server answered; rejects when it refused.
 */
export async function publish(stream, options) {
  const publication = new Publication(stream, options);
  await publication.start();
  return publication;
}

/**
 * What the host sends. Event `state`, detail `{state, error}`: `connecting`, `live`, `reconnecting`, `ended`, `refused`.
 */
export class Publication extends EventTarget {
  #options;
  #stream;
  #session = null;
  #stop = new AbortController();
  #last = null;
  #leave = () => this.stop();

  constructor(stream, options) {
    super();
    this.#stream = stream;
    this.#options = { ...DEFAULTS, base: location.origin, codec: "H264", ...options };
    this.state = "idle";
  }

  get pc() {
    return this.#session ? this.#session.pc : null;
  }

  async start() {
    addEventListener("pagehide", this.#leave);
    this.#tell("connecting");
    try {
      await this.#open();
    } catch (error) {
      this.#end(error.code === "aborted" ? "ended" : "refused", error);
      throw error;
    }
  }

  /** Goes on with other tracks, without a new session. */
  async setStream(stream) {
    this.#stream = stream;
    if (!this.pc) return;
    for (const { sender, receiver } of this.pc.getTransceivers()) {
      const kind = receiver.track.kind;
      const track = stream.getTracks().find((candidate) => candidate.kind === kind) || null;
      if (track && kind === "video") hint(track, this.#options.contentHint);
      await sender.replaceTrack(track);
    }
  }

  /** Ends the broadcast. */
  stop() {
    this.#end("ended");
  }

  /**
   * What is going out, measured since the previous call: `{codec, width, height, fps, bitrateBps, rttMs, lossRatio,
   * limitedBy}`, each null where it isn't known yet.
   */
  async facts() {
    if (!this.pc) return null;
    const report = await this.pc.getStats();
    // Of the layers that go out now, the largest is what viewers see at best.
    const layers = statsOf(report, "outbound-rtp", "video");
    const sent = layers.filter((layer) => layer.active !== false && layer.frameWidth > 0);
    const video = sent.reduce((a, b) => (b.frameWidth > a.frameWidth ? b : a), sent[0] || layers[0]);
    if (!video) return null;
    const outbound = statsOf(report, "outbound-rtp");
    const remote = statsOf(report, "remote-inbound-rtp", "video")[0];
    const pair = statsOf(report, "candidate-pair").find((candidate) => candidate.nominated);
    const codec = video.codecId ? report.get(video.codecId) : null;
    const bytes = outbound.reduce((sum, entry) => sum + (entry.bytesSent || 0), 0);
    const now = { id: video.id, at: video.timestamp, bytes, frames: video.framesEncoded || 0 };
    // A new session counts from zero again, and each layer counts its own frames.
    const last = this.#last && this.#last.id === now.id && this.#last.bytes <= bytes ? this.#last : null;
    this.#last = now;
    const seconds = last ? (now.at - last.at) / 1000 : 0;
    const rtt = remote && remote.roundTripTime !== undefined ? remote.roundTripTime : pair && pair.currentRoundTripTime;
    return {
      codec: codec ? codec.mimeType.replace("video/", "") : null,
      width: video.frameWidth || null,
      height: video.frameHeight || null,
      fps: seconds > 0 ? (now.frames - last.frames) / seconds : null,
      bitrateBps: seconds > 0 ? ((now.bytes - last.bytes) * 8) / seconds : null,
      rttMs: rtt === undefined || rtt === null ? null : rtt * 1000,
      lossRatio: remote && remote.fractionLost !== undefined ? remote.fractionLost : null,
      limitedBy: video.qualityLimitationReason && video.qualityLimitationReason !== "none" ? video.qualityLimitationReason : null,
    };
  }

  async #open() {
    const { base, live, token, maxBitrate, startBitrate, audioBitrate, contentHint, codec } = this.#options;
    const session = new Session({ token, onLost: () => this.#reopen() });
    const { pc } = session;
    try {
      for (const track of this.#stream.getTracks()) {
        const video = track.kind === "video";
        if (video) hint(track, contentHint);
        const transceiver = pc.addTransceiver(track, {
          direction: "sendonly",
          streams: [this.#stream],
          sendEncodings: video ? encodings(track, this.#options) : [{ maxBitrate: audioBitrate }],
        });
        if (video) prefer(transceiver, codec);
      }
      this.#session = session;
      pc.addEventListener("connectionstatechange", () => {
        if (pc.connectionState === "connected" && session === this.#session) this.#tell("live");
      });
      await session.open(new URL(`/whip/${encodeURIComponent(live)}`, base).href, this.#stop.signal, (answer) =>
        startAt(answer, Math.min(startBitrate, maxBitrate)),
      );
    } catch (error) {
      session.close();
      throw error;
    }
  }

  async #reopen() {
    for (let attempt = 0; ; attempt += 1) {
      this.#tell("reconnecting");
      try {
        await pause(backoffMs(attempt, 300, 8_000), this.#stop.signal);
        await this.#open();
        return;
      } catch (error) {
        if (error.code === "aborted") return;
        if (REFUSED.has(error.status)) {
          this.#end("refused", error);
          return;
        }
        if (error.retryAfterMs) await pause(error.retryAfterMs, this.#stop.signal).catch(() => {});
      }
    }
  }

  #end(state, error) {
    if (this.state === "ended" || this.state === "refused") return;
    removeEventListener("pagehide", this.#leave);
    this.#stop.abort();
    if (this.#session) this.#session.close();
    this.#session = null;
    this.#tell(state, error);
  }

  #tell(state, error) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, error: error instanceof HaulError ? error : null } }));
  }
}

/** What the browser is to make of the picture: one entry a layer. */
function encodings(track, { layers, maxBitrate, maxFramerate }) {
  const { width, height } = track.getSettings ? track.getSettings() : {};
  const longer = Math.max(width || 0, height || 0) || Infinity;
  const count = Math.min(layers, MOST_LAYERS.find(([least]) => longer >= least)[1]);
  // A layer alone has no name, for a name would make it simulcast.
  if (count <= 1) return [{ maxBitrate, maxFramerate }];
  return LAYERS.slice(-count).map(({ rid, scaleResolutionDownBy, share }) => ({
    rid,
    scaleResolutionDownBy,
    maxBitrate: Math.round(maxBitrate * share),
    maxFramerate,
  }));
}

function hint(track, contentHint) {
  if ("contentHint" in track) track.contentHint = contentHint;
}

/** Puts `name` first, and of H.264 the profile that everything decodes (constrained baseline, packetization mode 1). */
function prefer(transceiver, name) {
  if (!transceiver.setCodecPreferences || !RTCRtpSender.getCapabilities) return;
  const capabilities = RTCRtpSender.getCapabilities("video");
  if (!capabilities) return;
  const rank = ({ mimeType, sdpFmtpLine = "" }) => {
    const codec = mimeType.split("/")[1].toUpperCase();
    if (codec !== name.toUpperCase()) return codec === "H264" || codec === "VP8" ? 4 : 5;
    if (codec !== "H264") return 0;
    const baseline = /profile-level-id=42[ce]0/i.test(sdpFmtpLine);
    return (baseline ? 0 : 1) + (/packetization-mode=1/.test(sdpFmtpLine) ? 0 : 2);
  };
  const codecs = capabilities.codecs.slice().sort((a, b) => rank(a) - rank(b));
  try {
    transceiver.setCodecPreferences(codecs);
  } catch {
    // The browser insists on its own order; the server takes what comes.
  }
}

/**
 * Lets the video start at a rate that shows a product, not at the 300 kb/s from which browsers feel their way up over
 * many seconds. The parameter is one that Chromium and Safari read and others skip.
 */
function startAt(sdp, bitsPerSecond) {
  const parameter = `x-google-start-bitrate=${Math.round(bitsPerSecond / 1000)}`;
  return sdp
    .split(/(?=^m=)/m)
    .map((section) => {
      if (!section.startsWith("m=video")) return section;
      return section.replace(/^a=rtpmap:(\d+) (?:H264|VP8)\/.*\r?\n/gim, (line, type) => {
        const known = new RegExp(`^a=fmtp:${type} .*$`, "m").test(section);
        return known ? line : `${line}a=fmtp:${type} ${parameter}\r\n`;
      }).replace(/^(a=fmtp:\d+ .*(?:profile-level-id|packetization-mode)[^\r\n]*)/gim, `$1;${parameter}`);
    })
    .join("");
}
