// One WebRTC session over WHIP (RFC 9725) or WHEP: an offer is posted, an answer comes back, DELETE ends it.

import { HaulError, pause } from "./error.js";
import { problem } from "./rest.js";

// "disconnected" often mends itself within a second or two; longer, and the network has probably changed.
const DISCONNECTED_MAX_MS = 1_500;
// How long an ICE restart may take, its request included, before the session is given up for a new one.
const RESTART_MAX_MS = 4_000;
// ICE and DTLS together take four round trips; longer than this, something blocks them.
const CONNECT_MAX_MS = 10_000;
// How long a goodbye may take before the connection is closed anyway.
const GOODBYE_MAX_MS = 1_000;

export class Session {
  #token;
  #resource = null;
  #timer = 0;
  #over = false;
  #onLost;
  #etag = null;
  #answer = "";
  #restarting = false;
  // One restart was tried and has not connected yet: the next step is a new session.
  #mended = false;
  #network = navigator.connection && navigator.connection.type;
  #onOnline = () => this.#moved();
  #onNetwork = () => {
    // The event is about the measured round trip and rate as well, which say nothing of another network.
    const { type } = navigator.connection;
    if (type === this.#network) return;
    this.#network = type;
    this.#moved();
  };

  /** Calls `onLost(reason)` at most once, when the connection broke; not after `close()`. */
  constructor({ token, onLost }) {
    this.#token = token;
    this.#onLost = onLost;
    // The server's address in its answer is all that is needed: no STUN, and no waiting for candidates.
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    // Said by browsers on phones when Wi-Fi gives way to mobile data, long before checks fail.
    if (navigator.connection) navigator.connection.addEventListener("change", this.#onNetwork);
    addEventListener("online", this.#onOnline);
  }

  /**
   * Offers what `pc` has to `url`; `adapt` may change the answer before the browser reads it. Rejects with a
   * `HaulError`; status 409 with `retryAfterMs` means: not yet.
   */
  async open(url, signal, adapt = (sdp) => sdp) {
    const { pc } = this;
    const offer = await pc.createOffer();
    // The server needs no candidates, so the offer travels while the browser gathers them.
    const prepared = pc.setLocalDescription(offer);
    let response;
    try {
      const posted = fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/sdp", Accept: "application/sdp", ...this.#auth() },
        body: offer.sdp,
        signal,
      });
      [response] = await Promise.all([posted, prepared]);
    } catch (error) {
      if (error.name === "AbortError") throw new HaulError("aborted");
      throw new HaulError("network", "The server can't be reached.");
    }
    if (response.status !== 201) throw await problem(response);
    const location = response.headers.get("Location");
    if (location) this.#resource = new URL(location, url).href;
    this.#etag = response.headers.get("ETag");
    const answer = adapt(await response.text());
    this.#answer = answer;
    if (this.#over) {
      this.#delete();
      throw new HaulError("aborted");
    }
    pc.addEventListener("connectionstatechange", () => this.#check());
    this.#timer = setTimeout(() => this.#lost("no connection came about"), CONNECT_MAX_MS);
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    this.#watchDtls();
  }

  /**
   * Finds a new path for the same session (an ICE restart, RFC 9725, 4.3.3): codecs, keys and the picture stay. Resolves
   * with whether the server agreed; whether a path was found, the connection's state tells.
   */
  async restart() {
    const { pc } = this;
    if (this.#over || this.#restarting || !this.#resource || !this.#etag || !pc.restartIce) return false;
    this.#restarting = true;
    const giveUp = new AbortController();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      giveUp.abort();
      this.#lost("the connection was lost");
    }, RESTART_MAX_MS);
    try {
      pc.restartIce();
      await pc.setLocalDescription(await pc.createOffer());
      const response = await fetch(this.#resource, {
        method: "PATCH",
        headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*", ...this.#auth() },
        body: iceLines(pc.localDescription.sdp).join("\r\n") + "\r\n",
        signal: giveUp.signal,
      });
      if (response.status !== 200) throw await problem(response);
      const fragment = await response.text();
      this.#etag = response.headers.get("ETag");
      const [ufrag, password] = iceLines(fragment);
      if (this.#over) return false;
      this.#answer = this.#answer.replace(/^a=ice-ufrag:.*$/gm, ufrag).replace(/^a=ice-pwd:.*$/gm, password);
      await pc.setRemoteDescription({ type: "answer", sdp: this.#answer });
      return true;
    } catch {
      // The session may be gone, or the server out of reach: a new session finds out which.
      this.#lost("the connection was lost");
      return false;
    } finally {
      this.#restarting = false;
      clearTimeout(this.#timer);
    }
  }

  /** Its id at the server; null before the answer and after the end. */
  get id() {
    return this.#resource ? new URL(this.#resource).pathname.split("/").pop() : null;
  }

  /** Ends the session, here and at the server. */
  async close() {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    if (navigator.connection) navigator.connection.removeEventListener("change", this.#onNetwork);
    removeEventListener("online", this.#onOnline);
    for (const { sender } of this.pc.getTransceivers()) sender.replaceTrack(null).catch(() => {});
    // The server first: once it saw the connection close, it knows the session no more, and DELETE finds nothing.
    await Promise.race([this.#delete(), pause(GOODBYE_MAX_MS)]);
    this.pc.close();
  }

  // After the server closed, the connection's own state stays "connected" for seconds, while the DTLS transport turns
  // "closed" at once.
  #watchDtls() {
    for (const { sender, receiver } of this.pc.getTransceivers()) {
      const transport = receiver.transport || sender.transport;
      if (!transport) continue;
      const check = () => {
        if (transport.state === "closed") this.#resource = null;
        if (transport.state === "closed" || transport.state === "failed") this.#lost(`the connection ${transport.state}`);
      };
      transport.addEventListener("statechange", check);
      check();
      // One transport carries everything, since all of it is bundled.
      return;
    }
  }

  #check() {
    const state = this.pc.connectionState;
    // While a restart is under way, its own time counts.
    if (this.#restarting && state !== "closed") return;
    if (this.#mended && state !== "connected" && state !== "closed") return;
    clearTimeout(this.#timer);
    if (state === "connected") this.#mended = false;
    if (state === "closed") this.#lost("the connection closed");
    else if (state === "failed") this.#mend();
    else if (state === "disconnected") {
      this.#timer = setTimeout(() => this.#mend(), DISCONNECTED_MAX_MS);
    } else if (state !== "connected") {
      this.#timer = setTimeout(() => this.#lost("no connection came about"), CONNECT_MAX_MS);
    }
  }

  async #mend() {
    if (this.#mended || !(await this.restart())) {
      this.#lost("the connection was lost");
      return;
    }
    this.#mended = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.pc.connectionState === "connected") this.#mended = false;
      else this.#lost("the connection was lost");
    }, RESTART_MAX_MS);
  }

  /** The device has another network, or one again: what was connected looks for its new path at once. */
  #moved() {
    const { connectionState: state } = this.pc;
    const idle = !this.#over && !this.#mended && !this.#restarting && this.#resource && this.pc.restartIce;
    if (idle && (state === "connected" || state === "disconnected")) this.#mend();
  }

  #lost(reason) {
    if (this.#over) return;
    this.close();
    this.#onLost(reason);
  }

  #delete() {
    const resource = this.#resource;
    this.#resource = null;
    if (!resource) return undefined;
    // keepalive, so that it goes out even while the page is being left.
    return fetch(resource, { method: "DELETE", headers: this.#auth(), keepalive: true }).catch(() => {});
  }

  #auth() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }
}

/** The first ICE name and password of an SDP, as lines. */
function iceLines(sdp) {
  return ["a=ice-ufrag:", "a=ice-pwd:"].map((key) => sdp.split(/\r?\n/).find((line) => line.startsWith(key)));
}

/** Numbers of an `RTCStatsReport` by type: the entries of `type` whose `kind` is `kind`. */
export function statsOf(report, type, kind) {
  const found = [];
  report.forEach((entry) => {
    if (entry.type === type && (kind === undefined || entry.kind === kind)) found.push(entry);
  });
  return found;
}
