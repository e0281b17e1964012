// The cards of what the host does: one lies open and the others are a word each, so that chat, product and field keep their
// places however many there are. It knows nothing of what is on them: who fills a card hides it, shows it, or deals it anew.

import { byId, el } from "../ui/dom.js";
import { phrase, t } from "../ui/tongue.js";

const NAMES = { answering: phrase("Question"), poll: phrase("Poll"), giveaway: phrase("Giveaway"), earlier: phrase("You won"), coupon: phrase("Coupon") };

/** Says that a card now holds something else: `key` stands for it. */
export function deal(card, key) {
  if (card.dataset.dealt !== key) card.dataset.dealt = key;
}

/** Shows the newest card, unless the reader chose one; a tap on its name lays it aside, or brings another. */
export function showDeck() {
  const deck = byId("deck");
  const names = byId("deck-names");
  const cards = [...deck.querySelectorAll(".card")];
  const nameOf = new Map(cards.map((card) => [card, nameButton(card)]));
  names.replaceChildren(...nameOf.values());
  const low = matchMedia("(max-height: 440px)");
  let open = null;
  /** Whether the reader chose what lies open, or that nothing does: then what is new waits, with a mark. */
  let chosen = false;

  const show = (card) => {
    open = card;
    render();
    if (!card) return;
    const { offsetLeft: left, offsetWidth: width } = nameOf.get(card);
    if (left < names.scrollLeft) names.scrollLeft = left;
    else if (left + width > names.scrollLeft + names.clientWidth) names.scrollLeft = left + width - names.clientWidth;
  };

  const render = () => {
    for (const [card, name] of nameOf) {
      const isOpen = card === open;
      if (isOpen) name.dataset.news = "false";
      card.toggleAttribute("data-aside", !isOpen);
      name.toggleAttribute("hidden", card.hidden);
      name.setAttribute("aria-expanded", String(isOpen));
    }
    deck.toggleAttribute("hidden", cards.every((card) => card.hidden));
    deck.toggleAttribute("data-open", Boolean(open));
    byId("side").toggleAttribute("data-tight", !deck.hidden || low.matches);
  };

  const onDealt = (card) => {
    const name = nameOf.get(card);
    name.dataset.news = "true";
    // What is one's own goes before what one reads.
    const mine = card.dataset.won === "true";
    if (!chosen || mine || card === open) show(card);
  };

  const onGone = (card) => {
    nameOf.get(card).dataset.news = "false";
    if (card !== open) return;
    chosen = false;
    const waiting = cards.filter((other) => !other.hidden);
    show(waiting.find((other) => nameOf.get(other).dataset.news === "true") || waiting[0] || null);
  };

  for (const [card, name] of nameOf) {
    name.addEventListener("click", () => {
      chosen = true;
      show(card === open ? null : card);
    });
    // Who is about to tap on a card must not find another under the finger.
    card.addEventListener("pointerdown", () => (chosen = true));
    card.addEventListener("focusin", () => (chosen = true));
  }

  /** What each card held when it was last looked at; null: nothing. Who fills a card may well say the same again. */
  const held = new Map(cards.map((card) => [card, null]));
  const look = () => {
    for (const card of cards) {
      const now = card.hidden ? null : card.dataset.dealt || "";
      if (held.get(card) === now) continue;
      held.set(card, now);
      if (now === null) onGone(card);
      else onDealt(card);
    }
    if (cards.every((card) => card.hidden)) chosen = false;
    render();
  };
  new MutationObserver(look).observe(deck, { subtree: true, attributes: true, attributeFilter: ["hidden", "data-dealt"] });
  low.addEventListener("change", render);
  // By keys, one scrolls what has the focus.
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) target.tabIndex = target.scrollHeight > target.clientHeight ? 0 : -1;
  });
  cards.forEach((card) => sizes.observe(card));
  look();
}

function nameButton(card) {
  const name = el("button", { class: "deck-name", type: "button", hidden: true, "aria-expanded": "false", "aria-controls": card.id, data: { testid: `deck-${card.id}`, news: "false" } }, t(NAMES[card.id]));
  name.append(el("span", { class: "only-heard news" }, t("New")));
  return name;
}
