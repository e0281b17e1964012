// The choice of the picture's quality, and a word where the network carries no picture.

import { byId, el, icon, setText } from "../ui/dom.js";
import { closeSheet, openSheet } from "../ui/sheet.js";
import { phrase, t } from "../ui/tongue.js";

const HINTS = {
  none: phrase("Your connection is slow: sound only"),
  some: phrase("Your connection is slow: the picture may pause"),
};
/** What a layer is called, by how many there are: the largest first. */
const [BEST, HIGH, MEDIUM, LOW] = [phrase("Best"), phrase("High"), phrase("Medium"), phrase("Low")];
const NAMES = { 1: [HIGH], 2: [HIGH, LOW], 3: [HIGH, MEDIUM, LOW], 4: [BEST, HIGH, MEDIUM, LOW] };

export function showQuality(page, quality) {
  const button = byId("quality");
  const hint = byId("hint");
  const sheet = byId("quality-sheet");
  const list = byId("quality-list");

  const render = () => {
    const { current } = quality;
    const layers = current ? current.layers : [];
    const names = (NAMES[layers.length] || layers.map(({ name }) => name)).map((name) => t(name));
    // There is nothing to choose where the host sends one size.
    button.hidden = layers.length < 2;
    if (button.hidden) closeSheet(sheet);
    const text = current ? t(HINTS[current.pictures] || "") : "";
    hint.hidden = !text;
    setText(byId("hint-text"), text);
    page.toggleAttribute("data-sound-only", Boolean(current && current.pictures === "none"));
    const shown = current && layers.findIndex(({ name }) => name === current.layer);
    const auto = shown >= 0 && current && current.layer !== null ? t("Now: {quality}", { quality: names[shown] }) : t("By your connection");
    list.replaceChildren(
      choice("auto", t("Auto"), auto),
      ...layers.map(({ name, bitrate_bps: bps }, index) => choice(name, names[index], t("about {rate}", { rate: rate(bps) }))),
    );
  };

  const choice = (name, title, note) => {
    const chosen = quality.choice === name;
    const pick = el(
      "button",
      { class: "choice", type: "button", "aria-pressed": String(chosen), data: { testid: `quality-${name}` } },
      el("span", { class: "grow" }, el("strong", {}, title), el("span", { class: "muted small tabular" }, note)),
      chosen ? icon("check") : null,
    );
    pick.addEventListener("click", () => {
      quality.choose(name);
      closeSheet(sheet);
      render();
    });
    return el("li", {}, pick);
  };

  button.addEventListener("click", () => {
    render();
    openSheet(sheet);
  });
  quality.addEventListener("change", render);
  render();
}

function rate(bps) {
  return bps >= 1_000_000 ? `${(bps / 1_000_000).toFixed(1)} Mb/s` : `${Math.max(1, Math.round(bps / 10_000) * 10)} kb/s`;
}
