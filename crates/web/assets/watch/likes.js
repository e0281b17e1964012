// Liking what is seen: hearts rise, one's own at once, those of all others as the sums tell. Holding the button (or the
// arrow up) offers other reactions.

import { like } from "/sdk/haul.js";
import { byId, el, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { compact } from "../ui/words.js";

const GLYPHS = { heart: "❤️", laugh: "😂", wow: "😮", clap: "👏", fire: "🔥" };
// More at once would only be a blur, and cost a phone its battery.
const RISING_MAX = 24;
const SPREAD_MS = 1_000;
const HOLD_MS = 400;
const RISE_MS = 2_600;

export function showLikes(room, needsToken) {
  const button = byId("like");
  const sky = byId("sky");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  /** Likes sent that the sums have not told yet. */
  let own = 0;

  const rise = (kind, after) => {
    if (calm.matches || document.hidden || sky.children.length >= RISING_MAX) return;
    const glyph = el("span", {}, GLYPHS[kind] || GLYPHS.heart);
    glyph.style.setProperty("--drift", `${Math.round(Math.random() * 56 - 28)}px`);
    glyph.style.animationDelay = `${Math.round(after)}ms`;
    sky.append(glyph);
    setTimeout(() => glyph.remove(), after + RISE_MS);
  };

  const give = (kind) => {
    if (!room.you) return needsToken();
    like(room.channel, kind);
    own += 1;
    rise(kind, 0);
    return undefined;
  };
  const choice = byId("reactions");
  let holding = 0;
  const offer = (on) => {
    choice.hidden = !on;
    button.setAttribute("aria-expanded", String(on));
  };
  button.addEventListener("click", () => {
    // The tap that ends a long press is not one of its own.
    if (choice.dataset.fresh) delete choice.dataset.fresh;
    else give("heart");
  });
  button.addEventListener("pointerdown", () => {
    holding = setTimeout(() => {
      choice.dataset.fresh = "true";
      offer(true);
    }, HOLD_MS);
  });
  for (const end of ["pointerup", "pointerleave", "pointercancel"]) button.addEventListener(end, () => clearTimeout(holding));
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowUp") return;
    event.preventDefault();
    offer(true);
    choice.firstElementChild.focus();
  });
  choice.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    offer(false);
    button.focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!choice.hidden && !choice.contains(event.target) && !button.contains(event.target)) offer(false);
  });
  for (const other of choice.children) other.addEventListener("click", () => give(other.dataset.reaction));
  room.channel.addEventListener("likes", ({ detail }) => {
    for (const [kind, count] of Object.entries(detail.new)) {
      const theirs = Math.max(0, count - own);
      own = Math.max(0, own - count);
      for (let i = 0; i < Math.min(theirs, RISING_MAX); i += 1) rise(kind, Math.random() * SPREAD_MS);
    }
  });
  renderOn(room, ["likes"], () => setText(byId("like-count"), room.likes ? compact(room.likes) : ""));
}
