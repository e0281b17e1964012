// Orders as they come, and their sums.

import { formatMoney } from "/sdk/haul.js";
import { byId, el, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { clockText } from "../ui/time.js";
import { orderState } from "../ui/words.js";

const ROWS_MAX = 100;

export function showOrders(room) {
  const body = byId("orders");
  renderOn(room, ["host", "products"], () => {
    if (!room.host) return;
    const { totals, orders } = room.host;
    setText(byId("totals-orders"), totals.orders.toLocaleString());
    setText(byId("totals-units"), totals.units.toLocaleString());
    setText(byId("totals-revenue"), totals.revenue.length ? totals.revenue.map((sum) => formatMoney(sum)).join(" + ") : "–");
    byId("orders-none").hidden = orders.length > 0;
    body.replaceChildren(...orders.slice(0, ROWS_MAX).map((order) => row(room, order)));
  });
}

function row(room, order) {
  const product = room.product(order.product_id);
  const { text, tone } = order.disputed ? { text: "Disputed", tone: "bad" } : orderState(order.state);
  return el(
    "tr",
    { data: { testid: "order-row", order: order.id, state: order.state }, title: order.id },
    el("td", { class: "tabular muted" }, clockText(order.created_at)),
    el("td", {}, order.buyer_name),
    el("td", { class: "product-cell" }, product ? product.title : order.product_id),
    el("td", { class: "right tabular" }, String(order.quantity)),
    el("td", { class: "right tabular" }, formatMoney(order.total)),
    el("td", {}, el("span", { class: "badge", data: { tone } }, text)),
  );
}
