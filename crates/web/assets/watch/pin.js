// The card of the pinned product.

import { formatMoney } from "/sdk/haul.js";
import { byId, picture, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { everyTick } from "../ui/time.js";
import { t } from "../ui/tongue.js";
import { offerOf, priceText } from "./offer.js";

const PICTURE_PX = 72;

export function showPin(room, buying) {
  const card = byId("pin");
  const buy = byId("buy");
  let shown = null;
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
    }
    renderOffer();
  };

  const renderOffer = () => {
    if (!shown) return;
    const offer = offerOf(room, shown);
    const { sale } = offer;
    card.dataset.kind = offer.kind;

    const stepping = offer.kind === "buy" && sale.per_buyer > 1;
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

    const counting = Boolean(sale) && (offer.timer !== null || sale.available > 0);
    byId("stockline").hidden = !counting;
    if (sale) {
      setText(byId("stock"), String(sale.available));
      setText(byId("stock-words"), `${t("of")} ${sale.stock} ${t("left")}`);
      byId("stock-meter").dataset.tone = offer.low ? "low" : "";
      byId("stock-bar").style.transform = `scaleX(${sale.stock ? sale.available / sale.stock : 0})`;
    }

    const busy = buying.busy;
    const priced = offer.kind === "buy" ? `${offer.label} · ${priceText(offer, quantity)}` : offer.label;
    setText(buy, busy ? t("One moment") : priced);
    buy.disabled = !offer.enabled || busy;
    buy.dataset.kind = offer.kind;
    const note = byId("pin-note");
    note.hidden = !offer.note;
    setText(note, offer.note || "");
  };

  byId("fewer").addEventListener("click", () => {
    quantity -= 1;
    renderOffer();
  });
  byId("more").addEventListener("click", () => {
    quantity += 1;
    renderOffer();
  });
  buy.addEventListener("click", () => shown && buying.start(offerOf(room, shown), quantity));
  buying.addEventListener("change", renderOffer);
  renderOn(room, ["pin", "products", "sales", "you"], render);
  everyTick(renderOffer);
}
