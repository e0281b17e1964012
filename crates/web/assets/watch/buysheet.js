// What the buy sheet shows at each step.

import { formatMoney } from "/sdk/haul.js";
import { byId, el, icon, picture, setText } from "../ui/dom.js";
import { everyTick, spanText } from "../ui/time.js";
import { sentence } from "../ui/words.js";

const SOON_MS = 30_000;

export class BuySheet {
  #buying;
  #room;
  #body = byId("buy-body");
  #shown = "";
  #stopClock = () => {};

  constructor(buying, room) {
    this.#buying = buying;
    this.#room = room;
  }

  render() {
    const { step, hold, order } = this.#buying;
    // The payment frame must not be made anew by every change beside it: that would reload it.
    const key = `${step}/${hold ? hold.id : ""}/${order ? order.id : ""}`;
    if (key === this.#shown) return;
    this.#shown = key;
    this.#stopClock();
    this.#stopClock = () => {};
    const build = this.#steps()[step];
    if (!build) {
      this.#body.replaceChildren();
      return;
    }
    const { title, content } = build();
    setText(byId("buy-heading"), title);
    this.#body.replaceChildren(...content);
    const first = this.#body.querySelector("[data-first]");
    if (first && byId("buy-sheet").open) first.focus({ preventScroll: true });
  }

  #steps() {
    const buying = this.#buying;
    return {
      holding: () => ({ title: "One moment", content: [busy("Setting it aside for you")] }),
      held: () => ({
        title: "Held for you",
        content: [this.#held("Pay before the time runs out. Until then nobody can take it.", this.#payButton("Go to payment"))],
      }),
      opening: () => ({ title: "Held for you", content: [busy("Opening the payment page")] }),
      paying: () => ({ title: "Payment", content: [this.#payment()] }),
      declined: () => ({
        title: "Payment declined",
        content: [
          this.#held("The payment did not go through, and nothing was charged. It stays yours until the time runs out.", this.#payButton("Try again")),
        ],
      }),
      confirming: () => ({ title: "Payment", content: [busy("Confirming your order. This takes a moment.")] }),
      sold: () => ({ title: "Order confirmed", content: [this.#sold()] }),
      late: () => ({
        title: "Paid too late",
        content: [
          ending("wait", "plain", "Your money comes back", "The payment arrived after the time was over, and no unit was left. The full amount goes back to you."),
          this.#number(),
          this.#closeButton("Back to the live"),
        ],
      }),
      over: () => ({
        title: "Time ran out",
        content: [
          ending("wait", "plain", "It went back to the shelf", "The time to pay is over. If there are units left, you can try again."),
          el("div", { class: "stack" }, this.#retryButton(), this.#closeButton("Back to the live")),
        ],
      }),
      failed: () => ({
        title: "Not yet",
        content: [
          ending("wait", "plain", failedTitle(buying.error.code), sentence(buying.error)),
          el("div", { class: "stack" }, this.#retryButton(), this.#closeButton("Back to the live")),
        ],
      }),
    };
  }

  #item() {
    const { sale, hold } = this.#buying;
    const product = this.#room.product(sale.product_id);
    return el(
      "div",
      { class: "line-item" },
      picture(product, 64),
      el(
        "div",
        { class: "grow" },
        el("h3", {}, product ? product.title : "Your item"),
        el("p", { class: "muted small" }, `${hold.quantity} × ${formatMoney(sale.price)}`),
      ),
    );
  }

  #total() {
    const { sale, hold, order } = this.#buying;
    const total = order ? order.total : { ...sale.price, amount_minor: sale.price.amount_minor * hold.quantity };
    return el("p", { class: "total" }, "Total", el("strong", { class: "tabular" }, formatMoney(total)));
  }

  #deadline(slim) {
    const clock = el("span", { class: "clock tabular", role: "timer", data: { testid: "hold-countdown" } });
    const bar = el("i");
    const box = el(
      "div",
      { class: slim ? "deadline slim" : "deadline" },
      el("span", {}, el("b", {}, slim ? "Held for you" : "Time left to pay")),
      clock,
      el("div", { class: "meter", "aria-hidden": "true" }, bar),
    );
    const span = this.#buying.sale.hold_ms;
    this.#stopClock = everyTick(() => {
      const { hold } = this.#buying;
      if (!hold || hold.deadline === null) return;
      const left = hold.deadline - this.#room.now();
      setText(clock, spanText(left));
      bar.style.transform = `scaleX(${Math.max(0, Math.min(1, left / span))})`;
      box.dataset.tone = left <= SOON_MS ? "soon" : "";
    });
    return box;
  }

  #held(words, action) {
    return el(
      "div",
      { class: "held" },
      this.#item(),
      this.#deadline(false),
      el("p", { class: "muted" }, words),
      this.#total(),
      el(
        "div",
        { class: "stack" },
        action,
        el("button", { class: "button quiet wide", type: "button", data: { testid: "give-back" }, on: { click: () => this.#buying.giveBack() } }, "Give it back"),
      ),
    );
  }

  #payment() {
    const url = this.#buying.frameUrl();
    if (url) {
      const frame = el("iframe", { class: "pay-frame", title: "Payment", src: url, data: { testid: "pay-frame" } });
      return el("div", { class: "stack" }, this.#deadline(true), frame);
    }
    // Another origin may refuse to be framed, and only a tap may open a tab: so it is a link.
    return this.#held(
      "The payment opens in a new tab. The live goes on here, and your order shows up by itself.",
      el("a", { class: "button primary large wide", href: this.#buying.payUrl, target: "_blank", rel: "noopener noreferrer", data: { first: "" } }, "Open the payment page"),
    );
  }

  #sold() {
    const { order } = this.#buying;
    return el(
      "div",
      { class: "done", data: { testid: "confirmation" }, role: "status" },
      el("span", { class: "mark", "aria-hidden": "true" }, icon("check")),
      el("h3", {}, order.quantity === 1 ? "It's yours" : "They're yours"),
      el("p", {}, "Paid and confirmed. Keep the order number for any question."),
      this.#number(),
      this.#item(),
      el("div", { class: "number" }, this.#total()),
      this.#closeButton("Keep watching", true),
    );
  }

  #number() {
    const { order } = this.#buying;
    if (!order) return "";
    return el("p", { class: "number" }, el("span", { class: "small muted" }, "Order number"), el("b", { data: { testid: "order-number" } }, order.id));
  }

  #payButton(label) {
    return el("button", { class: "button primary large wide", type: "button", data: { testid: "checkout", first: "" }, on: { click: () => this.#buying.pay() } }, label);
  }

  #retryButton() {
    return el("button", { class: "button primary large wide", type: "button", data: { testid: "retry", first: "" }, on: { click: () => this.#buying.retry() } }, "Try again");
  }

  #closeButton(label, primary = false) {
    return el("button", { class: `button wide ${primary ? "primary large" : ""}`, type: "button", data: { testid: "done" }, on: { click: () => this.#buying.close() } }, label);
  }
}

function busy(words) {
  return el("div", { class: "busy", role: "status" }, el("span", { class: "spinner", "aria-hidden": "true" }), el("p", {}, words));
}

function ending(name, tone, title, words) {
  return el(
    "div",
    { class: "done", role: "status" },
    el("span", { class: "mark", data: { tone }, "aria-hidden": "true" }, icon(name)),
    el("h3", {}, title),
    el("p", {}, words),
  );
}

function failedTitle(code) {
  if (code === "not_enough") return "All taken for now";
  if (code === "unavailable") return "Buying is paused";
  return "Still working on it";
}

