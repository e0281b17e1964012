// Watching a live over MoQ: the same states and events as the player for WebRTC, and the same <video> element, so that a page
// need not know which of them plays.

import { backoffMs, pause } from "../error.js";
import { Picture } from "./picture.js";
import { Playout } from "./playout.js";
import { connect } from "./session.js";
import { Sound } from "./sound.js";

const REFUSED = new Set([400, 401, 403, 405]);
const STATES = new Map([[404, "waiting"], [409, "waiting"], [429, "busy"], [503, "busy"]]);
/** As for WebRTC. */
const AWAY_AFTER_MS = 2_500;
const PUMP_EVERY_MS = 15;
/** Pictures of which it is remembered how far from the sound they were. */
const MAX_APART = 50;
const LOOK_EVERY_MS = 500;
/** What comes of a track in this time after its first frame may have been waiting at the server. */
const SETTLE_MS = 1_000;
/** Delivery priorities, as the catalog's format has them. */
const CATALOG_PRIORITY = 100;
const AUDIO_PRIORITY = 80;
const VIDEO_PRIORITY = 60;
/** Groups lost in this time, and a smaller rendition is taken; when none was for so long, a larger one is tried. */
const LOSS_WINDOW_MS = 8_000;
const LOSSES = 2;
const RISE_AFTER_MS = 20_000;
const RISE_AFTER_MOST_MS = 160_000;
/** The host may come back with another codec, which is seldom. */
const UNSUPPORTED_WAIT_MS = 10_000;

/**
 * Events as of `Player`, and `quality` when there is news of the renditions, detail `{pictures, layer, choice, reason,
 * layers}` as of `Quality`. Has no `pc` and no `sessionId`.
 */
export class MoqPlayer extends EventTarget {
  #options;
  #stop = new AbortController();
  #run = null;
  #hurry = null;
  #session = null;
  #catalog = null;
  #playout = new Playout();
  #picture = null;
  #sound = null;
  /** Of pictures, and of sound: what ends the subscription, and what the catalog said of the track. */
  #unsubscribe = [null, null];
  #taken = [null, null];
  #canvas = document.createElement("canvas");
  #context = null;
  #output = null;
  #meter = null;
  #timers = [];
  #movedAt = 0;
  #apart = [];
  #choice = "auto";
  #rank = 0;
  #losses = [];
  #changedAt = 0;
  #riseAfterMs = RISE_AFTER_MS;
  #leave = () => this.#session && this.#session.close();
  #back = (event) => event.persisted && this.rejoin();
  #online = () => this.hurry();
  #volume = () => this.#listen();

  constructor({ base = location.origin, ...options }) {
    super();
    this.#options = { base, ...options };
    this.state = "idle";
    this.blocked = false;
    this.soundOnly = false;
    this.pc = null;
    this.sessionId = null;
    this.transport = "moq";
  }

