// Flash sales, as they run: stock by line, and what the host may do with them.

import { formatMoney, newKey } from "/sdk/haul.js";
import { byId, el, picture, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { toast } from "../ui/sheet.js";
import { clockText, everyTick, spanText } from "../ui/time.js";
import { phrase, t } from "../ui/tongue.js";
import { teamSentence } from "../ui/words.js";

const PICTURE_PX = 44;
// A closed sale stays in sight so long, for its last payments.
const CLOSED_SHOWN_MS = 3 * 60_000;
const SOON_MS = 30_000;
// What one press of "Add units" adds.
const ADDED_UNITS = 10;
const PHASES = {
  open: { words: phrase("OPEN"), tone: "good" },
  paused: { words: phrase("PAUSED"), tone: "brand" },
  frozen: { words: phrase("RESTORING"), tone: "warn" },
  scheduled: { words: phrase("OPENS {time}"), tone: "brand" },
  closed: { words: phrase("CLOSED"), tone: "" },
};

export function showSales(room) {
  const list = byId("sales");
  const rows = new Map();

  const render = () => {
    const now = room.now();
    const shown = [...room.sales.values()]
      .filter((sale) => room.phase(sale) !== "closed" || sale.held > 0 || now - sale.closes_at < CLOSED_SHOWN_MS)
      .sort((a, b) => rank(room, a) - rank(room, b) || b.opens_at - a.opens_at);
    for (const [id, row] of rows) {
      if (shown.some((sale) => sale.id === id)) continue;
      row.element.remove();
      rows.delete(id);
    }
    shown.forEach((sale, i) => {
      if (!rows.has(sale.id)) rows.set(sale.id, saleRow(room, sale.id));
      const row = rows.get(sale.id);
      if (list.children[i] !== row.element) list.insertBefore(row.element, list.children[i] || null);
      row.update(i === 0);
    });
  };

  renderOn(room, ["sales", "products"], render);
  everyTick(render);
}

/** A sale that is paused stays where it is: the host's finger is on it. */
function rank(room, sale) {
  return { open: 0, paused: 0, scheduled: 1, closed: 2 }[room.phase(sale)];
}

function saleRow(room, id) {
  const part = (tag, className) => el(tag, { class: className });
  const title = part("b", "");
  const price = part("span", "muted small tabular");
  const state = part("span", "badge");
  const clock = part("span", "sale-clock tabular");
  const bar = part("i", "");
  const meter = el("div", { class: "meter split", "aria-hidden": "true" }, bar);
  const figures = part("p", "figures tabular small");
  const ways = part("p", "figures small");
  const image = part("span", "sale-picture");
  const lineList = part("ul", "sale-stock");
  const openNow = el("button", { class: "button", type: "button" }, t("Open now"));
  const close = el("button", { class: "button", type: "button" });
  const pause = el("button", { class: "button", type: "button" });
  const add = el("button", { class: "button", type: "button", "aria-label": t("Add {n} units", { n: ADDED_UNITS }) }, t("Add {n}", { n: ADDED_UNITS }));
  const ask = (button, type, fields = () => ({})) => async () => {
    button.disabled = true;
    try {
      await room.channel.request(typeof type === "function" ? type() : type, { sale_id: id, ...fields() });
    } catch (error) {
      toast(teamSentence(error), "bad");
    }
    button.disabled = false;
  };
  const addTo = (button, line) => button.addEventListener("click", ask(button, "sale.add_stock", () => ({ line, units: ADDED_UNITS, key: newKey() })));
  openNow.addEventListener("click", ask(openNow, "sale.open"));
  close.addEventListener("click", ask(close, "sale.close"));
  const isPaused = () => room.phase(room.sales.get(id)) === "paused";
  pause.addEventListener("click", ask(pause, () => (isPaused() ? "sale.resume" : "sale.pause")));
  addTo(add, 0);
  const actions = el("div", { class: "sale-actions" }, openNow, pause, add, close);
  const element = el(
    "li",
    { class: "sale", data: { sale: id } },
    el("div", { class: "sale-top" }, image, el("div", { class: "grow" }, title, price), el("div", { class: "sale-when" }, state, clock)),
    meter,
    figures,
    lineList,
    ways,
    actions,
  );
  let productShown = null;
  let lineRows = [];

  const lineRow = (line) => {
    const words = el("span", { class: "grow" });
    const stock = el("span", { class: "muted small tabular", data: { testid: "sale-line-stock" } });
    const more = el("button", { class: "button small-button", type: "button", data: { testid: "line-add" } }, `+${ADDED_UNITS}`);
    addTo(more, line.number);
    return {
      element: el("li", {}, words, stock, more),
      update: (now, closed) => {
        const name = room.nameOf(now);
        setText(words, name);
        setText(stock, t("{left} of {stock} · {sold} sold", { left: now.available, stock: now.stock, sold: now.sold }));
        more.setAttribute("aria-label", `${t("Add {n} units", { n: ADDED_UNITS })}: ${name}`);
        more.hidden = closed;
      },
    };
  };

  const update = (first) => {
    const sale = room.sales.get(id);
    if (!sale) return;
    const lines = room.linesOf(sale);
    const several = lines.length > 1;
    const product = room.product(sale.product_id);
    if (product !== productShown || !image.firstChild) {
      productShown = product;
      image.replaceChildren(picture(product, PICTURE_PX));
    }
    const phase = room.phase(sale);
    const now = room.now();
    const ends = phase === "scheduled" ? sale.opens_at : sale.closes_at;
    const others = new Set(lines.map((line) => line.product_id)).size - 1;
    setText(title, [product ? product.title : sale.product_id, others > 0 ? `+${others}` : ""].filter(Boolean).join(" "));
    setText(price, several ? t("{n} to choose from", { n: lines.length }) : [room.formOf(sale.product_id, sale.variant_id), formatMoney(sale.price), t("{n} per buyer", { n: sale.per_buyer })].filter(Boolean).join(" · "));
    const shown = PHASES[sale.state === "frozen" ? "frozen" : phase];
    setText(state, t(shown.words, { time: clockText(sale.opens_at) }));
    state.dataset.tone = shown.tone;
    setText(clock, phase === "closed" ? "" : spanText(ends - now));
    clock.dataset.tone = phase === "open" && ends - now < SOON_MS ? "soon" : "";
    bar.style.transform = `scaleX(${sale.stock ? sale.available / sale.stock : 0})`;
    setText(figures, t("{left} of {stock} left · {held} held · {sold} sold", { left: sale.available, stock: sale.stock, held: sale.held, sold: sale.sold }));
    lineList.hidden = !several;
    if (several && lineRows.length !== lines.length) {
      lineRows = lines.map(lineRow);
      lineList.replaceChildren(...lineRows.map((row) => row.element));
    }
    if (several) lineRows.forEach((row, i) => row.update(lines[i], phase === "closed"));
    const how = waysText(sale);
    ways.hidden = !how;
    setText(ways, how);
    openNow.hidden = phase !== "scheduled";
    pause.hidden = phase !== "open" && phase !== "paused";
    setText(pause, t(phase === "paused" ? "Go on" : "Pause"));
    add.hidden = phase === "closed" || several;
    close.hidden = phase === "closed";
    setText(close, t(phase === "scheduled" ? "Call off" : "Close early"));
    actions.hidden = phase === "closed";
    element.dataset.phase = phase;
    // The first sale is the one that matters, so that one name finds it.
    for (const [name, part] of Object.entries({ "sale-close": close, "sale-pause": pause, "sale-add-stock": add, "sale-stock-left": figures, "sale-open-now": openNow })) {
      if (first) part.dataset.testid = name;
      else delete part.dataset.testid;
    }
  };
  return { element, update };
}

/** How it is sold, where that is not the usual way. */
function waysText(sale) {
  const early = (sale.early || []).map(({ tier, opens_at: at }) => t("{tier} {span} earlier", { tier, span: spanText(sale.opens_at - at) }));
  return [sale.mode === "first_paid" && t("First paid, first served"), sale.offer_ms && t("Waiting line, {span} to pay", { span: spanText(sale.offer_ms) }), sale.draw && (sale.draw.seed ? t("Drawn") : t("Drawn at {time}", { time: clockText(sale.draw.draws_at) })), ...early].filter(Boolean).join(" · ");
}
