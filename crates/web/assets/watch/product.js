// The sheet of one product: what it is, which forms of it there are and what else the sale has, how many, and the way to buy.

import { formatMoney } from "/sdk/haul.js";
import { byId, el, icon, picture, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { closeSheet, openSheet } from "../ui/sheet.js";
import { everyTick } from "../ui/time.js";
import { t } from "../ui/tongue.js";
import { offerOf, priceText } from "./offer.js";

const PICTURE_PX = 112;
const SMALL_PX = 44;
// As the server has it: so many lines of a sale are bought at once.
const HOLD_LINES_MAX = 6;

/** Returns how to open the sheet for a product's id. */
export function showProduct(room, { buying, saved, onAsk }) {
  const sheet = byId("product-sheet");
  const body = byId("product-body");
  /** What is shown: the product, its chosen values by option, units by line of the sale. */
  let shown = null;
  let update = () => {};

  const build = () => {
    const product = shown && room.product(shown.id);
    if (!product) return closeSheet(sheet);
    const offer = offerOf(room, product);
    setText(byId("product-heading"), product.title);
    // Lines are kept by their number: another sale has others.
    if (shown.sale !== (offer.sale && offer.sale.id)) shown = { ...shown, sale: offer.sale && offer.sale.id, units: new Map(), values: null };
    const parts = [head(room, product, saved)];
    const updates = [parts[0].update];
    if (offer.sale && ["choose", "buy", "scheduled", "line", "taken", "paused", "draw"].includes(offer.kind)) {
      const forms = formChoice(room, product, shown, () => build());
      if (forms) parts.push(forms);
      const units = unitRows(room, product, shown, () => refresh());
      parts.push(units);
      updates.push(units.update);
    }
    const foot = buyFoot(room, shown, { buying, close: () => closeSheet(sheet) });
    parts.push(foot);
    updates.push(foot.update);
    const ask = el("button", { class: "button quiet wide", type: "button", data: { testid: "product-ask" }, on: { click: () => (closeSheet(sheet), onAsk(product.id)) } }, icon("ask"), t("Ask about it"));
    body.replaceChildren(...parts.map(({ element }) => element), ask);
    update = () => updates.forEach((each) => each());
    update();
    return undefined;
  };
  const refresh = () => shown && sheet.open && update();

  renderOn(room, ["products", "sales", "you"], () => {
    if (!shown || !sheet.open) return;
    const product = room.product(shown.id);
    const kind = product ? `${offerOf(room, product).kind}/${room.listing.has(shown.id)}/${offerOf(room, product).sale?.id}` : "";
    // Made anew only where it is about something else: the button under a finger stays.
    if (kind !== shown.kind) {
      shown.kind = kind;
      build();
    } else refresh();
  });
  saved.addEventListener("change", refresh);
  everyTick(refresh);

  return (id) => {
    shown = { id, sale: null, units: new Map(), values: null, kind: "" };
    build();
    openSheet(sheet);
  };
}

function head(room, product, saved) {
  const price = el("strong", { class: "tabular" });
  const list = el("s", { class: "tabular" });
  const clock = el("span", { class: "muted small tabular" });
  const save = saveButton(saved, product);
  const element = el(
    "div",
    { class: "product-head" },
    picture(product, PICTURE_PX),
    el("div", { class: "grow" }, el("p", { class: "muted" }, product.subtitle), el("p", { class: "prices" }, price, " ", list), clock),
    save.element,
  );
  const update = () => {
    const offer = offerOf(room, product);
    setText(price, priceText(offer));
    setText(list, offer.listPrice ? formatMoney(offer.listPrice) : "");
    setText(clock, offer.timer ? `${offer.timer.label} ${offer.timer.text}` : "");
    save.update();
  };
  return { element, update };
}

/** The button that keeps a product in mind. */
export function saveButton(saved, product) {
  const element = el(
    "button",
    { class: "icon-button save", type: "button", data: { testid: "save" }, on: { click: () => saved.toggle(product.id) } },
    icon("bookmark"),
  );
  const update = () => {
    const on = saved.has(product.id);
    element.setAttribute("aria-pressed", String(on));
    element.setAttribute("aria-label", `${t(on ? "Saved" : "Save")}: ${product.title}`);
  };
  update();
  return { element, update };
}

/** One row of values for each of the product's options; null where it has no forms to choose from. */
function formChoice(room, product, shown, onChange) {
  const sale = room.sales.get(shown.sale);
  const listed = room.listing.get(product.id);
  const lines = room.linesOf(sale, product.id);
  if (lines.length < 2) return null;
  const values = lines.map((line) => formValues(room, listed, product, line));
  if (!shown.values) {
    const first = Math.max(0, lines.findIndex(({ available }) => available > 0));
    shown.values = values[first];
  }
  const names = listed && listed.options.length === values[0].length ? listed.options.map(({ name }) => name) : [t("Which one")];
  const groups = names.map((name, at) => {
    const all = [...new Set(values.map((each) => each[at]))];
    return el(
      "div",
      { class: "form-group", role: "group", "aria-label": name },
      el("p", { class: "small strong" }, name),
      el(
        "div",
        { class: "chips" },
        ...all.map((value) => {
          const chosen = shown.values[at] === value;
          const wanted = shown.values.map((each, i) => (i === at ? value : each));
          const line = lines[values.findIndex((each) => each.join() === wanted.join())];
          const gone = !line || (line.available === 0 && line.held === 0);
          return el(
            "button",
            {
              class: "chip",
              type: "button",
              "aria-pressed": String(chosen),
              "aria-label": gone ? `${value}, ${t("Sold out")}` : value,
              data: { testid: `form-${value}`, gone: String(gone) },
              on: {
                click: () => {
                  // A value that the others don't go with takes those along that do.
                  shown.values = line ? wanted : values.find((each) => each[at] === value);
                  shown.units = new Map([...shown.units].filter(([number]) => !lines.some((each) => each.number === number)));
                  onChange();
                },
              },
            },
            value,
          );
        }),
      ),
    );
  });
  return { element: el("div", { class: "forms" }, ...groups) };
}

function formValues(room, listed, product, line) {
  const variant = listed && listed.variants.find(({ sku }) => sku === line.variant_id);
  if (variant) return variant.values;
  return [room.formOf(product.id, line.variant_id) || product.title];
}

/** The line of the chosen form. */
function chosenLine(room, shown) {
  const sale = room.sales.get(shown.sale);
  const product = room.product(shown.id);
  const lines = sale && product ? room.linesOf(sale, shown.id) : [];
  if (lines.length < 2 || !shown.values) return lines[0] || null;
  const listed = room.listing.get(shown.id);
  return lines.find((line) => formValues(room, listed, product, line).join() === shown.values.join()) || lines[0];
}

/** How many of the chosen form, and of what else the sale has. */
function unitRows(room, product, shown, onChange) {
  const sale = room.sales.get(shown.sale);
  const own = chosenLine(room, shown);
  if (own && !shown.units.has(own.number)) shown.units.set(own.number, 1);
  const others = room.linesOf(sale).filter((line) => line.product_id !== product.id).slice(0, HOLD_LINES_MAX * 4);
  const row = (line, main) => {
    const count = el("output", { class: "tabular", data: { testid: main ? "product-quantity" : `also-quantity-${line.number}` } });
    const step = (by, label, glyph) => {
      const button = el("button", { class: "icon-button", type: "button", "aria-label": `${t(label)}: ${room.nameOf(line)}`, data: { testid: main ? `product-${glyph}` : `also-${glyph}-${line.number}` } }, icon(glyph));
      button.addEventListener("click", () => {
        shown.units.set(line.number, (shown.units.get(line.number) || 0) + by);
        onChange();
      });
      return button;
    };
    const fewer = step(-1, "One less", "minus");
    const more = step(1, "One more", "plus");
    const facts = el("p", { class: "small muted tabular" });
    const element = el(
      "li",
      { class: "unit-row" },
      !main && picture(room.product(line.product_id), SMALL_PX),
      el("div", { class: "grow" }, el("p", {}, main ? t("Quantity") : room.nameOf(line)), facts),
      el("div", { class: "stepper", role: "group", "aria-label": main ? t("Quantity") : room.nameOf(line) }, fewer, count, more),
    );
    const update = () => {
      const now = room.linesOf(room.sales.get(shown.sale) || sale)[line.number] || line;
      const left = Math.max(0, now.per_buyer - room.unitsOf(shown.sale, line.number));
      const least = main ? 1 : 0;
      const most = Math.max(least, Math.min(left, now.available));
      const units = Math.max(least, Math.min(shown.units.get(line.number) || 0, most));
      shown.units.set(line.number, units);
      setText(count, String(units));
      fewer.disabled = units <= least;
      const lines = [...shown.units.values()].filter((each) => each > 0).length;
      more.disabled = units >= most || (units === 0 && lines >= HOLD_LINES_MAX);
      const stock = now.available > 0 ? t("{n} left", { n: now.available }) : t(now.held > 0 ? "All being bought" : "Sold out");
      setText(facts, main ? stock : `${formatMoney(now.price)} · ${stock}`);
    };
    return { element, update };
  };
  const rows = [own && row(own, true), ...others.map((line) => row(line, false))].filter(Boolean);
  const main = own ? rows.slice(0, 1) : [];
  const also = own ? rows.slice(1) : rows;
  const element = el(
    "div",
    { class: "units" },
    el("ul", {}, ...main.map((each) => each.element)),
    also.length > 0 && el("h3", {}, t("Also in this sale")),
    also.length > 0 && el("ul", { data: { testid: "also" } }, ...also.map((each) => each.element)),
  );
  return { element, update: () => rows.forEach((each) => each.update()) };
}

/** The sum, and the button. */
function buyFoot(room, shown, { buying, close }) {
  const button = el("button", { class: "button primary large wide", type: "button", data: { testid: "product-buy" } });
  const link = el("a", { class: "button primary large wide", target: "_blank", rel: "noopener noreferrer", data: { testid: "product-shop" } }, t("To the shop"));
  const note = el("p", { class: "small muted center" });
  const units = () => [...shown.units].filter(([, quantity]) => quantity > 0).map(([line, quantity]) => ({ line, quantity }));
  button.addEventListener("click", () => {
    const product = room.product(shown.id);
    if (!product) return;
    const offer = offerOf(room, product);
    const line = chosenLine(room, shown);
    close();
    if (offer.hold) buying.start(offer, []);
    else if (line && line.available === 0 && offer.sale.offer_ms) buying.queue(offer, { line: line.number, quantity: 1 });
    else buying.start(offer, units());
  });
  const update = () => {
    const product = room.product(shown.id);
    if (!product) return;
    const offer = offerOf(room, product);
    const external = offer.kind === "external";
    link.hidden = !external;
    button.hidden = external;
    if (external) {
      link.href = product.shop_link;
      setText(note, offer.note);
      return;
    }
    const line = chosenLine(room, shown);
    const buyable = ["buy", "choose", "taken", "line", "draw"].includes(offer.kind);
    const total = offer.sale
      ? units().reduce((sum, { line: number, quantity }) => {
          const { price } = room.linesOf(offer.sale)[number] || offer;
          return sum + price.amount_minor * quantity;
        }, 0)
      : 0;
    const gone = buyable && line && line.available === 0;
    const label = !buyable
      ? offer.label
      : gone
        ? t(offer.sale.offer_ms && line.held > 0 ? "Wait in line" : line.held > 0 ? "Try for a returned unit" : "Sold out")
        : `${t(room.isDrawing(offer.sale) ? "Enter the draw" : "Buy now")} · ${formatMoney({ ...offer.price, amount_minor: total })}`;
    setText(button, label);
    button.disabled = !offer.enabled || buying.busy || Boolean(gone && line.held === 0);
    setText(note, offer.note || "");
  };
  return { element: el("div", { class: "product-foot" }, button, link, note), update };
}