  start() {
    const { video } = this.#options;
    video.muted = true;
    video.autoplay = true;
    video.playsInline = true;
    for (const name of ["muted", "autoplay", "playsinline"]) video.setAttribute(name, "");
    // Sound has a way of its own, which the element's volume governs.
    this.#context = new AudioContext({ latencyHint: "interactive", sampleRate: 48_000 });
    this.#output = this.#context.createGain();
    this.#meter = this.#context.createAnalyser();
    this.#output.connect(this.#context.destination);
    this.#output.connect(this.#meter);
    this.#listen();
    video.addEventListener("volumechange", this.#volume);
    addEventListener("pagehide", this.#leave);
    addEventListener("pageshow", this.#back);
    addEventListener("online", this.#online);
    this.#timers = [
      setInterval(() => this.#pump(), PUMP_EVERY_MS),
      setInterval(() => this.#look(), LOOK_EVERY_MS),
    ];
    this.#join("connecting");
  }

  rejoin() {
    if (this.#stop.signal.aborted) return;
    this.#join("reconnecting");
  }

  hurry() {
    if (this.#hurry) this.#hurry();
  }

  setToken(token) {
    const refused = this.state === "refused";
    this.#options.token = token;
    if (refused) this.#join("connecting");
  }

  /** Takes a rendition by its name, or `auto`. */
  choose(choice) {
    this.#choice = choice;
    const renditions = this.#renditions();
    const index = renditions.findIndex(({ name }) => name === choice);
    if (choice !== "auto" && index < 0) this.#choice = "auto";
    if (index >= 0 && index !== this.#rank) this.#take(index);
    this.#tellQuality();
  }

  /**
   * What plays: `{carrier, codec, width, height, shown, dropped, lost, heard, level, delayMs, apartMs}`. `level` is the loudness of
   * now, 0 in silence; `carrier` is `quic` or `websocket`, null between sessions; `apartMs` is how far pictures were behind the sound when they were drawn, the median of the latest, null
   * where there are none.
   */
  facts() {
    const [picture, sound] = [this.#picture, this.#sound];
    const rendition = this.#renditions()[this.#rank];
    const apart = this.#apart.slice().sort((a, b) => a - b);
    const samples = new Float32Array(this.#meter ? this.#meter.fftSize : 0);
    if (this.#meter) this.#meter.getFloatTimeDomainData(samples);
    return {
      carrier: this.#session ? this.#session.carrier : null,
      codec: rendition ? rendition.codec : null,
      width: this.#canvas.width,
      height: this.#canvas.height,
      shown: picture ? picture.shown : 0,
      dropped: picture ? picture.dropped : 0,
      lost: picture ? picture.arrivals.lost : 0,
      heard: sound ? sound.heard : 0,
      level: samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0),
      delayMs: this.#playout.delayMs,
      apartMs: apart.length > 0 ? apart[apart.length >> 1] : null,
    };
  }

  stop() {
    this.#stop.abort();
    this.#run = null;
    this.#timers.forEach(clearInterval);
    const { video } = this.#options;
    video.removeEventListener("volumechange", this.#volume);
    removeEventListener("pagehide", this.#leave);
    removeEventListener("pageshow", this.#back);
    removeEventListener("online", this.#online);
    this.#end();
    if (this.#context) this.#context.close().catch(() => {});
    this.#context = null;
    this.#meter = null;
    video.srcObject = null;
    this.#tell("ended");
  }

  async #join(state) {
    const run = (this.#run = {});
    this.#end();
    this.#tell(state);
    for (let attempt = 0; run === this.#run; attempt += 1) {
      let wait = 0;
      try {
        const { base, live, token } = this.#options;
        const session = await connect({ base, live, token, signal: this.#stop.signal });
        if (run !== this.#run) {
          session.close();
          return;
        }
        attempt = 0;
        await this.#play(run, session);
        if (run !== this.#run) return;
        if (this.state === "unsupported") wait = UNSUPPORTED_WAIT_MS;
        else this.#tell("reconnecting");
      } catch (error) {
        if (error.code === "aborted" || run !== this.#run) return;
        if (REFUSED.has(error.status)) {
          this.#tell("refused", error);
          return;
        }
        this.#tell(STATES.get(error.status) || "reconnecting", error);
        if (error.retryAfterMs) wait = error.retryAfterMs * (1 + Math.random() * 0.25);
      }
      await Promise.race([
        pause(wait || backoffMs(attempt), this.#stop.signal).catch(() => {}),
        new Promise((resolve) => (this.#hurry = resolve)),
      ]);
      if (run === this.#run) this.#hurry = null;
    }
  }

  /** Plays until the session ends. */
  async #play(run, session) {
    this.#session = session;
    let unsubscribe = () => {};
    session.follow((there) => {
      if (run !== this.#run) return;
      unsubscribe();
      this.#forget();
      unsubscribe = () => {};
      // Another broadcast has another time.
      this.#playout = new Playout();
      this.#movedAt = performance.now();
      if (there) unsubscribe = this.#readCatalogs(run, session);
      else this.#tell(["playing", "away"].includes(this.state) ? "away" : "waiting");
    });
    this.dispatchEvent(new CustomEvent("session"));
    await session.closed;
    if (run === this.#run) this.#end();
  }

  #readCatalogs(run, session) {
    return session.subscribe("catalog.json", CATALOG_PRIORITY, {
      onGroup: () => ({
        push: (bytes) => run === this.#run && this.#read(bytes),
        end: () => {},
      }),
      // That the broadcast is gone is told besides.
      onEnd: () => {},
    });
  }

  #end() {
    this.#forget();
    if (this.#session) this.#session.close();
    this.#session = null;
  }

  /** Nothing is played any more. */
  #forget() {
    for (const unsubscribe of this.#unsubscribe) if (unsubscribe) unsubscribe();
    this.#unsubscribe = [null, null];
    this.#taken = [null, null];
    if (this.#picture) this.#picture.close();
    if (this.#sound) this.#sound.close();
    this.#picture = null;
    this.#sound = null;
    this.#catalog = null;
  }

  #read(bytes) {
    let catalog;
    try {
      catalog = JSON.parse(new TextDecoder().decode(bytes));
    } catch {
      return;
    }
    const before = JSON.stringify(this.#catalog);
    if (before === JSON.stringify(catalog)) return;
    this.#catalog = catalog;
    const renditions = this.#renditions();
    const chosen = renditions.findIndex(({ name }) => name === this.#choice);
    if (this.#choice !== "auto" && chosen < 0) this.#choice = "auto";
    if (renditions.length > 0) this.#take(chosen >= 0 ? chosen : Math.min(this.#rank, renditions.length - 1));
    else this.#drop(0);
    const [sound] = Object.entries((catalog.audio || {}).renditions || {});
    if (sound) this.#hear(...sound);
    else this.#drop(1);
    if (renditions.length === 0 && !sound) this.#tell("waiting");
    this.#tellQuality();
  }

  /** The pictures that there are, the largest first. */
  #renditions() {
    const entries = Object.entries(((this.#catalog || {}).video || {}).renditions || {});
    const area = ({ codedWidth = 0, codedHeight = 0 }) => codedWidth * codedHeight;
    return entries.map(([name, rendition]) => ({ name, ...rendition })).sort((a, b) => area(b) - area(a));
  }

  async #take(rank) {
    const session = this.#session;
    const taken = JSON.stringify(asDecoded(this.#renditions()[rank]));
    this.#rank = rank;
    // A catalog tells of everything whenever anything changes.
    if (this.#taken[0] === taken) return;
    this.#taken[0] = taken;
    this.#changedAt = performance.now();
    this.#losses = [];
    const { name, codec, codedWidth, codedHeight, description } = JSON.parse(taken);
    const config = { codec, codedWidth, codedHeight, optimizeForLatency: true };
    if (description) config.description = Uint8Array.from(description.match(/../g), (pair) => parseInt(pair, 16));
    const { supported } = await VideoDecoder.isConfigSupported(config).catch(() => ({ supported: false }));
    if (session !== this.#session || taken !== this.#taken[0]) return;
    if (!supported) {
      this.#unsupported(codec);
      return;
    }
    this.#drop(0);
    this.#taken[0] = taken;
    const picture = new Picture({
      config,
      playout: this.#playout,
      canvas: this.#canvas,
      onArrival: this.#arriving(),
      onFailed: () => picture === this.#picture && this.#unsupported(codec),
    });
    this.#picture = picture;
    this.#unsubscribe[0] = this.#subscribe(name, VIDEO_PRIORITY, picture.arrivals);
  }

  #hear(name, rendition) {
    const taken = JSON.stringify([name, asDecoded(rendition)]);
    if (this.#taken[1] === taken) return;
    this.#drop(1);
    this.#taken[1] = taken;
    const { codec, sampleRate, numberOfChannels, description } = rendition;
    const config = { codec, sampleRate, numberOfChannels };
    if (description) config.description = Uint8Array.from(description.match(/../g), (pair) => parseInt(pair, 16));
    const sound = new Sound({
      config,
      playout: this.#playout,
      context: this.#context,
      output: this.#output,
      onArrival: this.#arriving(),
    });
    this.#sound = sound;
    this.#unsubscribe[1] = this.#subscribe(name, AUDIO_PRIORITY, sound.arrivals);
  }

  #subscribe(name, priority, arrivals) {
    return this.#session.subscribe(name, priority, {
      onGroup: (sequence, cancel) => arrivals.begin(sequence, cancel),
      // The next catalog says what comes instead.
      onEnd: () => {},
    });
  }

  #drop(index) {
    const [kept, unsubscribe] = [index === 0 ? this.#picture : this.#sound, this.#unsubscribe[index]];
    this.#unsubscribe[index] = null;
    this.#taken[index] = null;
    if (unsubscribe) unsubscribe();
    if (kept) kept.close();
    if (index === 0) this.#picture = null;
    else this.#sound = null;
  }

  /** Who is told of a track's frames. */
  #arriving() {
    let first = null;
    return ({ micros }) => {
      const now = performance.now();
      first ??= now;
      this.#playout.arrive(micros / 1000, now, now - first > SETTLE_MS);
      this.#movedAt = now;
    };
  }

  #pump() {
    const now = performance.now();
    if (this.#sound) this.#sound.pump(now);
    if (!this.#picture) return;
    const { shown } = this.#picture;
    this.#picture.pump(now);
    if (this.#picture.shown === shown) return;
    if (shown === 0) this.#show();
    const heard = this.#sound && this.#sound.heardMs();
    if (typeof heard === "number") this.#apart.push(heard - this.#picture.shownMs);
    if (this.#apart.length > MAX_APART) this.#apart.shift();
  }

  /** The canvas has a picture, so that the element has something to show. */
  #show() {
    const { video } = this.#options;
    if (!video.srcObject || !video.srcObject.active) video.srcObject = this.#canvas.captureStream();
    const played = video.play();
    if (played) {
      played.catch((error) => {
        if (error.name !== "NotAllowedError") return;
        this.blocked = true;
        this.dispatchEvent(new CustomEvent("blocked"));
      });
    }
  }

  #look() {
    if (!this.#session || !this.#catalog || this.state === "unsupported") return;
    const now = performance.now();
    const hasPicture = this.#renditions().length > 0;
    if (!hasPicture && !this.#sound) return;
    this.soundOnly = !hasPicture;
    const shows = !hasPicture || document.visibilityState === "hidden" || (this.#picture && this.#picture.shown > 0);
    if (now - this.#movedAt > AWAY_AFTER_MS) this.#tell("away");
    else if (shows) this.#tell("playing");
    this.#adapt(now);
  }

  /** A smaller rendition where groups come too late, a larger one when that has not happened for long. */
  #adapt(now) {
    const { length } = this.#renditions();
    if (this.#choice !== "auto" || length < 2 || !this.#picture || document.visibilityState === "hidden") return;
    const { lost } = this.#picture.arrivals;
    this.#losses.push({ now, lost });
    this.#losses = this.#losses.filter((entry) => now - entry.now < LOSS_WINDOW_MS);
    if (lost - this.#losses[0].lost >= LOSSES && this.#rank < length - 1) {
      this.#riseAfterMs = Math.min(RISE_AFTER_MOST_MS, this.#riseAfterMs * 2);
      this.#take(this.#rank + 1);
      this.#tellQuality();
    } else if (this.#rank > 0 && now - this.#changedAt > this.#riseAfterMs) {
      this.#take(this.#rank - 1);
      this.#tellQuality();
    }
  }

  #unsupported(codec) {
    this.#tell("unsupported", new Error(`This browser can't decode ${codec}.`));
    if (this.#session) this.#session.close();
  }

  #listen() {
    const { video } = this.#options;
    if (!this.#context) return;
    const silent = video.muted || video.volume === 0;
    this.#output.gain.value = silent ? 0 : video.volume;
    // Allowed from the first tap on; until then it stays as it is.
    if (!silent || this.#context.state !== "suspended") this.#context.resume().catch(() => {});
  }

  #tellQuality() {
    const renditions = this.#renditions();
    const detail = {
      session: null,
      pictures: renditions.length === 0 && this.#sound ? "none" : "all",
      layer: renditions[this.#rank] ? renditions[this.#rank].name : null,
      choice: this.#choice,
      reason: this.#choice !== "auto" ? "asked" : this.#rank > 0 ? "network" : "best",
      // Nothing to choose from where the catalog says nothing of their rates.
      layers: renditions.every(({ bitrate }) => bitrate)
        ? renditions.map(({ name, bitrate }) => ({ name, bitrate_bps: bitrate }))
        : [],
    };
    this.dispatchEvent(new CustomEvent("quality", { detail }));
  }

  #tell(state, error = null) {
    if (state === this.state && !error) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, error } }));
  }
}

/** A rendition without what decides nothing about how it is decoded, and changes all the time. */
function asDecoded({ bitrate, ...rendition }) {
  return rendition;
}
