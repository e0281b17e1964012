// Publishing a MediaStream over MoQ: the same states, events and facts as a `Publication` over WebRTC.

import { HaulError, backoffMs, pause } from "../error.js";
import { capturePictures, captureSound } from "./capture.js";
import { PictureEncoder, SoundEncoder, videoConfig } from "./encode.js";
import { canPublish, connect } from "./session.js";
import { varint } from "./wire.js";

const DEFAULTS = { maxBitrate: 2_500_000, maxFramerate: 30, audioBitrate: 96_000 };
const REFUSED = new Set([400, 401, 403, 404, 405]);
/** The server's word, as the code of the session's end, that somebody else publishes now. */
const TAKEN = 409;
/** Sound makes a group of so many packets: 100 ms. */
const SOUND_GROUP = 5;
/** More than this of the pictures waits for the network: it can't carry them. */
const MAX_WAITING_MS = 700;
/** By how much the rate falls then, how long it stays, and by how much it rises again. */
const FALL = 0.7;
const RISE = 1.15;
const RISE_EVERY_MS = 5_000;
const LEAST_BITRATE = 200_000;
const LOOK_EVERY_MS = 200;

/** Resolves with a `MoqPublication` once the session stands; rejects when it was refused. Options as of `publish`. */
export async function publishByMoq(stream, options) {
  const publication = new MoqPublication(stream, options);
  await publication.start();
  return publication;
}

/** Events: `state`, detail `{state, error}`: `connecting`, `live`, `reconnecting`, `ended`, `refused`. */
export class MoqPublication extends EventTarget {
  #options;
  #stream;
  #session = null;
  #stop = new AbortController();
  #video = null;
  #codec = null;
  #releases = [];
  #readers = { video: new Set(), audio: new Set() };
  #catalog = null;
  #catalogs = new Set();
  #sequences = { video: 0, audio: 0, catalog: 0 };
  #timer = 0;
  #risenAt = 0;
  #bytes = 0;
  #last = null;
  #leave = () => this.stop();

  constructor(stream, options) {
    super();
    this.#stream = stream;
    this.#options = { ...DEFAULTS, base: location.origin, codec: "H264", ...options };
    this.state = "idle";
    this.pc = null;
    this.transport = "moq";
  }

