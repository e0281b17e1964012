// One WebRTC session over WHIP (RFC 9725) or WHEP: an offer is posted, an answer comes back, DELETE ends it.

import { HaulError, pause } from "./error.js";
import { problem } from "./rest.js";

// "disconnected" often mends itself within a second or two, for instance when a phone changes networks.
const DISCONNECTED_MAX_MS = 4_000;
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

  /** Calls `onLost(reason)` at most once, when the connection broke; not after `close()`. */
  constructor({ token, onLost }) {
    this.#token = token;
    this.#onLost = onLost;
    // The server's address in its answer is all that is needed: no STUN, and no waiting for candidates.
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
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
    const answer = await response.text();
    if (this.#over) {
      this.#delete();
      throw new HaulError("aborted");
    }
    pc.addEventListener("connectionstatechange", () => this.#check());
    this.#timer = setTimeout(() => this.#lost("no connection came about"), CONNECT_MAX_MS);
    await pc.setRemoteDescription({ type: "answer", sdp: adapt(answer) });
    this.#watchDtls();
  }

  /** Ends the session, here and at the server. */
  async close() {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
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
    clearTimeout(this.#timer);
    if (state === "failed" || state === "closed") this.#lost(`the connection ${state}`);
    else if (state === "disconnected") {
      this.#timer = setTimeout(() => this.#lost("the connection was lost"), DISCONNECTED_MAX_MS);
    } else if (state !== "connected") {
      this.#timer = setTimeout(() => this.#lost("no connection came about"), CONNECT_MAX_MS);
    }
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

/** Numbers of an `RTCStatsReport` by type: the entries of `type` whose `kind` is `kind`. */
export function statsOf(report, type, kind) {
  const found = [];
  report.forEach((entry) => {
    if (entry.type === type && (kind === undefined || entry.kind === kind)) found.push(entry);
  });
  return found;
}
