// What a product's sale means for this buyer right now: the one place that decides what a buy button says.

import { formatMoney } from "/sdk/haul.js";
import { clockText, spanText } from "../ui/time.js";
import { t } from "../ui/tongue.js";

// From here on the clock and the stock are shown as urgent.
const SOON_MS = 30_000;
const LOW_SHARE = 0.2;

/**
 * `{sale, lines, hold, kind, label, enabled, note, timer: {label, text, tone} | null, price, listPrice, stock, available, held, most}`.
 * `kind` is `none`, `external`, `scheduled`, `paused`, `buy`, `choose`, `mine`, `waiting`, `draw`, `entered`, `limit`, `taken`, `line`, `sold_out`
 * or `closed`; `lines` are those of the sale that are of this product; `most` is how many one may ask for of one line.
 */
export function offerOf(room, product) {
  const list = product.list_price;
  const nothing = { sale: null, lines: [], hold: null, timer: null, price: list, listPrice: null, stock: 0, available: 0, held: 0, most: 0 };
  if (product.shop_link) return { ...nothing, kind: "external", label: t("To the shop"), enabled: true, note: t("Sold by another shop. It opens in a new tab.") };
  const sale = room.saleOf(product.id);
  if (!sale) return { ...nothing, kind: "none", label: t("Not on sale yet"), enabled: false };
  const now = room.now();
  const phase = room.phase(sale);
  const lines = room.linesOf(sale, product.id);
  const sum = (part) => lines.reduce((total, line) => total + line[part], 0);
  const [stock, available, held] = [sum("stock"), sum("available"), sum("held")];
  const price = lines.reduce((least, { price: each }) => (each.amount_minor < least.amount_minor ? each : least), lines[0].price);
  const several = room.linesOf(sale).length > 1;
  const hold = room.holdOf(sale.id);
  const left = lines.map(({ number, per_buyer: limit }) => limit - room.unitsOf(sale.id, number));
  const offer = {
    ...nothing,
    sale,
    lines,
    hold,
    price,
    from: lines.some((line) => line.price.amount_minor !== price.amount_minor),
    listPrice: price.currency === list.currency && price.amount_minor < list.amount_minor ? list : null,
    timer: timerOf(room, sale, phase, now),
    stock,
    available,
    held,
    most: several ? 0 : Math.max(0, Math.min(left[0], available)),
    low: stock > 0 && available / stock <= LOW_SHARE,
    note: sale.mode === "first_paid" && phase === "open" ? t("First paid, first served: it is yours once it is paid.") : "",
  };
  if (hold && hold.state === "waiting") {
    const label = hold.position ? t("In line: place {n}", { n: hold.position }) : t("In line");
    return { ...offer, kind: "waiting", label, enabled: true };
  }
  if (hold && hold.state === "entered") {
    const left = sale.draw ? spanText(sale.draw.draws_at - now) : "";
    return { ...offer, kind: "entered", label: `${t("You are in the draw")} · ${left}`, enabled: true, note: t("Who gets it is drawn, not first come: no need to hurry.") };
  }
  if (hold) {
    const remaining = hold.deadline === null ? "" : ` · ${spanText(hold.deadline - now)}`;
    const label = hold.state === "captured" ? t("Confirming your payment") : `${t("Finish your order")}${remaining}`;
    return { ...offer, kind: "mine", label, enabled: true };
  }
  if (phase === "scheduled") {
    return { ...offer, kind: "scheduled", label: t("Opens at {time}", { time: clockText(room.opensAt(sale)) }), enabled: false, note: earlyNote(room, sale) };
  }
  if (phase === "paused") return { ...offer, kind: "paused", label: t("Paused for a moment"), enabled: false };
  if (left.every((units) => units <= 0)) {
    return { ...offer, kind: "limit", label: t("It's yours"), enabled: false, note: limitNote(lines) };
  }
  if (available === 0 && held === 0) return { ...offer, kind: "sold_out", label: t("Sold out"), enabled: false };
  if (phase === "closed") return { ...offer, kind: "closed", label: t("Sale ended"), enabled: false };
  if (room.isDrawing(sale) && !several) {
    const span = spanText(sale.draw.draws_at - now);
    return { ...offer, kind: "draw", label: t("Enter the draw"), enabled: true, note: t("Drawn in {span}. Everybody who enters until then has the same chance.", { span }) };
  }
  if (several) return { ...offer, kind: "choose", label: t("Choose"), enabled: true };
  if (available === 0 && sale.offer_ms) {
    return { ...offer, kind: "line", label: t("Wait in line"), enabled: true, note: t("All units are being bought. What comes back goes to the line, in its order.") };
  }
  if (available === 0) {
    return { ...offer, kind: "taken", label: t("Try for a returned unit"), enabled: true, note: t("All units are being bought. Some may come back.") };
  }
  return { ...offer, kind: "buy", label: t("Buy now"), enabled: true, note: offer.note || earlyNote(room, sale) };
}

function limitNote(lines) {
  const most = lines.reduce((sum, { per_buyer: limit }) => sum + limit, 0);
  return most === 1 ? t("One per buyer in this sale.") : t("{n} per buyer in this sale, and you have them.", { n: most });
}

/** Who comes earlier, and whether this reader is one of them; empty where nobody does, or when it is over. */
function earlyNote(room, sale) {
  const now = room.now();
  if (!sale.early || now >= sale.opens_at) return "";
  const mine = sale.early.find(({ tier }) => tier === room.tier);
  if (mine && now >= mine.opens_at) return t("Early access: {tier} members buy before everyone else.", { tier: mine.tier });
  if (mine) return t("You are {tier}: it opens for you before everyone else.", { tier: mine.tier });
  const first = sale.early.reduce((earliest, each) => (each.opens_at < earliest.opens_at ? each : earliest));
  const span = spanText(sale.opens_at - first.opens_at);
  return t("{tier} members get in {span} earlier.", { tier: first.tier, span });
}

function timerOf(room, sale, phase, now) {
  if (phase === "closed") return null;
  const at = phase === "scheduled" ? room.opensAt(sale) : sale.closes_at;
  return {
    label: t(phase === "scheduled" ? "Opens in" : "Ends in"),
    text: spanText(at - now),
    tone: at - now <= SOON_MS && phase === "open" ? "soon" : "",
  };
}

/** A price, and what it would be otherwise. */
export function priceText(offer, quantity = 1) {
  const price = formatMoney({ ...offer.price, amount_minor: offer.price.amount_minor * quantity });
  return offer.from ? t("from {price}", { price }) : price;
}
