// Watching a live over WHEP, and staying with it: before the host comes, while the host is away, when the network goes.

import { HaulError, backoffMs, pause } from "./error.js";
import { Session, statsOf } from "./session.js";

const REFUSED = new Set([400, 401, 403, 405, 413, 415]);
const LOOK_EVERY_MS = 500;
// By the status of a refusal that may pass. Any other is a connection that broke.
const STATES = new Map([[404, "waiting"], [409, "waiting"], [406, "unsupported"], [429, "busy"], [503, "busy"]]);
// The host may come back with another codec, which is seldom.
const UNSUPPORTED_WAIT_MS = 10_000;
// Longer than the gaps that loss and a slow encoder make, shorter than a viewer's patience.
const AWAY_AFTER_MS = 2_500;

/**
 * Watches a live in `video` (a <video> element). Options: `live`, `token` (none for a public live), `video`, `base`.
 * Returns a `Player` at once; its `state` events tell how it goes.
 */
export function watch(options) {
  const player = new Player(options);
  player.start();
  return player;
}

/**
 * Events: `state`, detail `{state, error}`, and `blocked` when the browser wants a tap before anything plays.
 *
 * `waiting`: no host yet, it joins by itself. `connecting`. `playing`: pictures move. `away`: the session stands, but
 * nothing comes, the host is away; goes on by itself. `reconnecting`. `busy`: the server has no room, asks again by
 * itself. `unsupported`: this browser can't decode what the host sends, the error says which codec; asks again by itself.
 * With the error's code `no_webrtc` it can't receive at all, and nothing is asked.
 * `refused`: a token is needed or was refused. `ended`: after `stop()`.
 *
 * `session` when another media session stands: see `sessionId`.
 */
export class Player extends EventTarget {
  #options;
  #session = null;
  #stop = new AbortController();
  #hurry = null;
  #run = null;
  #look = 0;
  #packets = 0;
  #movedAt = 0;
  #leave = () => this.#session && this.#session.close();
  #back = (event) => event.persisted && this.rejoin();
  #online = () => this.#hurry && this.#hurry();

  constructor({ base = location.origin, ...options }) {
    super();
    this.#options = { base, ...options };
    this.state = "idle";
    /** The browser has refused to play before somebody taps. */
    this.blocked = false;
    /** The server sends sound alone for now, see `Quality`: then it is sound that shows whether the host is there. */
    this.soundOnly = false;
  }

  /** The media session's id at the server, or null. */
  get sessionId() {
    return this.#session ? this.#session.id : null;
  }

  get pc() {
    return this.#session ? this.#session.pc : null;
  }

  start() {
    const { video } = this.#options;
    // As attributes too: Safari reads those, and plays neither inline nor by itself without them.
    video.muted = true;
    video.autoplay = true;
    video.playsInline = true;
    for (const name of ["muted", "autoplay", "playsinline"]) video.setAttribute(name, "");
    if (!("RTCPeerConnection" in window)) {
      this.#tell("unsupported", new HaulError("no_webrtc", "this browser has no WebRTC"));
      return;
    }
    addEventListener("pagehide", this.#leave);
    addEventListener("pageshow", this.#back);
    addEventListener("online", this.#online);
    this.#look = setInterval(() => this.#onLook(), LOOK_EVERY_MS);
    this.#join("connecting");
  }

  /** Makes a new session, for instance because another source says that there is a picture and none comes. */
  rejoin() {
    if (this.#stop.signal.aborted) return;
    if (this.#session) this.#session.close();
    this.#join("reconnecting");
  }

  /** Asks again at once if it is waiting for a host. */
  hurry() {
    if (this.#hurry) this.#hurry();
  }

  /** Goes on with another token. */
  setToken(token) {
    const refused = this.state === "refused";
    this.#options.token = token;
    if (refused) this.#join("connecting");
  }

  /** Leaves. */
  stop() {
    this.#stop.abort();
    clearInterval(this.#look);
    removeEventListener("pagehide", this.#leave);
    removeEventListener("pageshow", this.#back);
    removeEventListener("online", this.#online);
    if (this.#session) this.#session.close();
    this.#session = null;
    this.#options.video.srcObject = null;
    this.#tell("ended");
  }

  async #join(state) {
    // Each round is a run of its own; an older one that wakes up late sees that and ends.
    const run = (this.#run = {});
    this.#tell(state);
    for (let attempt = 0; run === this.#run; attempt += 1) {
      try {
        await this.#open();
        return;
      } catch (error) {
        if (error.code === "aborted" || this.#stop.signal.aborted || run !== this.#run) return;
        if (REFUSED.has(error.status)) {
          this.#tell("refused", error);
          return;
        }
        const state = STATES.get(error.status) || "reconnecting";
        this.#tell(state, error);
        if (state === "unsupported") error.retryAfterMs = UNSUPPORTED_WAIT_MS;
        // Spread a little, or a whole audience would come in the same instant.
        const wait = error.retryAfterMs ? error.retryAfterMs * (1 + Math.random() * 0.25) : backoffMs(attempt);
        await Promise.race([
          pause(wait, this.#stop.signal).catch(() => {}),
          new Promise((resolve) => (this.#hurry = resolve)),
        ]);
        if (run === this.#run) this.#hurry = null;
      }
    }
  }

  async #open() {
    const { base, live, token, video } = this.#options;
    const session = new Session({
      token,
      onLost: () => {
        if (session === this.#session) this.#join("reconnecting");
      },
    });
    this.#session = session;
    const { pc } = session;
    for (const kind of ["video", "audio"]) pc.addTransceiver(kind, { direction: "recvonly" });
    try {
      await session.open(new URL(`/whep/${encodeURIComponent(live)}`, base).href, this.#stop.signal);
    } catch (error) {
      session.close();
      throw error;
    }
    this.#packets = 0;
    this.#movedAt = performance.now();
    // Of what the host sends only: an element waits for the first picture of a track that will never have one.
    video.srcObject = new MediaStream(received(pc));
    this.soundOnly = false;
    this.#play();
    this.dispatchEvent(new CustomEvent("session"));
  }

  #play() {
    const { video } = this.#options;
    const played = video.play();
    if (!played) return;
    played.catch((error) => {
      if (error.name !== "NotAllowedError") return;
      this.blocked = true;
      this.dispatchEvent(new CustomEvent("blocked"));
    });
  }

  async #onLook() {
    const session = this.#session;
    if (!session || session.pc.connectionState !== "connected") return;
    const report = await session.pc.getStats();
    if (session !== this.#session) return;
    // The host may send none at all.
    const soundOnly = this.soundOnly || !received(session.pc).some(({ kind }) => kind === "video");
    const inbound = statsOf(report, "inbound-rtp", soundOnly ? "audio" : "video")[0];
    const packets = inbound ? inbound.packetsReceived || 0 : 0;
    const decoded = inbound ? inbound.framesDecoded || 0 : 0;
    const now = performance.now();
    if (packets !== this.#packets) {
      this.#packets = packets;
      this.#movedAt = now;
      if (decoded > 0 || soundOnly || document.visibilityState === "hidden") this.#tell("playing");
    } else if (now - this.#movedAt > AWAY_AFTER_MS) {
      this.#tell("away");
    }
  }

  #tell(state, error = null) {
    if (state === this.state && !error) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, error } }));
  }
}

/** The tracks that the answer has agreed to. */
function received(pc) {
  const agreed = pc.getTransceivers().filter(({ currentDirection }) => currentDirection === "recvonly");
  return agreed.map(({ receiver }) => receiver.track);
}
