// Watching a live by whichever way works: WebRTC first or MoQ first, and the other where the first does not come about or breaks.

import { Player } from "./watch.js";
import { Ways } from "./ways.js";

const LOOK_EVERY_MS = 500;

/**
 * Watches a live in `video`. Options as of `watch`, and `transport`: `webrtc` (the default) or `moq`, which is tried first; the
 * other follows where it fails. Returns a `LivePlayer` at once.
 */
export function play(options) {
  const player = new LivePlayer(options);
  player.start();
  return player;
}

/** What a browser must have to play by MoQ. */
function knowsMoq() {
  return ["VideoDecoder", "AudioDecoder"].every((name) => name in globalThis);
}

/**
 * A `Player` whose way may change. Besides its events there is `transport` when another way is taken, detail
 * `{transport}`.
 */
export class LivePlayer extends EventTarget {
  #options;
  #player = null;
  #ways = new Ways();
  #look = 0;
  /** The server has said that it speaks no MoQ. */
  #moqOff = false;
  #over = false;
  #unmuted = false;

  constructor({ transport = "webrtc", ...options }) {
    super();
    this.#options = options;
    /** `webrtc` or `moq`: what plays, or is being tried. */
    this.transport = transport === "moq" && knowsMoq() ? "moq" : "webrtc";
  }

  get state() {
    return this.#over ? "ended" : this.#player ? this.#player.state : "connecting";
  }

  get blocked() {
    return Boolean(this.#player && this.#player.blocked);
  }

  get soundOnly() {
    return Boolean(this.#player && this.#player.soundOnly);
  }

  set soundOnly(only) {
    if (this.#player) this.#player.soundOnly = only;
  }

  get sessionId() {
    return this.#player ? this.#player.sessionId : null;
  }

  get pc() {
    return this.#player ? this.#player.pc : null;
  }

  start() {
    this.#ways.begin(performance.now());
    this.#look = setInterval(() => this.#judge(), LOOK_EVERY_MS);
    this.#take(this.transport);
  }

  rejoin() {
    if (this.#player) this.#player.rejoin();
  }

  hurry() {
    if (this.#player) this.#player.hurry();
  }

  setToken(token) {
    this.#options.token = token;
    if (this.#player) this.#player.setToken(token);
  }

  /** Takes a rendition by its name, or `auto`, where that is the player's to decide: over MoQ. Returns whether it is. */
  choose(choice) {
    if (!this.#player || !this.#player.choose) return false;
    this.#player.choose(choice);
    return true;
  }

  /** Takes this way now, and the other where it fails. Returns whether it is tried. */
  prefer(transport) {
    return transport !== this.transport && this.#other();
  }

  /** What plays over MoQ; null over WebRTC, whose `pc` has statistics. */
  facts() {
    return this.#player && this.#player.facts ? this.#player.facts() : null;
  }

  stop() {
    this.#over = true;
    clearInterval(this.#look);
    if (this.#player) this.#player.stop();
  }

  async #take(transport) {
    this.transport = transport;
    if (transport === "webrtc") {
      this.#begin(Player);
      return;
    }
    // Most viewers never need it.
    const moq = await import("./moq/watch.js").catch(() => null);
    if (this.#over) return;
    if (moq) this.#begin(moq.MoqPlayer);
    else this.#take("webrtc");
  }

  #begin(Way) {
    const player = new Way(this.#options);
    this.#player = player;
    this.#ways.begin(performance.now());
    for (const type of ["state", "blocked", "session", "quality"]) {
      player.addEventListener(type, ({ detail }) => {
        if (player !== this.#player) return;
        if (type === "session") this.#ways.answered(performance.now());
        if (type === "state" && this.#hasFailed(detail)) return;
        this.dispatchEvent(new CustomEvent(type, { detail }));
      });
    }
    player.start();
    if (this.#unmuted) this.#options.video.muted = false;
  }

  /** Whether this state shows that this way leads nowhere; then the other is taken. */
  #hasFailed({ state, error }) {
    const code = error ? error.code : null;
    if (code === "moq_off") this.#moqOff = true;
    this.#ways.heard(state, performance.now(), code === "network" && error.why !== "no_session");
    return this.#judge();
  }

  #judge() {
    if (!this.#player) return false;
    const { pc } = this.#player;
    const broken = Boolean(pc) && pc.connectionState !== "connected";
    return this.#ways.due(performance.now(), { online: navigator.onLine, broken }) && this.#other();
  }

  #other() {
    const transport = this.transport === "webrtc" ? "moq" : "webrtc";
    if (this.#over || !this.#player || (transport === "moq" && (this.#moqOff || !knowsMoq()))) return false;
    this.#ways.turn(performance.now());
    const before = this.#player;
    // Who had turned the sound on hears it by the other way, too.
    this.#unmuted = !this.#options.video.muted;
    this.#player = null;
    before.stop();
    this.#take(transport);
    this.dispatchEvent(new CustomEvent("transport", { detail: { transport } }));
    return true;
  }
}
