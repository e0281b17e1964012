// The coupon that the host has dropped into the room: one tap keeps it for the next order.

import { formatMoney } from "/sdk/haul.js";
import { byId, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { everyTick, spanText } from "../ui/time.js";
import { t } from "../ui/tongue.js";
import { deal } from "./deck.js";

export function showCoupon(room, buying) {
  const card = byId("coupon");
  const button = byId("coupon-use");
  const render = () => {
    const { coupon } = room;
    const now = room.now();
    const valid = coupon && !coupon.closed && now < coupon.valid_until;
    card.hidden = !valid;
    if (!valid) return;
    deal(card, coupon.code);
    setText(byId("coupon-title"), `${offText(coupon)} · ${coupon.code}`);
    setText(byId("coupon-time"), spanText(coupon.valid_until - now));
    setText(byId("coupon-text"), termsText(room, coupon));
    const kept = buying.coupon === coupon.code;
    setText(button, t(kept ? "Kept for your order" : "Use it"));
    button.disabled = kept || now < coupon.valid_from;
  };
  button.addEventListener("click", () => {
    if (room.coupon) buying.keepCoupon(room.coupon.code);
  });
  buying.addEventListener("change", render);
  renderOn(room, ["coupon", "products"], render);
  everyTick(render);
}

/** What a coupon takes off. */
export function offText({ percent, amount }) {
  return percent ? t("{n} % off", { n: percent }) : t("{sum} off", { sum: formatMoney(amount) });
}

/** For what it is, and for whom. */
export function termsText(room, { minimum, product_ids: products = [], limit, per_buyer: each }) {
  const names = products.map((id) => room.nameOf({ product_id: id })).join(", ");
  const first = each === 1 ? t("Once a buyer, the first {limit}", { limit }) : t("{n} times a buyer, {limit} in all", { n: each, limit });
  return [names && t("For {products}", { products: names }), minimum && t("from {price}", { price: formatMoney(minimum) }), first].filter(Boolean).join(" · ");
}
