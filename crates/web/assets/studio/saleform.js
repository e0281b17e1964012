// The form that opens a sale: one product, several forms of it, or several products together; how it is sold, and to whom first.

import { formatMoney, parseAmount, plainAmount, timeText } from "/sdk/haul.js";
import { byId, el, icon, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { toast } from "../ui/sheet.js";
import { plural, t } from "../ui/tongue.js";
import { teamSentence } from "../ui/words.js";

// As the server has it.
const LINES_MAX = 50;
const ALL = "*";

export function wireSaleForm(room) {
  const field = (name) => byId(`sale-${name}`);
  const product = () => room.product(field("product").value);
  const variants = () => room.listing.get(field("product").value)?.variants || [];
  /** Lines that are put together before the sale opens. */
  let lines = [];

  const fitPrice = () => {
    const chosen = product();
    if (!chosen) return;
    setText(byId("sale-price-label"), `${t("Price")} (${chosen.list_price.currency})`);
    const variant = variants().find(({ sku }) => sku === field("variant").value);
    field("price").value = plainAmount(variant ? variant.list_price : chosen.list_price);
  };

  const fitVariants = () => {
    const forms = variants();
    byId("sale-variant-field").hidden = forms.length === 0;
    const before = field("variant").value;
    field("variant").replaceChildren(
      el("option", { value: ALL }, t("All {n}, with this stock each", { n: forms.length })),
      ...forms.map(({ sku, values }) => el("option", { value: sku }, values.join(", "))),
    );
    if (forms.some(({ sku }) => sku === before)) field("variant").value = before;
    setText(byId("sale-stock-label"), t(forms.length > 0 && field("variant").value === ALL ? "Stock each" : "Stock"));
  };

  const renderLines = () => {
    byId("sale-lines").replaceChildren(
      ...lines.map((line, i) =>
        el(
          "li",
          { class: "sale-line", data: { testid: "sale-line" } },
          el("span", { class: "grow" }, room.nameOf(line)),
          el("span", { class: "muted small tabular" }, `${formatMoney(line.price)} · ${plural(line.stock, "1 unit", "{n} units")}`),
          el(
            "button",
            { class: "icon-button", type: "button", "aria-label": `${t("Take away")}: ${room.nameOf(line)}`, on: { click: () => ((lines = lines.filter((_, at) => at !== i)), renderLines()) } },
            icon("close"),
          ),
        ),
      ),
    );
    setText(byId("sale-add-line-label"), t(lines.length > 0 ? "And another one" : "Sell several together"));
  };

  /** What the fields say, as lines; null where they say nothing that can be sold. */
  const said = () => {
    const chosen = product();
    if (!chosen) return null;
    const { currency } = chosen.list_price;
    const amount = parseAmount(field("price").value, currency);
    field("price").setAttribute("aria-invalid", String(amount === null));
    if (amount === null) {
      toast(t("Write the price as a number."), "bad");
      field("price").focus();
      return null;
    }
    const line = { product_id: chosen.id, price: { amount_minor: amount, currency }, stock: Number(field("stock").value), per_buyer: Number(field("limit").value) };
    const forms = variants();
    if (forms.length === 0) return [line];
    const { value } = field("variant");
    return (value === ALL ? forms.map(({ sku }) => sku) : [value]).map((sku) => ({ ...line, variant_id: sku }));
  };

  const has = (line) => lines.some((each) => each.product_id === line.product_id && each.variant_id === line.variant_id);

  byId("sale-add-line").addEventListener("click", () => {
    if (!field("form").reportValidity()) return;
    const more = said();
    if (!more) return;
    const fresh = more.filter((line) => !has(line));
    if (fresh.length === 0) toast(t("That is in this sale already."), "bad");
    else if (lines.length + fresh.length > LINES_MAX) toast(t("A sale may have {n} products at most.", { n: LINES_MAX }), "bad");
    else if (lines[0] && fresh[0].price.currency !== lines[0].price.currency) toast(t("One sale has one currency."), "bad");
    else lines = [...lines, ...fresh];
    renderLines();
  });

  renderOn(room, ["products"], () => {
    const select = field("product");
    const before = select.value;
    const own = room.products.filter(({ shop_link: link }) => !link);
    select.replaceChildren(...own.map(({ id, title }) => el("option", { value: id }, title)));
    if (room.product(before)) select.value = before;
    fitVariants();
    if (!room.product(before)) fitPrice();
    field("open").disabled = own.length === 0;
    renderLines();
  });
  // What the host pins is most likely what goes on sale next.
  room.addEventListener("change", ({ detail }) => {
    if (detail !== "pin" || !room.pin || document.activeElement.closest("#sale-form")) return;
    const pinned = room.product(room.pin.product_id);
    if (!pinned || pinned.shop_link || field("product").value === pinned.id) return;
    field("product").value = pinned.id;
    fitVariants();
    fitPrice();
  });
  field("product").addEventListener("change", () => (fitVariants(), fitPrice()));
  field("variant").addEventListener("change", () => (fitVariants(), fitPrice()));
  field("when").addEventListener("change", () => {
    setText(byId("sale-open-label"), t(field("when").value === "0" ? "Open the sale" : "Schedule the sale"));
  });
  field("mode").addEventListener("change", () => {
    const first = field("mode").value === "first_paid";
    byId("sale-queue-field").hidden = first;
    byId("sale-draw-field").hidden = first;
    setText(byId("sale-mode-note"), t(first ? "Nothing is set aside: who pays first gets it, later payments go back." : "A tap on Buy sets units aside until the time to pay is over."));
  });

  field("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const now = said();
    if (!now) return;
    const all = [...lines, ...now.filter((line) => !has(line))];
    const minutes = Number(field("when").value);
    const [first, ...more] = all.map(({ price, ...line }) => ({ ...line, price_minor: price.amount_minor }));
    const request = { ...first, duration_ms: Math.round(Number(field("minutes").value) * 60_000) };
    if (more.length > 0) request.more = more;
    if (minutes > 0) request.opens_at = timeText(room.now() + minutes * 60_000);
    const firstPaid = field("mode").value === "first_paid";
    if (firstPaid) request.mode = "first_paid";
    const hold = Number(field("hold").value);
    if (hold > 0) request.hold_ms = hold * 60_000;
    const offer = Number(field("queue").value);
    if (offer > 0 && !firstPaid) request.offer_ms = offer * 1_000;
    const draw = Number(field("draw").value);
    // A draw has no line: what is left after it goes to who comes first.
    if (draw > 0 && !firstPaid) {
      request.draw_ms = draw * 1_000;
      delete request.offer_ms;
    }
    const tier = field("tier").value.trim();
    const early = Number(field("early").value);
    if (tier && early > 0) request.early = [{ tier, ms: early * 1_000 }];
    const button = field("open");
    button.disabled = true;
    try {
      await room.channel.request("sale.schedule", request);
      lines = [];
      renderLines();
      if (field("pin").checked && (!room.pin || room.pin.product_id !== first.product_id)) {
        await room.channel.request("pin", { product_id: first.product_id });
      }
      toast(t(minutes > 0 ? "The sale is scheduled." : "The sale is open."), "good");
    } catch (error) {
      // What the server says names the field.
      toast(error.code === "bad_request" ? `${t("The sale can't be opened like this.")} (${error.message})` : teamSentence(error), "bad");
    }
    button.disabled = false;
  });
}
