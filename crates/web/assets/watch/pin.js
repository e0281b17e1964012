// The card of the pinned product.

import { formatMoney } from "/sdk/haul.js";
import { byId, picture, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { everyTick } from "../ui/time.js";
import { t } from "../ui/tongue.js";
import { offerOf, priceText } from "./offer.js";
import { saveButton } from "./product.js";

const PICTURE_PX = 72;
/** Where nothing can be bought now, one may ask to be told of it. */
const LATER = new Set(["sold_out", "closed", "none"]);

/** `openProduct(id)` shows a product's sheet. */
export function showPin(room, { buying, saved, openProduct }) {
  const card = byId("pin");
  const buy = byId("buy");
  const shop = byId("pin-shop");
  let shown = null;
  let save = null;
  let quantity = 1;

  const render = () => {
    const product = room.pin && room.product(room.pin.product_id);
    card.hidden = !product;
    if (!product) {
      shown = null;
      return;
    }
    if (shown !== product) {
      if (!shown || shown.id !== product.id) {
        quantity = 1;
        setText(byId("heard"), `${t("Shown now")}: ${product.title}`);
      }
      shown = product;
      setText(byId("pin-title"), product.title);
      setText(byId("pin-subtitle"), product.subtitle);
      byId("pin-picture").replaceChildren(picture(product, PICTURE_PX));
      save = saveButton(saved, product);
      byId("pin-save").replaceChildren(save.element);
    }
    renderOffer();
  };

  const renderOffer = () => {
    if (!shown) return;
    const offer = offerOf(room, shown);
    const { sale } = offer;
    card.dataset.kind = offer.kind;
    save.update();

    const stepping = offer.kind === "buy" && sale.per_buyer > 1 && offer.most > 1;
    quantity = Math.max(1, Math.min(quantity, offer.most || 1));
    byId("stepper").hidden = !stepping;
    setText(byId("quantity"), String(quantity));
    byId("fewer").disabled = quantity <= 1;
    byId("more").disabled = quantity >= offer.most;

    setText(byId("pin-price"), priceText(offer));
    setText(byId("pin-list"), offer.listPrice ? formatMoney(offer.listPrice) : "");

    const timer = byId("pin-timer");
    timer.hidden = !offer.timer;
    timer.dataset.tone = offer.timer ? offer.timer.tone : "";
    setText(byId("pin-timer-label"), offer.timer ? offer.timer.label : "");
    setText(byId("countdown"), offer.timer ? offer.timer.text : "");

    const counting = Boolean(sale) && (offer.timer !== null || offer.available > 0);
    byId("stockline").hidden = !counting;
    if (sale) {
      setText(byId("stock"), String(offer.available));
      setText(byId("stock-words"), t("of {n} left", { n: offer.stock }));
      // How many are at it says more than how few are left.
      setText(byId("being-bought"), offer.held > 0 ? t("{n} being bought", { n: offer.held }) : "");
      byId("stock-meter").dataset.tone = offer.low ? "low" : "";
      byId("stock-bar").style.transform = `scaleX(${offer.stock ? offer.available / offer.stock : 0})`;
    }

    const { busy } = buying;
    const later = LATER.has(offer.kind);
    const remembered = saved.has(shown.id);
    const priced = offer.kind === "buy" ? `${offer.label} · ${priceText(offer, quantity)}` : offer.label;
    const words = later ? t(remembered ? "You hear when it is back" : "Tell me when it is back") : priced;
    setText(buy, busy ? t("One moment") : words);
    buy.disabled = busy || (later ? remembered : !offer.enabled);
    buy.dataset.kind = offer.kind;
    buy.classList.toggle("primary", !later);
    buy.hidden = offer.kind === "external";
    shop.hidden = offer.kind !== "external";
    if (shown.shop_link && shop.getAttribute("href") !== shown.shop_link) shop.href = shown.shop_link;
    const said = later ? offer.label : offer.note;
    const note = byId("pin-note");
    note.hidden = !said;
    setText(note, said || "");
  };

  const act = () => {
    if (!shown) return;
    const offer = offerOf(room, shown);
    if (LATER.has(offer.kind)) saved.toggle(shown.id);
    else if (offer.kind === "choose") openProduct(shown.id);
    else if (offer.kind === "line") buying.queue(offer, { line: offer.lines[0].number, quantity: 1 });
    else buying.start(offer, [{ line: offer.lines[0] ? offer.lines[0].number : 0, quantity }]);
  };

  byId("fewer").addEventListener("click", () => {
    quantity -= 1;
    renderOffer();
  });
  byId("more").addEventListener("click", () => {
    quantity += 1;
    renderOffer();
  });
  buy.addEventListener("click", act);
  byId("pin-open").addEventListener("click", () => shown && openProduct(shown.id));
  saved.addEventListener("change", renderOffer);
  buying.addEventListener("change", renderOffer);
  renderOn(room, ["pin", "products", "sales", "you"], render);
  everyTick(renderOffer);
}
