// The live's websocket: requests with one reply each, events, reconnecting and resuming.

import { ServerClock } from "./clock.js";
import { HaulError, backoffMs } from "./error.js";
import { parse } from "./json.js";

export const SUBPROTOCOL = "haul.v1";

const REQUEST_TIMEOUT_MS = 10_000;
const PING_EVERY_MS = 20_000;
// A few quick round trips at the start: the first one often pays for a cold path.
const FIRST_PINGS_MS = [0, 400, 1_500];

/** A longer language tag is not sent. */
const LOCALE_MAX = 35;

/** Close codes after which connecting again is of no use until something changes. */
const FINAL_CLOSE = { 4401: "unauthorized", 4403: "forbidden", 4410: "banned" };
const FINAL_CODES = new Set(Object.values(FINAL_CLOSE));
/** Events that add up, and are told again to who missed them although the snapshot is ahead of them. */
const ADDING_UP = new Set(["chat.message", "chat.deleted"]);
/** Close codes that ask for more patience than the usual back-off, in milliseconds. */
const PATIENT_CLOSE = { 4404: 4_000, 4429: 8_000, 4503: 5_000 };

/**
 * A connection to a live's channel that keeps itself up.
 *
 * Events: `snapshot` (after each connection, detail: the snapshot), `state` (detail: `{state, reason, error}`), every event of
 * the server by its type (`chat.message`, `stock.changed`, …; detail: the event), and `event` for all of those.
 */
export class Channel extends EventTarget {
  #url;
  #token;
  #ref;
  #locale;
  #socket = null;
  #nextId = 1;
  #pending = new Map();
  #clock = new ServerClock();
  #position = null;
  #snapshotOffset = -1;
  #attempt = 0;
  #notBefore = 0;
  #retryTimer = 0;
  #pingTimers = [];
  #wake = () => this.#onWake();

  constructor({ live, token = null, base = location.origin, ref = null, locale = navigator.language }) {
    super();
    const url = new URL(`/channel/${encodeURIComponent(live)}`, base);
    url.protocol = url.protocol.replace("http", "ws");
    this.#url = url.href;
    this.#token = token;
    // Whose link was followed here: a creator's code, or a signed `ref`.
    this.#ref = ref;
    this.#locale = tagOf(locale);
    this.live = live;
    /** `idle`, `connecting`, `open`, `waiting` (for the next attempt) or `closed` (for good). */
    this.state = "idle";
    /** Why it is closed: `unauthorized`, `forbidden`, `banned` or `left`. */
    this.reason = null;
    /** What the server refused a hello with, where that is why it is closed. */
    this.error = null;
    this.snapshot = null;
  }

  /** Starts connecting. Resolves with the first snapshot; rejects when that can't come. */
  connect() {
    const first = new Promise((resolve, reject) => {
      this.addEventListener("snapshot", (event) => resolve(event.detail), { once: true });
      this.addEventListener("state", (event) => {
        if (event.detail.state === "closed") reject(new HaulError(event.detail.reason, "the channel is closed"));
      });
    });
    this.reason = null;
    this.error = null;
    this.#open();
    return first;
  }

  /** Leaves for good. */
  close() {
    this.#end("left");
  }

  /** Goes on as somebody else, for instance after a guest got a token. */
  setToken(token) {
    this.#token = token;
    // What another reader may see differs, so the former position means nothing.
    this.#position = null;
    this.#attempt = 0;
    this.#drop();
    this.#open();
  }

  /** Tries at once instead of waiting for the next attempt. */
  retryNow() {
    if (this.state !== "waiting" || Date.now() < this.#notBefore) return;
    this.#open();
  }

  /**
   * Sends a request and resolves with its result. Rejects with a `HaulError`: the server's code, or `disconnected` or
   * `timeout`, after which the outcome is unknown.
   */
  request(type, fields = {}, { timeoutMs = REQUEST_TIMEOUT_MS } = {}) {
    if (this.state !== "open") return Promise.reject(new HaulError("disconnected", "not connected"));
    return this.#send(type, fields, timeoutMs);
  }

  /** Sends a message that has no reply; lost without a word where the channel is not open. */
  tell(type, fields = {}) {
    if (this.state === "open") this.#socket.send(JSON.stringify({ ...fields, id: this.#nextId++, type }));
  }

  /** Milliseconds since 1970 by the server's clock. */
  serverNow() {
    return this.#clock.now();
  }

  /** The best round trip to the server known, in milliseconds, or null. */
  get rttMs() {
    return this.#clock.rttMs;
  }

  #open() {
    clearTimeout(this.#retryTimer);
    // Adding the same listener again changes nothing.
    addEventListener("online", this.#wake);
    addEventListener("pageshow", this.#wake);
    document.addEventListener("visibilitychange", this.#wake);
    this.#setState("connecting");
    let socket;
    try {
      socket = new WebSocket(this.#url, SUBPROTOCOL);
    } catch (error) {
      this.#end("forbidden");
      return;
    }
    this.#socket = socket;
    socket.onopen = () => this.#hello(socket);
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code }) => {
      if (socket === this.#socket) this.#onClose(code);
    };
  }

  async #hello(socket) {
    const sentAt = performance.now();
    let snapshot;
    try {
      const fields = { token: this.#token || undefined, resume: this.#position || undefined, locale: this.#locale, ref: this.#ref || undefined };
      snapshot = await this.#send("hello", fields, REQUEST_TIMEOUT_MS);
    } catch (error) {
      if (socket !== this.#socket) return;
      if (FINAL_CODES.has(error.code)) {
        this.#end(error.code, error);
      } else {
        this.#notBefore = Math.max(this.#notBefore, Date.now() + (error.retryAfterMs || 0));
        this.#drop();
        this.#retry();
      }
      return;
    }
    if (socket !== this.#socket) return;
    this.#clock.sample(snapshot.server_time, sentAt, performance.now());
    this.#attempt = 0;
    for (const delay of FIRST_PINGS_MS) this.#pingTimers.push(setTimeout(() => this.#ping(), delay));
    this.#pingTimers.push(setInterval(() => this.#ping(), PING_EVERY_MS));
  }

  #send(type, fields, timeoutMs) {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new HaulError("timeout", "no answer in time"));
      }, timeoutMs);
      this.#pending.set(id, { type, resolve, reject, timer });
      this.#socket.send(JSON.stringify({ ...fields, id, type }));
    });
  }

  #receive(data) {
    let message;
    try {
      message = parse(data);
    } catch {
      return;
    }
    if (message.type !== "reply" && message.type !== "error") {
      this.#onEvent(message);
      return;
    }
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    this.#pending.delete(message.id);
    clearTimeout(pending.timer);
    if (message.type === "error") {
      const { code, message: text, retry_after_ms: retryAfterMs, why, standing } = message;
      pending.reject(new HaulError(code, text, { retryAfterMs, why, standing }));
      return;
    }
    // Taken in here and not after the promise, since missed events may follow in the same turn.
    if (pending.type === "hello") this.#onSnapshot(message.result);
    pending.resolve(message.result);
  }

