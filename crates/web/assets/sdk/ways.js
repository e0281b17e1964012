// When a way of watching is given up for the other. Time is an argument, and nothing here waits.

/** A way that is still connecting after so long: something on the network is in its way. */
const CONNECT_MAX_MS = 6_000;
/** A way whose session stands, and that shows nothing for so long though the host sends. */
const STALLED_MS = 12_000;
/** A way that has played, and has no connection for so long though the server answers: its packets are held up on the way. */
const LOST_MS = 8_000;
/** Pictures that have moved for so long show that a way works: what failed before counts no more. */
const STEADY_MS = 20_000;
/** Each way is tried again once; then what fails is more than one way, and pauses begin. */
const QUICK_TURNS = 2;
/** After those, how long a turn is away from the one before: doubles each time, up to the most. */
const TURN_AFTER_MS = 15_000;
const TURN_AFTER_MOST_MS = 300_000;

/**
 * Judges by a player's states whether the way that it takes leads nowhere. Where the host is away, not even HTTP answers,
 * or who watches is refused, the other way has no better prospects.
 */
export class Ways {
  #state = "connecting";
  #since = 0;
  #hasPlayed = false;
  #unanswered = false;
  #turns = 0;
  #turnedAt = 0;

  /** A way is taken from now on: the first, or the other. */
  begin(now) {
    this.#hasPlayed = false;
    this.#tell("connecting", now);
  }

  /** The player is in another state, or has said the same again. `unanswered`: since the server could not be asked. */
  heard(state, now, unanswered = false) {
    if (state === this.#state && unanswered === this.#unanswered) return;
    if (state === "playing") this.#hasPlayed = true;
    // A connection that was gone while the player was away goes on being gone.
    const since = this.#state === "away" && state === "reconnecting" && this.#hasPlayed ? this.#since : now;
    this.#tell(state, since, unanswered);
  }

  /** The server has answered: the live is on air, and what is missing now is the connection. */
  answered(now) {
    if (this.#unanswered) this.#tell(this.#hasPlayed ? this.#state : "connecting", now);
  }

  /**
   * Whether the other way is due. `online`: what the browser says; `broken`: that the connection of a player which is away is
   * known not to stand.
   */
  due(now, { online, broken }) {
    // Neither the time that an absent network has taken is the way's fault, nor that of a host who is away.
    if (!online || (this.#state === "away" && this.#hasPlayed && !broken)) this.#since = now;
    if (this.#state === "playing" && now - this.#since >= STEADY_MS) this.#turns = 0;
    const lost = ["connecting", "reconnecting"].includes(this.#state) || broken;
    if (!online || now - this.#since < this.#patience()) return false;
    if (this.#turns < QUICK_TURNS) return true;
    // A host who sends nothing, or nothing that can be decoded, does so by either.
    return lost && now - this.#turnedAt >= this.#pause();
  }

  /** The other way is taken. */
  turn(now) {
    this.#turns += 1;
    this.#turnedAt = now;
    this.begin(now);
  }

  #patience() {
    switch (this.#state) {
      case "connecting":
        return CONNECT_MAX_MS;
      case "reconnecting":
        if (this.#unanswered) return Infinity;
        return this.#hasPlayed ? LOST_MS : 0;
      case "away":
        return this.#hasPlayed ? LOST_MS : STALLED_MS;
      case "unsupported":
        return this.#hasPlayed ? Infinity : 0;
      default:
        return Infinity;
    }
  }

  #pause() {
    return Math.min(TURN_AFTER_MOST_MS, TURN_AFTER_MS * 2 ** Math.min(this.#turns - QUICK_TURNS, 10));
  }

  #tell(state, since, unanswered = false) {
    this.#state = state;
    this.#since = since;
    this.#unanswered = unanswered;
  }
}
