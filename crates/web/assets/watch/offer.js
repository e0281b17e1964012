// What a product's sale means for this buyer right now: the one place that decides what a buy button says.

import { formatMoney } from "/sdk/haul.js";
import { clockText, spanText } from "../ui/time.js";
import { t } from "../ui/tongue.js";

// From here on the clock and the stock are shown as urgent.
const SOON_MS = 30_000;
const LOW_SHARE = 0.2;

/**
 * `{sale, hold, kind, label, enabled, note, timer: {label, text, tone} | null, price, listPrice, most}`; `kind` is
 * `none`, `scheduled`, `paused`, `buy`, `mine`, `limit`, `taken`, `sold_out` or `closed`; `most` is how many one may ask for.
 */
export function offerOf(room, product) {
  const sale = room.saleOf(product.id);
  const list = product.list_price;
  if (!sale) {
    return { sale: null, hold: null, kind: "none", label: t("Not on sale yet"), enabled: false, timer: null, price: list, most: 0 };
  }
  const now = room.now();
  const phase = room.phase(sale);
  const hold = room.holdOf(sale.id);
  const had = room.unitsOf(sale.id);
  const left = sale.per_buyer - had;
  const cheaper = sale.price.currency === list.currency && sale.price.amount_minor < list.amount_minor;
  const offer = {
    sale,
    hold,
    price: sale.price,
    listPrice: cheaper ? list : null,
    timer: timerOf(sale, phase, now),
    most: Math.max(0, Math.min(left, sale.available)),
    low: sale.stock > 0 && sale.available / sale.stock <= LOW_SHARE,
  };
  if (hold) {
    const remaining = hold.deadline === null ? "" : ` · ${spanText(hold.deadline - now)}`;
    const label = hold.state === "captured" ? t("Confirming your payment") : `${t("Finish your order")}${remaining}`;
    return { ...offer, kind: "mine", label, enabled: true };
  }
  if (phase === "scheduled") {
    return { ...offer, kind: "scheduled", label: `${t("Opens at")} ${clockText(sale.opens_at)}`, enabled: false };
  }
  if (phase === "paused") return { ...offer, kind: "paused", label: "Paused for a moment", enabled: false };
  if (had > 0 && left <= 0) {
    return { ...offer, kind: "limit", label: t("It's yours"), enabled: false, note: limitNote(sale.per_buyer) };
  }
  if (sale.available === 0 && sale.held === 0) return { ...offer, kind: "sold_out", label: t("Sold out"), enabled: false };
  if (phase === "closed") return { ...offer, kind: "closed", label: t("Sale ended"), enabled: false };
  if (sale.available === 0) {
    return {
      ...offer,
      kind: "taken",
      label: t("Try for a returned unit"),
      enabled: true,
      note: t("All units are being bought. Some may come back."),
    };
  }
  return { ...offer, kind: "buy", label: t("Buy now"), enabled: true };
}

function limitNote(perBuyer) {
  return perBuyer === 1 ? t("One per buyer in this sale.") : `${perBuyer} per buyer in this sale, and you have them.`;
}

function timerOf(sale, phase, now) {
  if (phase === "closed") return null;
  const at = phase === "scheduled" ? sale.opens_at : sale.closes_at;
  return {
    label: t(phase === "scheduled" ? "Opens in" : "Ends in"),
    text: spanText(at - now),
    tone: at - now <= SOON_MS && phase === "open" ? "soon" : "",
  };
}

/** A price, and what it would be otherwise. */
export function priceText(offer, quantity = 1) {
  return formatMoney({ ...offer.price, amount_minor: offer.price.amount_minor * quantity });
}
