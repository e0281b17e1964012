// The bag: all products of the live, and what this buyer bought.

import { formatMoney } from "/sdk/haul.js";
import { byId, el, picture, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { closeSheet } from "../ui/sheet.js";
import { clockText, everyTick } from "../ui/time.js";
import { count, orderState } from "../ui/words.js";
import { offerOf, priceText } from "./offer.js";

const PICTURE_PX = 72;

const SHORT_LABELS = { none: "Soon", scheduled: "Soon", buy: "Buy", mine: "Finish", limit: "Yours", taken: "Try", sold_out: "Sold out", closed: "Ended" };

export function showBag(room, buying) {
  const sheet = byId("bag-sheet");
  const list = byId("bag-list");
  let rows = [];

  const build = () => {
    const counter = byId("bag-count");
    counter.hidden = room.products.length === 0;
    setText(counter, String(room.products.length));
    rows = room.products.map((product) => productRow(room, product, (offer) => {
      closeSheet(sheet);
      buying.start(offer, 1);
    }));
    list.replaceChildren(...rows.map(({ element }) => element));
    if (rows.length === 0) list.append(el("li", { class: "muted" }, "The host has not put anything in the bag yet."));
  };

  renderOn(room, ["products"], build);
  renderOn(room, ["sales", "you"], () => rows.forEach(({ update }) => update()));
  renderOn(room, ["you", "products"], () => showOrders(room));
  everyTick(() => sheet.open && rows.forEach(({ update }) => update()));
}

function productRow(room, product, onBuy) {
  const price = el("strong", { class: "tabular" });
  const list = el("s", { class: "tabular" });
  const state = el("span");
  const button = el("button", { class: "button", type: "button" });
  button.addEventListener("click", () => onBuy(offerOf(room, product)));
  const element = el(
    "li",
    { class: "line-item", data: { product: product.id } },
    picture(product, PICTURE_PX),
    el(
      "div",
      { class: "grow" },
      el("h3", {}, product.title),
      el("p", { class: "muted small" }, product.subtitle),
      el("p", { class: "offer" }, price, " ", list, " ", state),
    ),
    button,
  );
  const update = () => {
    const offer = offerOf(room, product);
    setText(price, priceText(offer));
    setText(list, offer.listPrice ? formatMoney(offer.listPrice) : "");
    setText(state, stateText(offer));
    setText(button, SHORT_LABELS[offer.kind]);
    button.hidden = offer.kind === "none";
    button.disabled = !offer.enabled;
    button.classList.toggle("primary", offer.kind === "buy" || offer.kind === "mine");
  };
  update();
  return { element, update };
}

function stateText({ kind, sale, timer }) {
  if (kind === "scheduled") return `· opens in ${timer.text}`;
  if (kind === "buy") return `· ${sale.available} left · ${timer.text}`;
  return "";
}

function showOrders(room) {
  const orders = room.you ? room.you.orders : [];
  byId("mine").hidden = orders.length === 0;
  byId("order-list").replaceChildren(
    ...orders.map((order) => {
      const product = room.product(order.product_id);
      const { text, tone } = orderState(order.state);
      return el(
        "li",
        { class: "line-item", data: { testid: "my-order" } },
        picture(product, 52),
        el(
          "div",
          { class: "grow" },
          el("h3", {}, product ? product.title : order.product_id),
          el("p", { class: "muted small" }, `${count(order.quantity, "unit")} · ${formatMoney(order.total)} · ${clockText(order.created_at)}`),
          el("p", { class: "muted small order-id" }, order.id),
        ),
        el("span", { class: "badge", data: { tone } }, text),
      );
    }),
  );
}