  #onSnapshot(snapshot) {
    const recovered = snapshot.resumed ? snapshot.resumed.recovered : false;
    this.#snapshotOffset = snapshot.offset;
    // If the missed events follow, the place to resume from is still before them.
    if (!recovered) this.#position = { epoch: snapshot.epoch, offset: snapshot.offset };
    this.snapshot = snapshot;
    this.#setState("open");
    this.#emit("snapshot", snapshot);
  }

  #onEvent(event) {
    // Only events in the live's order have an offset; the others may overtake them and say nothing about what was read.
    if (event.offset !== undefined) {
      if (this.#position === null || this.#position.epoch !== event.epoch) this.#snapshotOffset = -1;
      this.#position = { epoch: event.epoch, offset: event.offset };
    }
    if (event.type === "draining") {
      this.#notBefore = Date.now() + event.retry_after_ms * (1 + Math.random() * 0.5);
    }
    // While missed events are told again, the snapshot is ahead of them: only what adds up, the chat, is news.
    const contained = event.offset !== undefined && event.offset <= this.#snapshotOffset;
    if (contained && !ADDING_UP.has(event.type)) return;
    this.#emit(event.type, event);
    this.#emit("event", event);
  }

  async #ping() {
    if (this.state !== "open") return;
    const socket = this.#socket;
    const sentAt = performance.now();
    try {
      const { server_time } = await this.#send("ping", {}, REQUEST_TIMEOUT_MS);
      this.#clock.sample(server_time, sentAt, performance.now());
    } catch (error) {
      // No answer: the network is gone without a word. The browser would notice minutes later.
      if (error.code === "timeout" && socket === this.#socket) {
        this.#drop();
        this.#retry();
      }
    }
  }

  #onClose(code) {
    this.#drop();
    if (FINAL_CLOSE[code]) {
      this.#end(FINAL_CLOSE[code]);
      return;
    }
    if (PATIENT_CLOSE[code]) this.#notBefore = Math.max(this.#notBefore, Date.now() + PATIENT_CLOSE[code]);
    this.#retry();
  }

  #retry() {
    const wait = Math.max(backoffMs(this.#attempt), this.#notBefore - Date.now());
    this.#attempt += 1;
    this.#setState("waiting");
    this.#retryTimer = setTimeout(() => this.#open(), wait);
  }

  #end(reason, error = null) {
    this.#drop();
    clearTimeout(this.#retryTimer);
    removeEventListener("online", this.#wake);
    removeEventListener("pageshow", this.#wake);
    document.removeEventListener("visibilitychange", this.#wake);
    this.reason = reason;
    this.error = error;
    this.#setState("closed");
  }

  /** Forgets the socket; requests without a reply fail as `disconnected`. */
  #drop() {
    for (const timer of this.#pingTimers) clearTimeout(timer);
    this.#pingTimers = [];
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject, timer } of pending) {
      clearTimeout(timer);
      reject(new HaulError("disconnected", "the connection was lost"));
    }
  }

  #onWake() {
    if (document.visibilityState === "hidden") return;
    if (this.state === "waiting") this.retryNow();
    // After sleep both the connection and the clock are in doubt; one ping answers for both.
    else if (this.state === "open") this.#ping();
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.#emit("state", { state, reason: this.reason, error: this.error });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The language tag as the server reads it; none where a browser has something else to say. */
function tagOf(locale) {
  try {
    const [tag] = locale ? Intl.getCanonicalLocales(locale) : [];
    return tag && tag.length <= LOCALE_MAX ? tag : undefined;
  } catch {
    return undefined;
  }
}
