// The server's clock, as well as it can be known from here.
//
// The local wall clock may be wrong by minutes and may jump, so time is counted by `performance.now()` from the best
// round trip seen lately: the shorter the trip, the less the answer can be off (by half the trip at most).

const SAMPLES_MAX = 8;
const SAMPLE_AGE_MAX_MS = 10 * 60_000;
// `performance.now()` may stand still while a device sleeps; if it and the wall clock disagree by more, it did.
const SLEEP_MS = 2_000;

export class ServerClock {
  #samples = [];
  #best = null;

  /** Takes in that the server's clock read `serverTime` between `sentAt` and `receivedAt` (of `performance.now()`). */
  sample(serverTime, sentAt, receivedAt) {
    const rttMs = Math.max(0, receivedAt - sentAt);
    const skew = serverTime + rttMs / 2 - receivedAt;
    if (this.slept()) this.#samples = [];
    this.#samples = this.#samples.filter((sample) => receivedAt - sample.at < SAMPLE_AGE_MAX_MS).slice(1 - SAMPLES_MAX);
    this.#samples.push({ rttMs, skew, at: receivedAt, wall: Date.now() - receivedAt });
    this.#best = this.#samples.reduce((best, sample) => (sample.rttMs < best.rttMs ? sample : best));
  }

  /** Whether this device slept since the best sample, so that a new one is due. */
  slept() {
    return this.#best !== null && Math.abs(Date.now() - performance.now() - this.#best.wall) > SLEEP_MS;
  }

  /** Milliseconds since 1970 by the server's clock; by this device's before the first sample. */
  now() {
    return this.#best === null ? Date.now() : performance.now() + this.#best.skew;
  }

  /** The best round trip known, or null. */
  get rttMs() {
    return this.#best === null ? null : this.#best.rttMs;
  }
}