  async start() {
    addEventListener("pagehide", this.#leave);
    this.#tell("connecting");
    try {
      if (!canPublish()) throw new HaulError("unsupported", "This browser can't publish by Media over QUIC.");
      await this.#open();
    } catch (error) {
      const known = error instanceof HaulError ? error : new HaulError("failed", error.message);
      this.#end(known.code === "aborted" ? "ended" : "refused", known);
      throw known;
    }
  }

  /** Goes on with other tracks, without a new session. */
  async setStream(stream) {
    this.#stream = stream;
    if (!this.#session) return;
    this.#release();
    await this.#encode();
    this.#tellCatalog();
  }

  stop() {
    this.#end("ended");
  }

  /** As of `Publication`: `rttMs` and `lossRatio` are not known here. */
  async facts() {
    if (!this.#video) return null;
    const now = { at: performance.now(), bytes: this.#bytes, frames: this.#video.encoded, of: this.#video };
    const last = this.#last && this.#last.of === now.of ? this.#last : null;
    this.#last = now;
    const seconds = last ? (now.at - last.at) / 1000 : 0;
    return {
      codec: this.#codec.name,
      width: this.#codec.config.width,
      height: this.#codec.config.height,
      fps: seconds > 0 ? (now.frames - last.frames) / seconds : null,
      bitrateBps: seconds > 0 ? ((now.bytes - last.bytes) * 8) / seconds : null,
      rttMs: null,
      lossRatio: null,
      limitedBy: this.#video.bitrate < this.#options.maxBitrate ? "bandwidth" : null,
    };
  }

  async #open() {
    const { base, live, token } = this.#options;
    const session = await connect({ base, live, token, signal: this.#stop.signal });
    this.#session = session;
    for (const readers of [this.#catalogs, ...Object.values(this.#readers)]) readers.clear();
    try {
      await this.#encode();
      if (this.#stop.signal.aborted) throw new HaulError("aborted");
    } catch (error) {
      this.#session = null;
      this.#release();
      session.close();
      throw error;
    }
    session.offer((track, sender) => this.#subscribed(track, sender));
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    session.closed.then((code) => session === this.#session && this.#lost(code));
  }

  /** Takes the stream's tracks to their encoders. */
  async #encode() {
    const { maxBitrate, maxFramerate, audioBitrate, codec } = this.#options;
    const [picture] = this.#stream.getVideoTracks();
    const [sound] = this.#stream.getAudioTracks();
    const catalog = { video: { renditions: {} }, audio: { renditions: {} } };
    const container = { kind: "legacy" };
    if (picture) {
      const first = await this.#firstSize(picture);
      const found = await videoConfig({ codec, ...first, bitrate: maxBitrate, framerate: maxFramerate });
      if (!found) throw new HaulError("unsupported", "This browser can encode no pictures.");
      this.#codec = found;
      const { config } = found;
      const encoder = new PictureEncoder(config, (chunk) => this.#send("video", chunk), () => this.#restart());
      this.#video = encoder;
      let nextAt = 0;
      const least = 1e6 / maxFramerate;
      const release = capturePictures(picture, (frame) => {
        // A camera may be faster than is asked for: a little early counts as in time.
        if (frame.timestamp < nextAt) return frame.close();
        nextAt = Math.max(nextAt + least, frame.timestamp + least / 2);
        if (this.#readers.video.size === 0) {
          // Nobody reads yet: whoever begins to needs a keyframe first.
          encoder.wantKey();
          return frame.close();
        }
        return encoder.push(frame);
      });
      this.#releases.push(release, () => encoder.close());
      catalog.video.renditions.video = { codec: config.codec, codedWidth: config.width, codedHeight: config.height, container };
    }
    if (sound) {
      const encoder = new SoundEncoder(audioBitrate, (chunk) => this.#send("audio", chunk), () => this.#restart());
      const release = await captureSound(sound, (data) => encoder.push(data));
      this.#releases.push(release, () => encoder.close());
      catalog.audio.renditions.audio = { codec: "opus", sampleRate: 48_000, numberOfChannels: 2, container };
    }
    this.#catalog = catalog;
  }

  /** A track's size, which some say only with their first picture. */
  async #firstSize(track) {
    const { width, height } = track.getSettings ? track.getSettings() : {};
    if (width && height) return { width, height };
    return new Promise((resolve) => {
      const copy = track.clone();
      const release = capturePictures(copy, (frame) => {
        resolve({ width: frame.displayWidth, height: frame.displayHeight });
        frame.close();
        release();
        copy.stop();
      });
    });
  }

  #subscribed(track, sender) {
    if (track === "catalog.json") {
      this.#catalogs.add(sender);
      this.#sendCatalog(sender);
      return () => this.#catalogs.delete(sender);
    }
    const readers = this.#readers[track];
    const has = readers && this.#catalog && this.#catalog[track].renditions[track];
    if (!has) return null;
    const reader = { sender, group: null, packets: 0 };
    readers.add(reader);
    if (track === "video") this.#video.wantKey();
    this.#tell("live");
    return () => readers.delete(reader);
  }

  #sendCatalog(sender) {
    const group = sender.group(this.#sequences.catalog);
    group.push(new TextEncoder().encode(JSON.stringify(this.#catalog)));
    group.end();
  }

  #tellCatalog() {
    this.#sequences.catalog += 1;
    for (const sender of this.#catalogs) this.#sendCatalog(sender);
  }

  #send(track, { micros, data, key }) {
    const sound = track === "audio";
    const readers = this.#readers[track];
    this.#bytes += data.length;
    if (sound || key) this.#sequences[track] += 1;
    for (const reader of readers) {
      const begins = sound ? !reader.group || reader.packets >= SOUND_GROUP : key;
      if (begins) {
        if (reader.group) reader.group.end();
        reader.group = reader.sender.group(this.#sequences[track]);
        reader.packets = 0;
      }
      if (!reader.group) continue;
      reader.group.push(varint(micros), data);
      reader.packets += 1;
    }
  }

  /** Whether the network takes what is made; else less is made. */
  #look() {
    if (!this.#video) return;
    const now = performance.now();
    const most = (this.#video.bitrate / 8) * (MAX_WAITING_MS / 1000);
    let full = false;
    for (const reader of this.#readers.video) {
      if (!reader.group || reader.group.waiting <= most) continue;
      // What waits would come late. The next keyframe begins anew.
      reader.group.abort();
      reader.group = null;
      full = true;
    }
    if (full) {
      this.#risenAt = now;
      this.#video.setBitrate(Math.max(LEAST_BITRATE, Math.round(this.#video.bitrate * FALL)));
      this.#video.wantKey();
    } else if (this.#video.bitrate < this.#options.maxBitrate && now - this.#risenAt > RISE_EVERY_MS) {
      this.#risenAt = now;
      this.#video.setBitrate(Math.min(this.#options.maxBitrate, Math.round(this.#video.bitrate * RISE)));
    }
  }

  /** An encoder has failed: others, in the same session. */
  #restart() {
    if (this.#session) this.setStream(this.#stream).catch((error) => this.#end("refused", error));
  }

  #release() {
    for (const release of this.#releases) release();
    this.#releases = [];
    this.#video = null;
  }

  async #lost(code) {
    clearInterval(this.#timer);
    this.#session = null;
    this.#release();
    if (code === TAKEN) {
      this.#end("refused", new HaulError("taken", "Somebody else publishes on this live.", { status: TAKEN }));
      return;
    }
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
      }
    }
  }

  #end(state, error) {
    if (this.state === "ended" || this.state === "refused") return;
    removeEventListener("pagehide", this.#leave);
    clearInterval(this.#timer);
    this.#stop.abort();
    this.#release();
    const session = this.#session;
    this.#session = null;
    if (session) session.close();
    this.#tell(state, error);
  }

  #tell(state, error) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, error: error instanceof HaulError ? error : null } }));
  }
}
