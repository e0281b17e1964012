// Going live: the chosen source, its preview, the connection to the server, and how well it does.

import { byId, el, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { closeSheet, openSheet, toast } from "../ui/sheet.js";
import { everyTick, spanText } from "../ui/time.js";
import { phrase, t } from "../ui/tongue.js";
import { showLevel } from "./level.js";
import { cameraObstacle, listDevices, openSource, screenObstacle } from "./sources.js";
import { publicationOf } from "./way.js";

const FACTS_EVERY_MS = 1_000;
const LIMITED_LOOKS = 12;
const STATES = { off: phrase("OFF AIR"), connecting: phrase("CONNECTING"), live: phrase("LIVE"), reconnecting: phrase("RECONNECTING") };
const OBSTACLES = {
  insecure: [
    phrase("No camera over plain HTTP"),
    phrase("Browsers give camera and screen only to pages that came over HTTPS, or from localhost. Open this studio by its https:// address, or on the server's own machine as http://localhost. The test picture works here, and so does OBS (see Share)."),
  ],
  unsupported: [phrase("This browser has no camera for pages"), phrase("Use a current Chrome, Edge, Firefox or Safari, or go live from OBS (see Share). The test picture works here.")],
  webrtc: [phrase("This browser has no WebRTC"), phrase("It is too old, or WebRTC is switched off in it. Go live from OBS (see Share), or open the studio in a current browser. Chat, sales and orders work here.")],
};
const LIMITS = {
  cpu: phrase("This device can't encode a larger picture right now. Close other programs, or lower the camera's size."),
  bandwidth: phrase("Your upload is at its limit, so the picture is smaller. A cable or a better network helps."),
};

export function runBroadcast(options) {
  return new Broadcast(options);
}

/** Event `state`, detail `{state}`: `off`, `connecting`, `live`, `reconnecting`. */
class Broadcast extends EventTarget {
  #options;
  #source = null;
  #publication = null;
  #choosing = 0;
  #since = 0;
  #limitedFor = 0;

  constructor(options) {
    super();
    this.#options = options;
    this.state = "off";
    for (const button of document.querySelectorAll(".source")) {
      button.addEventListener("click", () => this.choose(button.dataset.source));
    }
    byId("go-live").addEventListener("click", () => this.start());
    byId("end-live").addEventListener("click", () => this.#askEnd());
    byId("end-confirm").addEventListener("click", () => {
      closeSheet(byId("end-sheet"));
      this.end();
    });
    byId("camera-pick").addEventListener("change", () => this.choose("camera"));
    byId("microphone-pick").addEventListener("change", () => this.choose("camera"));
    // Leaving by accident ends the show; browsers ask only if somebody touched the page.
    addEventListener("beforeunload", (event) => {
      if (this.state !== "off") event.preventDefault();
    });
    this.#showObstacles();
    renderOn(options.room, ["live"], () => this.#render());
    this.#render();
    setInterval(() => this.#measure(), FACTS_EVERY_MS);
    everyTick(() => this.#since && setText(byId("on-air"), spanText(Date.now() - this.#since)));
    const hinted = new URLSearchParams(location.search).get("source");
    if (hinted === "test" || (hinted === "camera" && !cameraObstacle())) this.choose(hinted);
  }

  get pc() {
    return this.#publication ? this.#publication.pc : null;
  }

  /** Takes another source; while live, viewers see it without a break. */
  async choose(kind) {
    const turn = ++this.#choosing;
    this.#say("");
    // A camera in use can't be opened twice with other settings on some phones: let go first, unless it is on air.
    if (this.#source && this.#source.kind === kind && this.state === "off") this.#drop();
    let source;
    try {
      const picks = { camera: byId("camera-pick").value, microphone: byId("microphone-pick").value };
      source = await openSource(kind, picks);
    } catch (error) {
      if (turn === this.#choosing) this.#say(error.message);
      this.#render();
      return;
    }
    if (turn !== this.#choosing) {
      source.stop();
      return;
    }
    const before = this.#source;
    this.#source = source;
    source.resume();
    const preview = byId("preview");
    preview.srcObject = source.stream;
    preview.play().catch(() => {});
    showLevel(source.stream);
    // The browser's own "stop sharing" and an unplugged camera end here.
    for (const track of source.stream.getVideoTracks()) {
      track.addEventListener("ended", () => this.#source === source && this.#lost());
    }
    if (this.#publication) await this.#publication.setStream(source.stream);
    if (before) before.stop();
    if (kind === "camera") await this.#fillDevices();
    this.#render();
  }

  async start() {
    if (this.state !== "off") return;
    if (!this.#source) await this.choose("test");
    const source = this.#source;
    if (!source) return;
    source.resume();
    this.#say("");
    this.#go("connecting");
    const publication = await publicationOf(source.stream, {
      live: this.#options.live,
      token: this.#options.token,
      contentHint: source.contentHint,
    });
    this.#publication = publication;
    publication.addEventListener("state", ({ detail }) => publication === this.#publication && this.#follow(detail));
    // A refusal is told by the state event.
    await publication.start().catch(() => {});
  }

  end() {
    if (this.#publication) this.#publication.stop();
  }

  #askEnd() {
    const { room } = this.#options;
    const selling = [...room.sales.values()].some((sale) => room.phase(sale) === "open");
    if (selling) openSheet(byId("end-sheet"));
    else this.end();
  }

  #follow({ state, error }) {
    if (state === "live") {
      if (!this.#since) this.#since = Date.now();
      this.#go("live");
    } else if (state === "connecting" || state === "reconnecting") {
      this.#go(state);
    } else {
      this.#publication = null;
      this.#since = 0;
      if (state === "refused") this.#say(refusal(error));
      else toast(t("The live has ended."));
      this.#go("off");
    }
  }

  #lost() {
    this.#drop();
    this.#say(t("The source ended. Choose another one; viewers stay."));
    this.#render();
  }

  #drop() {
    if (!this.#source) return;
    this.#source.stop();
    this.#source = null;
    byId("preview").srcObject = null;
    showLevel(null);
  }

  #go(state) {
    this.state = state;
    this.#render();
    this.dispatchEvent(new CustomEvent("state", { detail: { state } }));
  }

  #say(words) {
    const box = byId("air-error");
    box.hidden = !words;
    setText(box, words);
  }

  #render() {
    const { state } = this;
    const kind = this.#source ? this.#source.kind : "none";
    byId("preview-box").dataset.mirror = String(kind === "camera" && facesUser(this.#source.stream));
    byId("preview-empty").hidden = kind !== "none";
    for (const button of document.querySelectorAll(".source")) {
      button.setAttribute("aria-pressed", String(button.dataset.source === kind));
    }
    byId("devices").hidden = kind !== "camera";
    const goLive = byId("go-live");
    goLive.hidden = state !== "off";
    goLive.disabled = kind === "none" || !("RTCPeerConnection" in window);
    byId("end-live").hidden = state === "off";
    const badge = byId("live-state");
    // OBS, or another device of the host's, is on air.
    const elsewhere = state === "off" && this.#options.room.live.state === "live";
    setText(badge, t(elsewhere ? "LIVE ELSEWHERE" : STATES[state]));
    badge.dataset.tone = state === "live" || elsewhere ? "live" : state === "off" ? "" : "warn";
    byId("on-air").hidden = state === "off";
    byId("facts").dataset.on = String(state !== "off");
    if (state === "off") this.#limited(null);
  }

  async #measure() {
    if (this.state === "off" || !this.#publication) return;
    const facts = await this.#publication.facts().catch(() => null);
    if (!facts) return;
    const size = facts.width ? `${facts.width}×${facts.height}` : "–";
    setText(byId("fact-picture"), facts.codec ? `${facts.codec} ${size}` : size);
    setText(byId("fact-bitrate"), facts.bitrateBps === null ? "–" : `${(facts.bitrateBps / 1e6).toFixed(2)} Mb/s`);
    setText(byId("fact-fps"), facts.fps === null ? "–" : `${Math.round(facts.fps)} fps`);
    setText(byId("fact-rtt"), facts.rttMs === null ? "–" : `${Math.round(facts.rttMs)} ms`);
    setText(byId("fact-loss"), facts.lossRatio === null ? "–" : `${(facts.lossRatio * 100).toFixed(1)} %`);
    this.#limited(facts.limitedBy);
  }

  /** Tells why the picture is smaller than it could be, once that lasts: every start is slow for a moment. */
  #limited(reason) {
    this.#limitedFor = LIMITS[reason] ? this.#limitedFor + 1 : 0;
    const box = byId("limited");
    box.hidden = this.#limitedFor < LIMITED_LOOKS;
    if (LIMITS[reason]) setText(box, t(LIMITS[reason]));
  }

  #showObstacles() {
    const camera = cameraObstacle();
    const screen = screenObstacle();
    document.querySelector('[data-source="camera"].source').disabled = camera !== null;
    document.querySelector('[data-source="screen"].source').disabled = screen !== null;
    const obstacle = "RTCPeerConnection" in window ? camera : "webrtc";
    if (!OBSTACLES[obstacle]) return;
    const [title, words] = OBSTACLES[obstacle];
    byId("insecure").hidden = false;
    byId("insecure").append(el("b", {}, t(title)), el("span", {}, t(words)));
  }

  async #fillDevices() {
    const { cameras, microphones } = await listDevices();
    const using = (kind) => {
      const track = this.#source && this.#source.stream.getTracks().find((candidate) => candidate.kind === kind);
      return track && track.getSettings ? track.getSettings().deviceId : "";
    };
    fill(byId("camera-pick"), cameras, using("video"), t("Camera"));
    fill(byId("microphone-pick"), microphones, using("audio"), t("Microphone"));
  }
}

/** The camera at the back of a phone shows the world, not a mirror. */
function facesUser(stream) {
  const track = stream.getVideoTracks()[0];
  return !track || !track.getSettings || track.getSettings().facingMode !== "environment";
}

function fill(select, devices, current, fallback) {
  select.replaceChildren(
    ...devices.map((device, i) => el("option", { value: device.deviceId }, device.label || `${fallback} ${i + 1}`)),
  );
  if (devices.some((device) => device.deviceId === current)) select.value = current;
}

function refusal(error) {
  if (!error) return t("The live could not start. Try again.");
  if (error.status === 401) return t("The server refused the token. Open the studio by a fresh link.");
  if (error.status === 403) return t("This token may not publish here. It takes a host token of this live.");
  if (error.code === "network") return t("The server can't be reached. Check the connection and try again.");
  return t("The live could not start: {reason}", { reason: error.message });
}
