// Sound of a track: decoded, and laid on the audio context's time line piece by piece, without gaps. Pieces are scheduled
// rather than handed to a worklet: the context then keeps time to the sample by itself, and the queue is its own.

import { Arrivals } from "./arrivals.js";

/** Pieces are laid out this far ahead of when they are heard: longer than a busy page keeps us waiting. */
const AHEAD_MS = 300;
const MAX_DECODING = 30;
/** Clocks drift and delays change: from this difference on, sound jumps to where it should be. */
const TOLERANCE_MS = 30;
/** Pieces remembered for `heardMs`. */
const MAX_LAID = 50;

export class Sound {
  #config;
  #playout;
  #context;
  #gain;
  #decoder = null;
  /** Where on the context's time line the next piece begins, in seconds; null after a gap. */
  #next = null;
  #laid = [];

  /** `context` is an `AudioContext` and `output` a node of it; nothing is decoded while the context is suspended. */
  constructor({ config, playout, context, output, onArrival }) {
    this.#config = config;
    this.#playout = playout;
    this.#context = context;
    this.#gain = output;
    this.arrivals = new Arrivals((frame) => onArrival(frame));
    this.heard = 0;
  }

  pump(now) {
    const due = ({ micros }) => this.#playout.due(micros / 1000);
    this.arrivals.dropToLive((frame) => due(frame) <= now);
    const running = this.#context.state === "running";
    for (let next = this.arrivals.peek(); next && due(next) - now <= AHEAD_MS; next = this.arrivals.peek()) {
      if (this.#decoder && this.#decoder.decodeQueueSize > MAX_DECODING) return;
      const { micros, data } = this.arrivals.take();
      // What is past is not heard any more.
      if (!running || due({ micros }) < now - TOLERANCE_MS) continue;
      if (!this.#decoder || this.#decoder.state === "closed") this.#open();
      try {
        this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: micros, data }));
      } catch {
        this.#decoder = null;
      }
    }
  }

  /** The time of what is being heard, in ms; null in silence. */
  heardMs() {
    const at = this.#context.currentTime - latency(this.#context);
    const piece = this.#laid.findLast(({ start }) => start <= at);
    return piece && at <= piece.end ? piece.micros / 1000 + (at - piece.start) * 1000 : null;
  }

  close() {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    for (const { node } of this.#laid) node.disconnect();
    this.#laid = [];
    this.arrivals.skipTo(Infinity);
  }

  #open() {
    const decoder = new AudioDecoder({
      output: (piece) => {
        if (decoder === this.#decoder) this.#lay(piece);
        piece.close();
      },
      error: () => decoder === this.#decoder && (this.#decoder = null),
    });
    this.#decoder = decoder;
    decoder.configure(this.#config);
  }

  #lay(piece) {
    const context = this.#context;
    const { numberOfFrames: samples, numberOfChannels: channels, sampleRate, timestamp } = piece;
    const buffer = context.createBuffer(channels, samples, sampleRate);
    for (let channel = 0; channel < channels; channel += 1) {
      piece.copyTo(buffer.getChannelData(channel), { planeIndex: channel, format: "f32-planar" });
    }
    const now = performance.now();
    const away = latency(context);
    const due = context.currentTime - away + (this.#playout.due(timestamp / 1000) - now) / 1000;
    if (this.#next === null || Math.abs(due - this.#next) * 1000 > TOLERANCE_MS) this.#next = due;
    const start = Math.max(this.#next, context.currentTime);
    const seconds = samples / sampleRate;
    const node = context.createBufferSource();
    node.buffer = buffer;
    node.connect(this.#gain);
    node.start(start);
    this.#next = start + seconds;
    this.#laid.push({ micros: timestamp, start, end: this.#next, node });
    if (this.#laid.length > MAX_LAID) this.#laid.shift();
    this.heard += 1;
    const heardAt = now + (start + away - context.currentTime) * 1000;
    this.#playout.heard(timestamp / 1000, heardAt, heardAt + seconds * 1000 + 500);
  }
}

/** Seconds from the context's time line to the ear. */
function latency(context) {
  return context.outputLatency || context.baseLatency || 0;
}
