// What the buy sheet shows at each step.

import { formatMoney } from "/sdk/haul.js";
import { byId, el, icon, picture, setText } from "../ui/dom.js";
import { everyTick, spanText } from "../ui/time.js";
import { locale, phrase, t } from "../ui/tongue.js";
import { sentence } from "../ui/words.js";
import { ContactForm } from "./contact.js";

const SOON_MS = 30_000;
/** What a refusal comes to, by its code. */
const FAILED = { not_enough: phrase("All taken for now"), unavailable: phrase("Buying is paused"), other: phrase("Still working on it") };

export class BuySheet {
  #buying;
  #room;
  #body = byId("buy-body");
  #shown = "";
  #stopClock = () => {};
  /** The fields for whom it goes to, where the shop asks. */
  #contact = null;

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

  /** The place in line has another number. */
  place() {
    const { hold } = this.#buying;
    const number = this.#body.querySelector(".place b");
    if (number) setText(number, placeText(hold));
  }

  #steps() {
    const buying = this.#buying;
    const firstPaid = buying.sale && buying.sale.mode === "first_paid";
    const heldWords = firstPaid
      ? t("First paid, first served: nothing is set aside. It is yours as soon as the payment is through.")
      : t("Pay before the time runs out. Until then nobody can take it.");
    const turnWords = buying.drawn ? t("You were drawn. Pay before the time runs out, or somebody else may have it.") : t("A unit came back, and you are next. Pay before the time runs out, or it goes to the next in line.");
    return {
      holding: () => ({ title: t("One moment"), content: [busy(t(buying.attempt.inLine ? "Taking your place in line" : "Setting it aside for you"))] }),
      waiting: () => ({ title: t("In line"), content: [this.#waiting()] }),
      turn: () => ({ title: t(buying.drawn ? "You were drawn" : "It's your turn"), content: [this.#held(turnWords, this.#payButton(t("Go to payment")))] }),
      entered: () => ({ title: t("In the draw"), content: [this.#entered()] }),
      undrawn: () => ({
        title: t("Not this time"),
        content: [
          ending("wait", "plain", t("You were not drawn"), t("Others were luckier, and nothing was charged. If something comes back, whoever is first gets it.")),
          el("div", { class: "stack" }, this.#closeButton(t("Back to the live"))),
        ],
      }),
      held: () => ({ title: t(firstPaid ? "Ready to pay" : "Held for you"), content: [this.#held(heldWords, this.#payButton(t("Go to payment")))] }),
      opening: () => ({ title: t("Payment"), content: [busy(t("Opening the payment page"))] }),
      paying: () => ({ title: t("Payment"), content: [this.#payment()] }),
      declined: () => ({
        title: t("Payment declined"),
        content: [
          this.#held(t("The payment did not go through, and nothing was charged. It stays yours until the time runs out."), this.#payButton(t("Try again"))),
        ],
      }),
      confirming: () => ({ title: t("Payment"), content: [busy(t("Confirming your order. This takes a moment."))] }),
      sold: () => ({ title: t("Order confirmed"), content: [this.#sold()] }),
      late: () => ({
        title: t(firstPaid ? "Others paid first" : "Paid too late"),
        content: [
          ending(
            "wait",
            "plain",
            t("Your money comes back"),
            firstPaid
              ? t("The last unit went to somebody who paid before you. The full amount goes back to you.")
              : t("The payment arrived after the time was over, and no unit was left. The full amount goes back to you."),
          ),
          this.#number(),
          this.#closeButton(t("Back to the live")),
        ],
      }),
      over: () => ({
        title: t("Time ran out"),
        content: [
          ending("wait", "plain", t("It went back to the shelf"), t("The time to pay is over. If there are units left, you can try again.")),
          el("div", { class: "stack" }, this.#retryButton(), this.#closeButton(t("Back to the live"))),
        ],
      }),
      lineover: () => ({
        title: t("The line has ended"),
        content: [
          ending("wait", "plain", t("No more units come back"), t("All of them were sold, or the sale is over. Nothing was charged.")),
          el("div", { class: "stack" }, this.#closeButton(t("Back to the live"))),
        ],
      }),
      failed: () => ({
        title: t("Not yet"),
        content: [
          ending("wait", "plain", t(FAILED[buying.error.code] || FAILED.other), sentence(buying.error)),
          el("div", { class: "stack" }, buying.canQueue ? this.#queueButton() : this.#retryButton(), this.#closeButton(t("Back to the live"))),
        ],
      }),
    };
  }

  #waiting() {
    const { hold, sale } = this.#buying;
    const minutes = spanText(sale.offer_ms || 0);
    return el(
      "div",
      { class: "held" },
      el("p", { class: "place", role: "status", data: { testid: "place" } }, el("span", { class: "muted" }, t("Your place in line")), el("b", { class: "tabular" }, placeText(hold))),
      this.#items(),
      el("p", { class: "muted" }, t("When it is your turn, you have {span} to pay. Stay on this page; you may close this and go on watching.", { span: minutes })),
      el(
        "div",
        { class: "stack" },
        this.#closeButton(t("Keep watching"), true),
        el("button", { class: "button quiet wide", type: "button", data: { testid: "leave-line" }, on: { click: () => this.#buying.giveBack() } }, t("Leave the line")),
      ),
    );
  }

  #entered() {
    const { sale } = this.#buying;
    const clock = el("b", { class: "tabular" });
    this.#stopClock = everyTick(() => setText(clock, sale.draw ? spanText(sale.draw.draws_at - this.#room.now()) : ""));
    return el(
      "div",
      { class: "held" },
      el("p", { class: "place", role: "timer", data: { testid: "drawn-in" } }, el("span", { class: "muted" }, t("Drawn in")), clock),
      this.#items(),
      el("p", { class: "muted" }, t("Everybody in the draw has the same chance. If you are drawn, you have {span} to pay.", { span: spanText(sale.hold_ms) })),
      sale.draw && el("p", { class: "proof" }, `${t("Sealed")} ${sale.draw.commitment.slice(0, 16)}…`),
      el(
        "div",
        { class: "stack" },
        this.#closeButton(t("Keep watching"), true),
        el("button", { class: "button quiet wide", type: "button", data: { testid: "leave-draw" }, on: { click: () => this.#buying.giveBack() } }, t("Leave the draw")),
      ),
    );
  }

  #items() {
    const { sale, hold } = this.#buying;
    const items = this.#room.unitsIn(hold).map((units) => {
      const product = this.#room.product(units.product_id || sale.product_id);
      const price = units.price || sale.price;
      return el(
        "div",
        { class: "line-item", data: { testid: "buy-item" } },
        picture(product, 64),
        el(
          "div",
          { class: "grow" },
          el("h3", {}, product ? product.title : t("Your item")),
          el("p", { class: "muted small" }, [this.#room.formOf(units.product_id, units.variant_id), `${units.quantity} × ${formatMoney(price)}`].filter(Boolean).join(" · ")),
        ),
      );
    });
    return el("div", { class: "stack" }, ...items);
  }

  #total() {
    const { sale, hold, order } = this.#buying;
    const sum = this.#room.unitsIn(hold).reduce((total, { price = sale.price, quantity }) => total + price.amount_minor * quantity, 0);
    const total = order ? order.total : { ...sale.price, amount_minor: sum };
    const off = order && order.coupon;
    return el(
      "div",
      { class: "sums" },
      off && el("p", { class: "off", data: { testid: "coupon-off" } }, off.code, el("span", { class: "tabular" }, `−${formatMoney(off.amount)}`)),
      el("p", { class: "total" }, t("Total"), el("strong", { class: "tabular" }, formatMoney(total))),
    );
  }

  /** The field for a coupon's code; what it takes off is said by the server, with the order. */
  #coupon() {
    const buying = this.#buying;
    const { hold, order } = buying;
    if (hold.coupon || (order && order.coupon)) return "";
    const input = el("input", { class: "input", maxLength: 32, autocomplete: "off", autocapitalize: "characters", spellcheck: false, placeholder: t("Coupon code"), "aria-label": t("Coupon code"), value: buying.coupon || "", data: { testid: "coupon-input" } });
    input.addEventListener("input", () => buying.keepCoupon(input.value.trim() || null));
    return input;
  }

  /** The fields for whom it goes to: beside a button that goes to pay, if the shop asks. */
  #contactForm(action) {
    const asks = action.dataset.testid === "checkout" && this.#room.contact !== "nothing";
    this.#contact = asks ? new ContactForm(this.#room.contact) : null;
    return this.#contact ? this.#contact.element : "";
  }

  #pay() {
    if (!this.#contact) this.#buying.pay();
    else if (this.#contact.check()) this.#buying.pay(this.#contact.take());
  }

  #deadline(slim) {
    const clock = el("span", { class: "clock tabular", role: "timer", data: { testid: "hold-countdown" } });
    const bar = el("i");
    const box = el(
      "div",
      { class: slim ? "deadline slim" : "deadline" },
      el("span", {}, el("b", {}, t(slim ? "Held for you" : "Time left to pay"))),
      clock,
      el("div", { class: "meter", "aria-hidden": "true" }, bar),
    );
    const { sale, step } = this.#buying;
    const span = step === "turn" ? sale.offer_ms : sale.hold_ms;
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
      this.#items(),
      this.#deadline(false),
      el("p", { class: "muted" }, words),
      this.#contactForm(action),
      this.#coupon(),
      this.#total(),
      el(
        "div",
        { class: "stack" },
        action,
        el("button", { class: "button quiet wide", type: "button", data: { testid: "give-back" }, on: { click: () => this.#buying.giveBack() } }, t("Give it back")),
      ),
    );
  }

  #payment() {
    const url = this.#buying.frameUrl();
    if (url) {
      const frame = el("iframe", { class: "pay-frame", title: t("Payment"), src: url, data: { testid: "pay-frame" } });
      return el("div", { class: "stack" }, this.#deadline(true), frame);
    }
    // Another origin may refuse to be framed, and only a tap may open a tab: so it is a link.
    return this.#held(
      t("The payment opens in a new tab. The live goes on here, and your order shows up by itself."),
      el("a", { class: "button primary large wide", href: this.#buying.payUrl, target: "_blank", rel: "noopener noreferrer", data: { first: "" } }, t("Open the payment page")),
    );
  }

  #sold() {
    const { order } = this.#buying;
    return el(
      "div",
      { class: "done", data: { testid: "confirmation" }, role: "status" },
      el("span", { class: "mark", "aria-hidden": "true" }, icon("check")),
      el("h3", {}, t(order.quantity === 1 ? "It's yours" : "They're yours")),
      el("p", {}, t("Paid and confirmed. Keep the order number for any question.")),
      this.#number(),
      this.#items(),
      el("div", { class: "number" }, this.#total()),
      this.#closeButton(t("Keep watching"), true),
    );
  }

  #number() {
    const { order } = this.#buying;
    if (!order) return "";
    return el("p", { class: "number" }, el("span", { class: "small muted" }, t("Order number")), el("b", { data: { testid: "order-number" } }, order.id));
  }

  #payButton(label) {
    return el("button", { class: "button primary large wide", type: "button", data: { testid: "checkout", first: "" }, on: { click: () => this.#pay() } }, label);
  }

  #retryButton() {
    return el("button", { class: "button primary large wide", type: "button", data: { testid: "retry", first: "" }, on: { click: () => this.#buying.retry() } }, t("Try again"));
  }

  #queueButton() {
    return el("button", { class: "button primary large wide", type: "button", data: { testid: "queue", first: "" }, on: { click: () => this.#buying.queueInstead() } }, t("Wait in line"));
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

function placeText({ position }) {
  return position ? position.toLocaleString(locale) : "…";
}
