// When a frame is shown: as late as the network's jitter makes necessary, and no later. Pure: time is an argument.

/** How far back jitter is looked at, in slices. */
const SLICE_MS = 1_000;
const SLICES = 8;
/** What the pictures' way through decoder and screen takes, beside the jitter. */
const MARGIN_MS = 40;
const LEAST_MS = 60;
const MOST_MS = 1_500;
/** How fast the delay shrinks again, of each second. Nobody notices one in fifty. */
const SHRINK_PER_MS = 0.02;
/** A jump of the host's time by so much is another beginning. */
const JUMP_MS = 10_000;

export class Playout {
  #slices = [];
  #offset = null;
  #at = 0;
  /** What sound that is being heard says of the difference between both times. */
  #heard = null;

  /**
   * A frame of this time, in ms, arrived `now`. `settled` is false for what a newcomer is sent at first: it began before they
   * came and comes all at once, which says nothing about jitter.
   */
  arrive(mediaMs, now, settled) {
    const late = now - mediaMs;
    const before = this.#slices.at(-1);
    if (before && Math.abs(late - before.least) > JUMP_MS) {
      this.#slices = [];
      this.#offset = null;
      this.#heard = null;
    }
    let slice = this.#slices.at(-1);
    if (!slice || now - slice.at >= SLICE_MS) {
      slice = { at: now, least: late, most: null };
      this.#slices.push(slice);
      if (this.#slices.length > SLICES) this.#slices.shift();
    }
    slice.least = Math.min(slice.least, late);
    if (settled) slice.most = Math.max(slice.most ?? late, late);
    this.#steer(now);
  }

  #steer(now) {
    const least = Math.min(...this.#slices.map((slice) => slice.least));
    const most = Math.max(...this.#slices.map((slice) => slice.most ?? -Infinity), least);
    const wanted = least + Math.min(MOST_MS, Math.max(LEAST_MS, most - least + MARGIN_MS));
    const settling = this.#slices.every((slice) => slice.most === null);
    if (this.#offset === null || wanted > this.#offset || settling) this.#offset = wanted;
    else this.#offset = Math.max(wanted, this.#offset - (now - this.#at) * SHRINK_PER_MS);
    this.#at = now;
  }

  /** When a frame of this time is due; infinity before anything has arrived. */
  due(mediaMs) {
    return this.#offset === null ? Infinity : mediaMs + this.#offset;
  }

  /** When a picture of this time is due: with the sound, while sound is heard. */
  dueWithSound(mediaMs, now) {
    const heard = this.#heard;
    return heard && now < heard.until ? mediaMs + heard.offset : this.due(mediaMs);
  }

  /** Sound of this time is heard at `atMs`, and nothing is known of it after `until`. */
  heard(mediaMs, atMs, until) {
    this.#heard = { offset: atMs - mediaMs, until };
  }

  /** How long frames wait for those that come late, in ms. */
  get delayMs() {
    const least = Math.min(...this.#slices.map((slice) => slice.least));
    return this.#offset === null ? null : this.#offset - least;
  }
}
