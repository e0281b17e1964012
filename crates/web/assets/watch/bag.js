// The bag: all products of the live, and what this buyer bought.

import { formatMoney } from "/sdk/haul.js";
import { byId, el, picture, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { closeSheet } from "../ui/sheet.js";
import { clockText, everyTick } from "../ui/time.js";
import { phrase, plural, t } from "../ui/tongue.js";
import { orderState } from "../ui/words.js";
import { offerOf, priceText } from "./offer.js";
import { saveButton } from "./product.js";

const PICTURE_PX = 72;

const SHORT_LABELS = {
  none: phrase("View"),
  external: phrase("Shop"),
  scheduled: phrase("Soon"),
  paused: phrase("Paused"),
  buy: phrase("Buy"),
  choose: phrase("Choose"),
  mine: phrase("Finish"),
  waiting: phrase("In line"),
  draw: phrase("Enter"),
  entered: phrase("In the draw"),
  limit: phrase("Yours"),
  taken: phrase("Try"),
  line: phrase("Line up"),
  sold_out: phrase("Sold out"),
  closed: phrase("Ended"),
};
/** What is bought from the list itself; everything else is looked at first. */
const AT_ONCE = new Set(["buy", "mine", "waiting", "taken", "draw", "entered"]);

/** `openProduct(id)` shows a product's sheet. */
export function showBag(room, { buying, saved, openProduct }) {
  const sheet = byId("bag-sheet");
  const list = byId("bag-list");
  let rows = [];

  const build = () => {
    const counter = byId("bag-count");
    counter.hidden = room.products.length === 0;
    setText(counter, String(room.products.length));
    rows = room.products.map((product) => {
      const open = () => (closeSheet(sheet), openProduct(product.id));
      const act = (offer) => {
        if (!AT_ONCE.has(offer.kind)) return open();
        closeSheet(sheet);
        return buying.start(offer, [{ line: 0, quantity: 1 }]);
      };
      return productRow(room, product, saved, { open, act });
    });
    list.replaceChildren(...rows.map(({ element }) => element));
    if (rows.length === 0) list.append(el("li", { class: "muted" }, t("The host has not put anything in the bag yet.")));
  };

  renderOn(room, ["products"], build);
  renderOn(room, ["sales", "you"], () => rows.forEach(({ update }) => update()));
  saved.addEventListener("change", () => rows.forEach(({ update }) => update()));
  renderOn(room, ["you", "products", "sales"], () => showOrders(room));
  everyTick(() => sheet.open && rows.forEach(({ update }) => update()));
}

function productRow(room, product, saved, { open, act }) {
  const price = el("strong", { class: "tabular" });
  const list = el("s", { class: "tabular" });
  const state = el("span", { class: "muted small tabular" });
  const button = el("button", { class: "button", type: "button", data: { testid: `bag-${product.id}` } });
  button.addEventListener("click", () => act(offerOf(room, product)));
  const save = saveButton(saved, product);
  const element = el(
    "li",
    { class: "line-item", data: { product: product.id } },
    el(
      "button",
      { class: "item-open", type: "button", data: { testid: `open-${product.id}` }, on: { click: open } },
      picture(product, PICTURE_PX),
      el(
        "span",
        { class: "grow" },
        el("b", {}, product.title),
        el("span", { class: "muted small" }, product.subtitle),
        el("span", { class: "offer" }, price, " ", list),
        state,
      ),
    ),
    save.element,
    button,
  );
  const update = () => {
    const offer = offerOf(room, product);
    setText(price, priceText(offer));
    setText(list, offer.listPrice ? formatMoney(offer.listPrice) : "");
    setText(state, stateText(offer));
    setText(button, t(SHORT_LABELS[offer.kind]));
    button.setAttribute("aria-label", `${t(SHORT_LABELS[offer.kind])}: ${product.title}`);
    button.disabled = ["sold_out", "closed", "limit", "paused"].includes(offer.kind);
    button.classList.toggle("primary", ["buy", "mine", "choose", "waiting", "line", "draw", "entered"].includes(offer.kind));
    save.update();
  };
  update();
  return { element, update };
}

function stateText({ kind, available, timer }) {
  if (kind === "scheduled") return t("opens in {time}", { time: timer.text });
  if (kind === "buy" || kind === "choose") return `${t("{n} left", { n: available })} · ${timer.text}`;
  return "";
}

function showOrders(room) {
  const orders = room.you ? room.you.orders : [];
  byId("mine").hidden = orders.length === 0;
  byId("order-list").replaceChildren(
    ...orders.map((order) => {
      const product = room.product(order.product_id);
      const { text, tone } = orderState(order.state);
      const names = room.unitsIn(order).map((units) => room.nameOf({ product_id: order.product_id, ...units }));
      const facts = [plural(order.quantity, "1 unit", "{n} units"), formatMoney(order.total), clockText(order.created_at)];
      const back = order.refunded.amount_minor > 0 ? t("{sum} back", { sum: formatMoney(order.refunded) }) : "";
      return el(
        "li",
        { class: "line-item", data: { testid: "my-order" } },
        picture(product, 52),
        el(
          "div",
          { class: "grow" },
          el("h4", {}, names.join(" + ")),
          el("p", { class: "muted small" }, [...facts, back].filter(Boolean).join(" · ")),
          el("p", { class: "muted small order-id" }, order.id),
        ),
        el("span", { class: "badge", data: { tone } }, text),
      );
    }),
  );
}
