// An AudioWorklet that hands on what it hears, in pieces of 20 ms at 48 kHz: what Opus makes a packet of.

const SAMPLES = 960;

class Tap extends AudioWorkletProcessor {
  #piece = new Float32Array(2 * SAMPLES);
  #filled = 0;

  process([input]) {
    const left = input[0];
    if (!left) return true;
    const right = input[1] || left;
    for (let at = 0; at < left.length; ) {
      const count = Math.min(left.length - at, SAMPLES - this.#filled);
      this.#piece.set(left.subarray(at, at + count), this.#filled);
      this.#piece.set(right.subarray(at, at + count), SAMPLES + this.#filled);
      this.#filled += count;
      at += count;
      if (this.#filled < SAMPLES) continue;
      this.port.postMessage(this.#piece, [this.#piece.buffer]);
      this.#piece = new Float32Array(2 * SAMPLES);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("haul-tap", Tap);
