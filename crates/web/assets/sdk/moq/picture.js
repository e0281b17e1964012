// Pictures of a track: decoded a moment before they are due, drawn when they are.

import { Arrivals } from "./arrivals.js";

/** Decoders on phones hold few pictures: no more is decoded ahead than is needed to hide a slow one. */
const AHEAD_MS = 100;
const MAX_DECODING = 8;
const MAX_DECODED = 8;
/** So many failures without a picture between them, and the browser can't decode it. */
const MAX_FAILURES = 3;

export class Picture {
  #config;
  #playout;
  #canvas;
  #decoder = null;
  #decoded = [];
  #needsKey = true;
  #failures = 0;
  #onFailed;

  /** `onFailed` is called when the browser can't decode what comes. */
  constructor({ config, playout, canvas, onArrival, onFailed }) {
    this.#config = config;
    this.#playout = playout;
    this.#canvas = canvas;
    this.#onFailed = onFailed;
    this.arrivals = new Arrivals((frame) => onArrival(frame));
    this.shown = 0;
    /** Decoded, but too late to be shown. */
    this.dropped = 0;
    /** The time of the picture on the canvas, in ms; null before there is one. */
    this.shownMs = null;
  }

  /** Decodes and draws what is due `now`. */
  pump(now) {
    const due = ({ micros }) => this.#playout.dueWithSound(micros / 1000, now);
    if (this.arrivals.dropToLive((frame) => due(frame) <= now)) this.#needsKey = true;
    this.#decode(now, due);
    this.#show(now, due);
  }

  close() {
    for (const { picture } of this.#decoded) picture.close();
    this.#decoded = [];
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.arrivals.skipTo(Infinity);
  }

  #decode(now, due) {
    for (let next = this.arrivals.peek(); next; next = this.arrivals.peek()) {
      const decoding = this.#decoder ? this.#decoder.decodeQueueSize : 0;
      // What is shown already is decoded at once: the pictures after it need it.
      const full = decoding >= MAX_DECODING || (this.#decoded.length >= MAX_DECODED && due(next) > now);
      if (full || due(next) - now > AHEAD_MS) return;
      const { micros, data, key } = this.arrivals.take();
      if (this.#needsKey && !key) continue;
      if (key) this.#needsKey = false;
      if (!this.#decoder || this.#decoder.state === "closed") this.#open();
      try {
        this.#decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp: micros, data }));
      } catch (error) {
        this.#broken(error);
      }
    }
  }

  #open() {
    const decoder = new VideoDecoder({
      output: (picture) => {
        if (decoder !== this.#decoder) return picture.close();
        this.#failures = 0;
        this.#decoded.push({ micros: picture.timestamp, picture });
        return undefined;
      },
      error: (error) => decoder === this.#decoder && this.#broken(error),
    });
    this.#decoder = decoder;
    decoder.configure(this.#config);
  }

  /** What can't be decoded may have been damaged: another group, another decoder. */
  #broken() {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = null;
    this.#needsKey = true;
    this.arrivals.skipGroup();
    this.#failures += 1;
    if (this.#failures >= MAX_FAILURES) this.#onFailed();
  }

  #show(now, due) {
    let latest = null;
    while (this.#decoded.length > 0 && due(this.#decoded[0]) <= now) {
      if (latest) {
        latest.picture.close();
        this.dropped += 1;
      }
      latest = this.#decoded.shift();
    }
    if (!latest) return;
    const { picture, micros } = latest;
    const { displayWidth: width, displayHeight: height } = picture;
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
    this.#canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
    picture.close();
    this.shown += 1;
    this.shownMs = micros / 1000;
  }
}
