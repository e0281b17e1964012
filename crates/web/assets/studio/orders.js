// Orders as they come, and their sums; each can be looked at, refunded, and its units put on the shelf again.

import { formatMoney, newKey, parseAmount, plainAmount, rest } from "/sdk/haul.js";
import { byId, el, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { closeSheet, openSheet, toast } from "../ui/sheet.js";
import { clockText } from "../ui/time.js";
import { locale, phrase, t } from "../ui/tongue.js";
import { orderState, teamSentence, shortId } from "../ui/words.js";

const ROWS_MAX = 100;
/** Orders whose units were sold, and may come back. */
const SOLD = new Set(["sold", "partly_refunded", "refunded"]);
const REFUND_STATES = { due: phrase("on its way"), asked: phrase("on its way"), done: phrase("done"), failed: phrase("refused by the provider") };

/** `mayRefund`: the reader may also send money back, and put goods on the shelf. */
export function showOrders(room, { token, mayRefund }) {
  const body = byId("orders");
  const open = wireSheet(room, token, mayRefund);
  const render = () => {
    if (!room.host) return;
    const { totals, orders } = room.host;
    setText(byId("totals-orders"), totals.orders.toLocaleString(locale));
    setText(byId("totals-units"), totals.units.toLocaleString(locale));
    setText(byId("totals-revenue"), totals.revenue.length ? totals.revenue.map((sum) => formatMoney(sum)).join(" + ") : "–");
    const shown = orders.filter(wanted);
    byId("order-tools").hidden = orders.length === 0;
    byId("orders-none").hidden = shown.length > 0;
    setText(byId("orders-none"), t(orders.length > 0 ? "No order fits what you look for." : "Orders appear here the moment they are made."));
    const focused = document.activeElement?.closest("#orders [data-order]")?.dataset.order;
    body.replaceChildren(...shown.slice(0, ROWS_MAX).map((order) => row(room, order, open)));
    // The same order keeps the focus while the list is made anew.
    if (focused) body.querySelector(`[data-order="${CSS.escape(focused)}"] .order-open`)?.focus({ preventScroll: true });
  };
  const wanted = (order) => {
    const words = byId("order-search").value.trim().toLowerCase();
    const state = byId("order-state").value;
    if (state && (state === "disputed" ? !order.disputed : order.state !== state)) return false;
    return !words || [order.buyer_name, order.id, room.nameOf(order)].some((text) => text.toLowerCase().includes(words));
  };
  byId("order-search").addEventListener("input", render);
  byId("order-state").addEventListener("change", render);
  renderOn(room, ["host", "products", "sales"], render);
}

function stateOf(order) {
  return order.disputed ? { text: t("Disputed"), tone: "bad" } : orderState(order.state);
}

function namesOf(room, order) {
  const units = room.unitsIn(order);
  return units.map((each) => `${units.length > 1 ? `${each.quantity} × ` : ""}${room.nameOf({ product_id: order.product_id, ...each })}`).join(" + ");
}

function row(room, order, open) {
  const { text, tone } = stateOf(order);
  return el(
    "tr",
    { data: { testid: "order-row", order: order.id, state: order.state }, title: order.id },
    el("td", { class: "tabular muted" }, clockText(order.created_at)),
    el("td", {}, el("button", { class: "order-open", type: "button", "aria-label": t("Order of {name}", { name: order.buyer_name }), data: { testid: "order-open" }, on: { click: () => open(order.id) } }, order.buyer_name)),
    el("td", { class: "product-cell" }, namesOf(room, order)),
    el("td", { class: "right tabular" }, String(order.quantity)),
    el("td", { class: "right tabular" }, formatMoney(order.total)),
    el("td", {}, el("span", { class: "badge", data: { tone } }, text)),
  );
}

/** Returns how to open the sheet for an order. */
function wireSheet(room, token, mayRefund) {
  const sheet = byId("order-sheet");
  const body = byId("order-body");
  let shown = null;
  let refunds = [];

  const order = () => room.host && room.host.orders.find(({ id }) => id === shown);
  const load = async () => {
    if (!mayRefund) return;
    const id = shown;
    const answer = await rest(`/v1/orders/${encodeURIComponent(id)}/refunds`, { token }).catch(() => null);
    if (shown !== id || !answer) return;
    refunds = answer.refunds;
    renderFacts();
  };

  const facts = el("div", { class: "order-facts" });
  const renderFacts = () => {
    const now = order();
    if (!now) return;
    const { text, tone } = stateOf(now);
    const rows = [
      [t("Buyer"), now.buyer_name],
      [t("Product"), namesOf(room, now)],
      [t("Units"), now.returned ? t("{n}, {back} of them back on the shelf", { n: now.quantity, back: now.returned }) : String(now.quantity)],
      [t("Total"), formatMoney(now.total)],
      now.refunded.amount_minor > 0 && [t("Refunded"), formatMoney(now.refunded)],
      [t("Time"), clockText(now.created_at)],
      [t("Order number"), now.id],
    ];
    facts.replaceChildren(
      el("span", { class: "badge", data: { tone, testid: "order-sheet-state" } }, text),
      el("dl", {}, ...rows.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", { class: "tabular" }, value)))),
      refunds.length > 0 &&
        el("ul", { class: "log", data: { testid: "refund-list" } }, ...refunds.map(({ amount, state, reason, error }) =>
          el("li", { data: { state } }, el("b", { class: "tabular" }, formatMoney(amount)), el("span", { class: "grow" }, [t(REFUND_STATES[state]), reason, state === "failed" && error].filter(Boolean).join(" · "))))),
    );
  };

  const build = () => {
    const now = order();
    if (!now) return closeSheet(sheet);
    setText(byId("order-heading"), t("Order {number}", { number: shortId(now.id) }));
    renderFacts();
    const parts = [facts];
    if (mayRefund && SOLD.has(now.state)) parts.push(...actions(now));
    return body.replaceChildren(...parts);
  };

  const actions = (now) => {
    const left = now.total.amount_minor - now.refunded.amount_minor;
    const { currency } = now.total;
    const amount = el("input", { class: "input", id: "refund-amount", inputMode: "decimal", autocomplete: "off", value: plainAmount({ amount_minor: left, currency }), data: { testid: "refund-amount" } });
    const reason = el("input", { class: "input", id: "refund-reason", maxLength: 300, autocomplete: "off", placeholder: t("Reason, for your records"), "aria-label": t("Reason, for your records") });
    const send = el("button", { class: "button danger", type: "submit", data: { testid: "refund" } }, t("Refund"));
    // One form is one refund, however often a lost answer makes it be asked for.
    let key = newKey();
    const refund = el(
      "form",
      { class: "form", autocomplete: "off" },
      el("label", { class: "field" }, el("span", {}, `${t("Money back")} (${currency})`), amount),
      el("div", { class: "field end" }, send),
      el("div", { class: "wide" }, reason),
    );
    refund.addEventListener("submit", async (event) => {
      event.preventDefault();
      const minor = parseAmount(amount.value, currency);
      if (minor === null || minor < 1) return toast(t("Write the amount as a number."), "bad");
      send.disabled = true;
      try {
        await rest(`/v1/orders/${encodeURIComponent(now.id)}/refunds`, { token, method: "POST", body: { amount_minor: minor, reason: reason.value }, headers: { "Idempotency-Key": key } });
        key = newKey();
        toast(t("The refund is on its way."), "good");
        await load();
      } catch (error) {
        toast(error.status === 409 ? t("That is more than is left to refund.") : teamSentence(error), "bad");
      }
      send.disabled = false;
      return undefined;
    });
    const units = now.quantity - (now.returned || 0);
    const restockKey = newKey();
    const restock = el("button", { class: "button wide", type: "button", disabled: units === 0, data: { testid: "restock" } }, units === 0 ? t("All of it is back on the shelf") : t("Put {n} back on the shelf", { n: units }));
    restock.addEventListener("click", async () => {
      restock.disabled = true;
      try {
        await room.channel.request("order.restock", { order_id: now.id, key: restockKey });
        toast(t("Back on the shelf: others can buy it."), "good");
      } catch (error) {
        toast(teamSentence(error), "bad");
        restock.disabled = false;
      }
    });
    return [
      left > 0 && el("section", { class: "order-part" }, el("h3", {}, t("Send money back")), refund),
      el("section", { class: "order-part" }, el("h3", {}, t("Goods that came back")), el("p", { class: "small muted" }, t("A refund moves money only. Units return to the sale when you say so.")), restock),
    ].filter(Boolean);
  };

  let last = "";
  renderOn(room, ["host"], () => {
    if (!shown || !sheet.open) return;
    const now = order();
    const key = now ? `${now.state}/${now.refunded.amount_minor}/${now.returned || 0}` : "";
    if (key === last) return;
    last = key;
    build();
    load();
  });
  sheet.addEventListener("close", () => (shown = null));

  return (id) => {
    shown = id;
    refunds = [];
    last = "";
    build();
    openSheet(sheet);
    load();
  };
}
