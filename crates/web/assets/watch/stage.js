// The picture, and what is said when there is none.

import { byId, setText } from "../ui/dom.js";
import { phrase, t } from "../ui/tongue.js";
import { standingLines } from "../ui/words.js";

const AMBIENT_EVERY_MS = 500;
// The channel says "live" and nothing comes for so long: this session leads nowhere, make another.
const REJOIN_AFTER_MS = 8_000;
const LINK_LOST_MS = 1_500;
const CONNECTING_MS = 6_000;

const VEILS = {
  connecting: { title: phrase("Joining the live"), spinner: true },
  waiting: { title: phrase("Starting soon"), text: phrase("The host isn't here yet. Stay, and the picture comes by itself.") },
  cut: { title: phrase("The host is reconnecting"), text: phrase("Stay: the picture returns by itself."), spinner: true },
  away: { title: phrase("Back in a moment"), text: phrase("The host is away. The picture returns by itself.") },
  reconnecting: { title: phrase("Reconnecting"), text: phrase("Your connection dropped. Hold on."), spinner: true },
  gone: { title: phrase("The server can't be reached"), text: phrase("Check your connection. This page goes on by itself, and what you hold stays yours until its time is over."), spinner: true },
  busy: { title: phrase("The house is full"), text: phrase("Stay: you come in as soon as there is room."), spinner: true },
  unsupported: { title: phrase("This browser can't play the live"), text: phrase("It can't decode what the host sends. Another browser or device may.") },
  no_webrtc: { title: phrase("This browser can't play the live"), text: phrase("It has no WebRTC, or it is switched off. Chat and shop work here; for the picture, open this page in a current Chrome, Edge, Firefox or Safari.") },
  refused: { title: phrase("This live is private"), text: phrase("Open the link that the shop sent you. If you did, it has run out: ask for a new one.") },
  expired: { title: phrase("Your link has run out"), text: phrase("Links to this live are good for a while only. Ask the shop for a new one, or open it again there.") },
  other_live: { title: phrase("This link is for another live"), text: phrase("Its address and its pass don't belong together. Open the link again as the shop sent it, whole.") },
  invalid: { title: phrase("This link doesn't work"), text: phrase("Something of it was lost on the way, or it is from another shop. Open it again as it was sent, whole.") },
  banned: { title: phrase("You are banned from this live."), text: "" },
  blocked: { title: phrase("Tap to watch"), text: phrase("Your browser waits for a tap before it plays.") },
};

/** Returns `refuse(why, standing)`, which says why this viewer stays outside: `expired`, `other_live`, `invalid` or `banned`, that with
 *  what is in force where it is known. */
export function showStage(page, room, player) {
  const video = byId("video");
  const sound = byId("sound");
  // The player began before this page part.
  let { blocked } = player;
  let why = null;
  let ban = null;
  let lost = player.state === "unsupported" && !("RTCPeerConnection" in window) ? "no_webrtc" : null;

  const render = () => {
    // The shop's live stands above this viewer's connection: if the host left, that is what to say. What was told before the
    // channel broke says nothing about now.
    const told = room.ready && room.channel.state === "open";
    const hostCut = told && room.live.state === "reconnecting" && !["refused", "ended"].includes(player.state);
    const hostGone = player.state === "reconnecting" && told && room.live.state === "waiting";
    // Where nothing comes over either connection, it is not the host who is missing.
    const alone = player.state === "away" && room.ready && !told;
    const hostAway = (player.state === "away" && !alone) || hostCut || hostGone;
    const state = hostAway ? "away" : alone ? "reconnecting" : player.state === "idle" ? "connecting" : player.state;
    const unreachable = state === "reconnecting" && lost === "gone";
    const special = blocked && state === "playing" ? "blocked" : hostCut ? "cut" : unreachable ? "gone" : null;
    const veil = VEILS[why || special || (state === "unsupported" && lost) || state] || VEILS[state];
    page.dataset.player = why ? "refused" : blocked && state === "playing" ? "blocked" : state;
    if (veil) {
      setText(byId("veil-title"), t(veil.title));
      setText(byId("veil-text"), why === "banned" && ban ? standingLines(ban).join("\n") : t(veil.text || ""));
      byId("veil-spinner").hidden = !veil.spinner;
      byId("veil-logo").hidden = Boolean(veil.spinner);
    }
    const badge = byId("live-state");
    const live = state === "playing" || (room.ready && room.live.state === "live" && !["away", "reconnecting"].includes(state));
    badge.dataset.tone = live ? "live" : "";
    // The live is as open as it was, only not to them.
    badge.hidden = why === "banned";
    setText(badge, t(live ? "LIVE" : state === "away" ? "AWAY" : why || state === "refused" ? "PRIVATE" : "SOON"));
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
  player.addEventListener("state", ({ detail: { error } }) => {
    if (error) lost = error.code === "no_webrtc" ? "no_webrtc" : error.status ? null : "gone";
    render();
  });
  room.channel.addEventListener("state", render);
  followLink(room);
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

  return {
    refuse: (reason, standing = null) => {
      why = reason;
      ban = standing;
      render();
    },
  };
}

/** Says that chat and shop stand still, where the picture may well go on. */
function followLink(room) {
  const note = byId("link");
  let failing = 0;
  room.channel.addEventListener("state", ({ detail: { state } }) => {
    clearTimeout(failing);
    if (state === "open" || state === "closed") note.hidden = true;
    // A blink is not worth a word.
    if (state === "waiting" && note.hidden) failing = setTimeout(() => (note.hidden = false), LINK_LOST_MS);
    if (state === "connecting" && note.hidden) failing = setTimeout(() => (note.hidden = false), CONNECTING_MS);
  });
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
