// A track's groups as they arrive: each on a stream of its own, so that they overlap, and one may overtake another.
// Knows no clock and no decoder.

import { readFrame } from "./wire.js";

/** Groups kept at once, six seconds of sound: more come only to who has fallen far behind, and the oldest is given up. */
const MAX_GROUPS = 64;
/** Frames kept of all of them; the oldest groups are given up. */
const MAX_FRAMES = 2_000;

export class Arrivals {
  #groups = [];
  #least = 0;
  #onFrame;

  /** `onFrame(frame)` is called for each frame that arrives: `{micros, data, key}`. */
  constructor(onFrame) {
    this.#onFrame = onFrame;
    /** Groups that were given up, or that the server gave up. */
    this.lost = 0;
  }

  /** Takes a group of this number, or null if it comes too late. */
  begin(sequence, cancel) {
    if (sequence < this.#least) return null;
    const group = { sequence, cancel, frames: [], whole: false, started: false };
    const at = this.#groups.findIndex((other) => other.sequence > sequence);
    this.#groups.splice(at < 0 ? this.#groups.length : at, 0, group);
    if (this.#groups.length > MAX_GROUPS) this.skipTo(this.#groups[1].sequence);
    return {
      push: (bytes) => {
        const frame = readFrame(bytes);
        if (!frame || group.sequence < this.#least) return;
        frame.key = !group.started;
        group.started = true;
        group.frames.push(frame);
        if (this.waiting > MAX_FRAMES && this.#groups.length > 1) this.skipTo(this.#groups[1].sequence);
        this.#onFrame(frame);
      },
      end: (whole) => {
        group.whole = true;
        if (!whole && group.sequence >= this.#least) this.lost += 1;
      },
    };
  }

  /** The next frame in order, without taking it; null where it hasn't arrived. */
  peek() {
    while (this.#groups.length > 0) {
      const [group] = this.#groups;
      if (group.frames.length > 0) return group.frames[0];
      if (!group.whole) return null;
      this.#groups.shift();
      this.#least = group.sequence + 1;
    }
    return null;
  }

  take() {
    const frame = this.peek();
    if (frame) this.#groups[0].frames.shift();
    return frame;
  }

  /**
   * Gives up what stands before the latest group whose first frame `isDue`: it would come late, and the group is whole in
   * itself. Returns whether there was anything to give up.
   */
  dropToLive(isDue) {
    for (let i = this.#groups.length - 1; i > 0; i -= 1) {
      const [first] = this.#groups[i].frames;
      if (first && first.key && isDue(first)) return this.skipTo(this.#groups[i].sequence);
    }
    return false;
  }

  /** Gives up the group at the head, for one that follows: its frames can't be decoded. */
  skipGroup() {
    if (this.#groups.length > 0) this.skipTo(this.#groups[0].sequence + 1);
  }

  /** Gives up every group before `sequence`. */
  skipTo(sequence) {
    let skipped = false;
    while (this.#groups.length > 0 && this.#groups[0].sequence < sequence) {
      const group = this.#groups.shift();
      if (group.whole && group.frames.length === 0) continue;
      skipped = true;
      this.lost += 1;
      if (!group.whole) group.cancel();
    }
    this.#least = Math.max(this.#least, sequence);
    return skipped;
  }

  get waiting() {
    return this.#groups.reduce((sum, { frames }) => sum + frames.length, 0);
  }
}
