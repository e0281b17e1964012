// The bag, as the host sees it: what is in it, what is pinned, and how to change it.

import { formatMoney, parseAmount, plainAmount } from "/sdk/haul.js";
import { byId, el, icon, picture, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { closeSheet, openSheet, toast } from "../ui/sheet.js";
import { t } from "../ui/tongue.js";
import { teamSentence } from "../ui/words.js";

const PICTURE_PX = 52;

/** `mayEdit`: the reader may also change what is in the bag. */
export function showProducts(room, api, { mayEdit }) {
  const list = byId("products");
  const edit = wireForm(room, api);
  const ask = (type, fields) => room.channel.request(type, fields).catch((error) => toast(teamSentence(error), "bad"));

  renderOn(room, ["products", "pin"], () => {
    const pinned = room.pin ? room.pin.product_id : null;
    // The same button stays under the host's finger and keeps its focus while the list is made anew.
    const focused = document.activeElement ? document.activeElement.dataset.testid : null;
    list.replaceChildren(...room.products.map((product) => row(product, product.id === pinned, ask, mayEdit ? edit : null)));
    if (room.products.length === 0) list.append(el("li", { class: "nothing" }, t("The bag is empty. Add what you are going to show.")));
    if (focused) {
      const again = list.querySelector(`[data-testid="${CSS.escape(focused)}"]`);
      if (again) again.focus({ preventScroll: true });
    }
  });
  byId("product-add").addEventListener("click", () => edit(null));
}

function row(product, pinned, ask, edit) {
  const pin = el(
    "button",
    {
      class: pinned ? "button pin-on" : "button",
      type: "button",
      data: { testid: `pin-${product.id}` },
      "aria-pressed": String(pinned),
      "aria-label": `${t(pinned ? "Pinned" : "Pin")}: ${product.title}`,
      on: { click: () => ask("pin", { product_id: product.id }) },
    },
    icon("pin"),
    t(pinned ? "Pinned" : "Pin"),
  );
  return el(
    "li",
    { class: "product", data: { product: product.id, pinned: String(pinned) } },
    picture(product, PICTURE_PX),
    el(
      "button",
      { class: "product-text", type: "button", disabled: !edit, title: edit ? t("Change") : undefined, on: { click: () => edit(product) } },
      el("b", {}, product.title),
      el("span", { class: "muted small tabular" }, product.shop_link ? t("Sold by another shop") : formatMoney(product.list_price)),
    ),
    pinned && el("button", { class: "icon-button", type: "button", data: { testid: "unpin" }, "aria-label": t("Unpin"), title: t("Unpin"), on: { click: () => ask("unpin", {}) } }, icon("close")),
    pin,
  );
}

/** Returns how to open the form, for a product or for a new one. */
function wireForm(room, api) {
  const sheet = byId("product-sheet");
  const field = (name) => byId(`product-${name}`);
  let editing = null;

  const fail = (words) => {
    setText(field("error"), words || "");
    field("error").hidden = !words;
  };

  byId("product-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const currency = field("currency").value.trim().toUpperCase();
    if (!/^[A-Z]{3}$/.test(currency)) return fail(t("A currency has three letters, such as EUR."));
    const price_minor = parseAmount(field("price").value, currency);
    if (price_minor === null) return fail(t("Write the price as a number, such as {example}.", { example: plainAmount({ amount_minor: 2450, currency }) }));
    const body = {
      title: field("title").value.trim(),
      subtitle: field("subtitle").value.trim(),
      image_url: field("image").value.trim(),
      price_minor,
      currency,
    };
    const id = editing ? editing.id : idFor(body.title, room);
    try {
      await api(`/products/${encodeURIComponent(id)}`, { method: "PUT", body });
      closeSheet(sheet);
      return toast(t("Saved."), "good");
    } catch (error) {
      return fail(teamSentence(error));
    }
  });

  field("remove").addEventListener("click", async () => {
    try {
      await api(`/products/${encodeURIComponent(editing.id)}`, { method: "DELETE" });
      closeSheet(sheet);
    } catch (error) {
      fail(teamSentence(error));
    }
  });

  return (product) => {
    editing = product;
    fail("");
    setText(byId("product-heading"), t(product ? "Change product" : "Add product"));
    const currency = room.products[0] ? room.products[0].list_price.currency : "EUR";
    field("title").value = product ? product.title : "";
    field("subtitle").value = product ? product.subtitle : "";
    field("image").value = product ? product.image_url : "";
    field("price").value = product ? plainAmount(product.list_price) : "";
    field("currency").value = product ? product.list_price.currency : currency;
    field("remove").hidden = !product;
    openSheet(sheet);
  };
}

/** An id that reads like the title, and is not taken. */
function idFor(title, room) {
  const plain = title.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40) || "product";
  const taken = new Set(room.products.map((product) => product.id));
  if (!taken.has(plain)) return plain;
  for (let n = 2; ; n += 1) if (!taken.has(`${plain}-${n}`)) return `${plain}-${n}`;
}
