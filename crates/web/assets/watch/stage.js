// The picture, and what is said when there is none.

import { byId, setText } from "../ui/dom.js";
import { t } from "../ui/tongue.js";

const AMBIENT_EVERY_MS = 500;
// The channel says "live" and nothing comes for so long: this session leads nowhere, make another.
const REJOIN_AFTER_MS = 8_000;

const VEILS = {
  connecting: { title: "Joining the live", spinner: true },
  waiting: { title: "Starting soon", text: "The host isn't here yet. Stay, and the picture comes by itself." },
  cut: { title: "The host is reconnecting", text: "Stay: the picture returns by itself.", spinner: true },
  away: { title: "Back in a moment", text: "The host is away. The picture returns by itself." },
  reconnecting: { title: "Reconnecting", text: "Your connection dropped. Hold on.", spinner: true },
  busy: { title: "The house is full", text: "Stay: you come in as soon as there is room.", spinner: true },
  unsupported: { title: "This browser can't play the live", text: "It can't decode what the host sends. Another browser or device may." },
  refused: { title: "This live is private", text: "Open the link that the shop sent you. If you did, it has run out: ask for a new one." },
  blocked: { title: "Tap to watch", text: "Your browser waits for a tap before it plays." },
};

export function showStage(page, room, player) {
  const video = byId("video");
  const sound = byId("sound");
  // The player began before this page part.
  let { blocked } = player;

  const render = () => {
    // The shop's live stands above this viewer's connection: if the host left, that is what to say.
    const hostCut = room.ready && room.live.state === "reconnecting" && !["refused", "ended"].includes(player.state);
    const hostGone = player.state === "reconnecting" && room.ready && room.live.state === "waiting";
    const hostAway = player.state === "away" || hostCut || hostGone;
    const state = hostAway ? "away" : player.state === "idle" ? "connecting" : player.state;
    const veil = VEILS[blocked && state === "playing" ? "blocked" : hostCut ? "cut" : state];
    page.dataset.player = blocked && state === "playing" ? "blocked" : state;
    if (veil) {
      setText(byId("veil-title"), t(veil.title));
      setText(byId("veil-text"), t(veil.text || ""));
      byId("veil-spinner").hidden = !veil.spinner;
      byId("veil-logo").hidden = Boolean(veil.spinner);
    }
    const badge = byId("live-state");
    const live = state === "playing" || (room.ready && room.live.state === "live" && state !== "away");
    badge.dataset.tone = live ? "live" : "";
    setText(badge, t(live ? "LIVE" : state === "away" ? "AWAY" : state === "refused" ? "PRIVATE" : "SOON"));
  };

  const renderSound = () => {
    const muted = video.muted || video.volume === 0;
    sound.dataset.muted = String(muted);
    sound.setAttribute("aria-label", t(muted ? "Tap for sound" : "Turn the sound off"));
    byId("sound-icon").setAttribute("href", `/assets/theme/icons.svg#${muted ? "mute" : "sound"}`);
  };

  const play = () => {
    const played = video.play();
    if (played) played.then(() => { blocked = false; render(); }, () => {});
  };

  sound.addEventListener("click", () => {
    video.muted = !video.muted;
    play();
    renderSound();
  });
  video.addEventListener("volumechange", renderSound);
  player.addEventListener("blocked", () => {
    blocked = true;
    render();
  });
  byId("veil").addEventListener("click", () => blocked && play());
  player.addEventListener("state", render);
  room.addEventListener("change", ({ detail }) => detail === "live" && render());

  const shape = () => {
    if (!video.videoWidth) return;
    page.dataset.shape = video.videoWidth > video.videoHeight ? "wide" : "tall";
  };
  video.addEventListener("resize", shape);
  video.addEventListener("loadedmetadata", shape);

  paintAmbient(player, video, byId("ambient"));
  watchKeyboard(page);
  render();
  renderSound();

  let silentSince = 0;
  setInterval(() => {
    const missing = player.state === "away" && room.live.state === "live" && room.channel.state === "open";
    if (!missing) silentSince = 0;
    else if (!silentSince) silentSince = Date.now();
    else if (Date.now() - silentSince > REJOIN_AFTER_MS) {
      silentSince = 0;
      player.rejoin();
    }
  }, 1_000);
}

/** Stretching a picture of a few hundred pixels blurs it for nothing, where a CSS blur of the video would cost a lot. */
function paintAmbient(player, video, canvas) {
  const context = canvas.getContext("2d");
  setInterval(() => {
    // Only while it moves: what stays when the connection breaks is the last picture, not the black after it.
    if (player.state !== "playing" || document.visibilityState === "hidden" || video.readyState < 2) return;
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
  }, AMBIENT_EVERY_MS);
}

/** Lifts the chat above the keyboard where the browser lays it over the page (Safari on a phone). */
function watchKeyboard(page) {
  const view = window.visualViewport;
  if (!view) return;
  const measure = () => {
    const covered = Math.max(0, window.innerHeight - view.height - view.offsetTop);
    const typing = document.activeElement && document.activeElement.matches("#chat-input, #guest-name");
    const up = covered > 120 && view.scale < 1.05;
    page.style.setProperty("--keyboard", up ? `${Math.round(covered)}px` : "0px");
    page.toggleAttribute("data-keyboard", Boolean(up && typing));
  };
  view.addEventListener("resize", measure);
  view.addEventListener("scroll", measure);
}
