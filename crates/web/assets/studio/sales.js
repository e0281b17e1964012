// Flash sales: opening one, and watching it run.

import { formatMoney, newKey, parseAmount, plainAmount } from "/sdk/haul.js";
import { byId, el, picture, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { toast } from "../ui/sheet.js";
import { clockText, everyTick, spanText } from "../ui/time.js";
import { sentence } from "../ui/words.js";

const PICTURE_PX = 44;
// A closed sale stays in sight so long, for its last payments.
const CLOSED_SHOWN_MS = 3 * 60_000;
const SOON_MS = 30_000;
// What one press of "Add units" adds.
const ADDED_UNITS = 10;

export function showSales(room) {
  wireForm(room);
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

function rank(room, sale) {
  return ["open", "paused", "scheduled", "closed"].indexOf(room.phase(sale));
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
  const image = part("span", "sale-picture");
  const openNow = el("button", { class: "button", type: "button" }, "Open now");
  const close = el("button", { class: "button", type: "button" }, "Close early");
  const pause = el("button", { class: "button", type: "button" }, "Pause");
  const add = el("button", { class: "button", type: "button" }, `Add ${ADDED_UNITS} units`);
  const ask = (button, type, fields = () => ({})) => async () => {
    button.disabled = true;
    try {
      await room.channel.request(typeof type === "function" ? type() : type, { sale_id: id, ...fields() });
    } catch (error) {
      toast(sentence(error), "bad");
    }
    button.disabled = false;
  };
  openNow.addEventListener("click", ask(openNow, "sale.open"));
  close.addEventListener("click", ask(close, "sale.close"));
  const isPaused = () => room.phase(room.sales.get(id)) === "paused";
  pause.addEventListener("click", ask(pause, () => (isPaused() ? "sale.resume" : "sale.pause")));
  add.addEventListener("click", ask(add, "sale.add_stock", () => ({ units: ADDED_UNITS, key: newKey() })));
  const actions = el("div", { class: "sale-actions" }, openNow, pause, add, close);
  const element = el(
    "li",
    { class: "sale", data: { sale: id } },
    el("div", { class: "sale-top" }, image, el("div", { class: "grow" }, title, price), el("div", { class: "sale-when" }, state, clock)),
    meter,
    figures,
    actions,
  );
  let productShown = null;

  const update = (first) => {
    const sale = room.sales.get(id);
    if (!sale) return;
    const product = room.product(sale.product_id);
    if (product !== productShown || !image.firstChild) {
      productShown = product;
      image.replaceChildren(picture(product, PICTURE_PX));
    }
    const phase = room.phase(sale);
    const now = room.now();
    const ends = phase === "scheduled" ? sale.opens_at : sale.closes_at;
    setText(title, product ? product.title : sale.product_id);
    setText(price, `${formatMoney(sale.price)} · ${sale.per_buyer} per buyer`);
    const words = { open: "OPEN", paused: "PAUSED", scheduled: `OPENS ${clockText(sale.opens_at)}`, closed: "CLOSED" };
    setText(state, words[phase]);
    state.dataset.tone = { open: "good", paused: "brand", scheduled: "brand", closed: "" }[phase];
    setText(clock, phase === "closed" ? "" : spanText(ends - now));
    clock.dataset.tone = phase === "open" && ends - now < SOON_MS ? "soon" : "";
    bar.style.transform = `scaleX(${sale.stock ? sale.available / sale.stock : 0})`;
    setText(figures, `${sale.available} of ${sale.stock} left · ${sale.held} held · ${sale.sold} sold`);
    openNow.hidden = phase !== "scheduled";
    pause.hidden = phase !== "open" && phase !== "paused";
    setText(pause, phase === "paused" ? "Go on" : "Pause");
    // Of several products, the host's shop says of which there are more.
    add.hidden = phase === "closed" || Boolean(sale.lines);
    close.hidden = phase === "closed";
    setText(close, phase === "scheduled" ? "Call off" : "Close early");
    actions.hidden = phase === "closed";
    element.dataset.phase = phase;
    // The first sale is the one that matters, so that one name finds it.
    if (first) {
      close.dataset.testid = "sale-close";
      pause.dataset.testid = "sale-pause";
      add.dataset.testid = "sale-add-stock";
      figures.dataset.testid = "sale-stock-left";
    } else {
      delete close.dataset.testid;
      delete pause.dataset.testid;
      delete add.dataset.testid;
      delete figures.dataset.testid;
    }
  };
  return { element, update };
}

function wireForm(room) {
  const field = (name) => byId(`sale-${name}`);
  const product = () => room.product(field("product").value);

  const fitPrice = () => {
    const chosen = product();
    if (!chosen) return;
    setText(byId("sale-price-label"), `Price (${chosen.list_price.currency})`);
    field("price").value = plainAmount(chosen.list_price);
  };

  renderOn(room, ["products"], () => {
    const select = field("product");
    const before = select.value;
    select.replaceChildren(...room.products.map(({ id, title }) => el("option", { value: id }, title)));
    if (room.product(before)) select.value = before;
    else fitPrice();
    field("open").disabled = room.products.length === 0;
  });
  // What the host pins is most likely what goes on sale next.
  room.addEventListener("change", ({ detail }) => {
    if (detail !== "pin" || !room.pin || document.activeElement.closest("#sale-form")) return;
    if (!room.product(room.pin.product_id) || field("product").value === room.pin.product_id) return;
    field("product").value = room.pin.product_id;
    fitPrice();
  });
  field("product").addEventListener("change", fitPrice);
  field("when").addEventListener("change", () => {
    setText(byId("sale-open-label"), field("when").value === "0" ? "Open the sale" : "Schedule the sale");
  });

  field("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = product();
    if (!chosen) return;
    const price = parseAmount(field("price").value, chosen.list_price.currency);
    field("price").setAttribute("aria-invalid", String(price === null));
    if (price === null) {
      toast("Write the price as a number.", "bad");
      field("price").focus();
      return;
    }
    const minutes = Number(field("when").value);
    const request = {
      product_id: chosen.id,
      price_minor: price,
      stock: Number(field("stock").value),
      per_buyer: Number(field("limit").value),
      duration_ms: Math.round(Number(field("minutes").value) * 60_000),
    };
    if (minutes > 0) request.opens_at = Math.round(room.now() + minutes * 60_000);
    const button = field("open");
    button.disabled = true;
    try {
      await room.channel.request("sale.schedule", request);
      if (field("pin").checked && (!room.pin || room.pin.product_id !== chosen.id)) {
        await room.channel.request("pin", { product_id: chosen.id });
      }
      toast(minutes > 0 ? "The sale is scheduled." : "The sale is open.", "good");
    } catch (error) {
      toast(sentence(error), "bad");
    }
    button.disabled = false;
  });
}
