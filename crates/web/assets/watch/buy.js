// One buyer's way from "Buy" to the order number, in a sheet below the picture.
//
// The server says where a hold and an order stand; this follows. Where the two differ (a reply lost, a tab reloaded, the
// payment done in another tab), the room's state wins.

import { cancel, checkout, click, formatMoney, hold, newKey } from "/sdk/haul.js";
import { byId } from "../ui/dom.js";
import { closeSheet, openSheet, toast } from "../ui/sheet.js";
import { t, tongue } from "../ui/tongue.js";
import { sentence } from "../ui/words.js";
import { BuySheet } from "./buysheet.js";
import { Line } from "./line.js";

/** Refusals after which the buyer may well try again, so that the sheet stays and says so. */
const WORTH_TRYING = new Set(["not_enough", "pending", "unavailable", "disconnected", "timeout", "internal"]);

/**
 * Steps: `closed`, `holding`, `waiting` (in line), `turn` (it is one's turn), `entered` (in a draw), `undrawn`, `held`, `opening` (the payment), `paying`,
 * `confirming`, `sold`, `declined`, `over`, `lineover` (the line has ended), `late` (paid after the deadline), `failed`.
 */
export class Buying extends EventTarget {
  #room;
  #sheet;
  #needsToken;
  #line;
  /** Ids of holds that are in a draw. */
  #entries = new Set();

  constructor(room, { needsToken }) {
    super();
    this.#room = room;
    this.#needsToken = needsToken;
    this.step = "closed";
    this.sale = null;
    this.hold = null;
    this.order = null;
    this.payUrl = null;
    this.error = null;
    this.attempt = null;
    /** The code of the coupon that the next order is paid with. */
    this.coupon = null;
    /** Whether it was a draw that gave the turn. */
    this.drawn = false;
    this.#sheet = new BuySheet(this, room);
    this.#line = new Line(room, { onPlace: (held) => this.#onPlace(held), onTurn: (held) => this.#onTurn(held) });
    room.addEventListener("hold", ({ detail }) => this.#onHold(detail));
    room.addEventListener("order", ({ detail }) => this.#onOrder(detail));
    room.channel.addEventListener("snapshot", () => this.#onSnapshot());
    addEventListener("message", (event) => this.#onMessage(event));
    byId("buy-sheet").addEventListener("close", () => this.#onSheetClosed());
  }

  get busy() {
    return this.step === "holding" || this.step === "opening";
  }

  /** Buys units of an offer, `[{line, quantity}]`, or goes on with what is held already. */
  start(offer, units) {
    if (!this.#room.you) {
      this.#needsToken();
      return;
    }
    if (this.busy) return;
    for (const id of new Set(offer.lines.map((line) => line.product_id))) click(this.#room.channel, id);
    const standing = offer.hold;
    if (standing) {
      this.#resume(offer.sale, standing);
      return;
    }
    if (units.length === 0) return;
    this.sale = offer.sale;
    // One key is one attempt: a retry after a lost reply must find what it got, not get it twice.
    this.attempt = { saleId: offer.sale.id, ...wanted(units), key: newKey() };
    this.#reserve();
  }

  /** Takes a place in line for units of one line of a sale; sets them aside at once where they are free. */
  queue(offer, { line, quantity }) {
    if (!this.#room.you) {
      this.#needsToken();
      return;
    }
    if (this.busy) return;
    for (const id of new Set(offer.lines.map((each) => each.product_id))) click(this.#room.channel, id);
    this.sale = offer.sale;
    this.attempt = { saleId: offer.sale.id, line, quantity, key: newKey(), inLine: true };
    this.#reserve();
  }

  /** Keeps a coupon for the next order; null: none. */
  keepCoupon(code) {
    this.coupon = code;
    this.dispatchEvent(new CustomEvent("change"));
  }

  /** Whether what was refused can be waited for. */
  get canQueue() {
    const { attempt, error, sale } = this;
    const one = attempt && (!attempt.lines || attempt.lines.length === 1);
    return Boolean(one && error && error.code === "not_enough" && sale && sale.offer_ms);
  }

  /** Waits for what was refused. */
  queueInstead() {
    if (!this.canQueue || this.busy) return;
    const { lines, quantity = 1 } = this.attempt;
    const [{ line, quantity: units }] = lines || [{ line: 0, quantity }];
    this.attempt = { saleId: this.attempt.saleId, line, quantity: units, key: newKey(), inLine: true };
    this.#reserve();
  }

  /** The same attempt again, after an outcome that is not known or could be better now. */
  retry() {
    if (!this.attempt || this.busy) return;
    const unknown = this.error && ["pending", "disconnected", "timeout"].includes(this.error.code);
    if (!unknown) this.attempt = { ...this.attempt, key: newKey() };
    this.#reserve();
  }

  /** Goes to pay. `contact`: whom it goes to, where the shop needs to know. */
  async pay(contact) {
    if (this.busy || !this.hold) return;
    this.#go("opening");
    try {
      const held = { saleId: this.hold.sale_id, holdId: this.hold.id };
      const answer = await checkout(this.#room.channel, { ...held, coupon: this.coupon || undefined, contact });
      this.coupon = null;
      this.order = answer.order;
      this.hold = answer.hold;
      this.payUrl = answer.pay_url;
      this.#room.takeHold(answer.hold);
      this.#room.takeOrder(answer.order);
      if (this.step === "opening") this.#go("paying");
    } catch (error) {
      if (error.code === "hold_over" || error.code === "unknown_hold") this.#release();
      else {
        if (error.code === "coupon_invalid" || error.code === "coupon_used_up") this.coupon = null;
        toast(sentence(error), "bad");
        if (this.step === "opening") this.#go("held");
      }
    }
  }

  async giveBack() {
    if (!this.hold) return;
    const { sale_id: saleId, id: holdId } = this.hold;
    const { state } = this.hold;
    closeSheet(byId("buy-sheet"));
    try {
      this.#room.takeHold(await cancel(this.#room.channel, { saleId, holdId }));
      toast(t(state === "waiting" ? "You left the line." : state === "entered" ? "You left the draw." : "Given back. Thank you for letting others have a chance."));
    } catch (error) {
      toast(sentence(error), "bad");
    }
  }

  close() {
    closeSheet(byId("buy-sheet"));
  }

  /** The payment page's address, where this page may frame it; else null. */
  frameUrl() {
    const url = new URL(this.payUrl, location.origin);
    if (url.origin !== location.origin) return null;
    url.searchParams.set("lang", tongue);
    return url.href;
  }

  async #reserve() {
    this.hold = this.order = this.payUrl = null;
    this.#go("holding");
    try {
      const held = this.attempt.inLine ? await this.#line.take(this.attempt) : await hold(this.#room.channel, this.attempt);
      this.hold = held;
      this.#room.takeHold(held);
      if (held.state === "released") this.#release();
      else if (held.state === "waiting") this.#go("waiting");
      else if (held.state === "entered") this.#enter(held);
      else if (this.step === "holding") this.#go(held.state === "paying" ? "paying" : "held");
    } catch (error) {
      this.error = error;
      if (WORTH_TRYING.has(error.code)) {
        this.#go("failed");
      } else {
        this.#go("closed");
        toast(sentence(error), "bad");
      }
    }
  }

  #resume(sale, standing) {
    const same = this.hold && this.hold.id === standing.id;
    this.sale = sale;
    this.hold = standing;
    this.attempt = { saleId: sale.id, ...wanted(standing.lines || [{ line: 0, quantity: standing.quantity }]), key: newKey() };
    if (!same) this.order = this.payUrl = null;
    if (standing.state === "waiting") this.#go("waiting");
    else if (standing.state === "entered") this.#go("entered");
    else if (standing.state === "captured") this.#go("confirming");
    else if (standing.state === "paying" && !this.payUrl) {
      this.#go("held");
      // Where the shop needs an address, the buyer looks at it once more.
      if (this.#room.contact === "nothing") this.pay();
    } else if (standing.state === "paying") this.#go("paying");
    else this.#go("held");
  }

  /** A place in line has moved. */
  #onPlace(held) {
    if (!this.hold || held.id !== this.hold.id || this.step !== "waiting") return;
    this.hold = held;
    this.#sheet.place();
  }

  /** The turn of a place in line has come, or the line has ended. */
  #onTurn(held) {
    const ours = this.hold && held.id === this.hold.id;
    const sale = this.#room.sales.get(held.sale_id);
    if (held.state === "released") {
      if (ours && this.step === "waiting") this.#go("lineover");
      else if (held.state === "released") toast(t("The line has ended: no more units come back."));
      return;
    }
    // Whoever is busy with another order is told, and finds this one on the card.
    const busy = !ours && !["closed", "sold", "over", "lineover", "undrawn", "entered", "late", "failed"].includes(this.step);
    toast(t(this.drawn ? "You were drawn! Pay before the time runs out." : "It's your turn! Pay before the time runs out."), "good", 10_000);
    if (navigator.vibrate) navigator.vibrate([120, 60, 120]);
    if (busy || !sale) return;
    this.sale = sale;
    this.hold = held;
    this.order = this.payUrl = null;
    this.attempt = { saleId: sale.id, ...wanted(held.lines || [{ line: 0, quantity: held.quantity }]), key: newKey() };
    this.#go("turn");
  }

  #enter(held) {
    this.#entries.add(held.id);
    this.#go("entered");
  }

  /** It was drawn: whoever holds something now was lucky. */
  #onDrawn(held) {
    const ours = this.hold && held.id === this.hold.id;
    this.#entries.delete(held.id);
    if (held.state === "released") {
      if (ours && this.step === "entered") this.#go("undrawn");
      else toast(t("You were not drawn this time."));
      return;
    }
    this.drawn = true;
    this.#onTurn(held);
  }

  #onHold(held) {
    if (this.#entries.has(held.id) && held.state !== "entered") {
      this.#onDrawn(held);
      return;
    }
    if (this.#line.has(held.id) && held.state !== "waiting") {
      this.#line.leave(held.id);
      this.drawn = false;
      this.#onTurn(held);
      return;
    }
    if (!this.hold || held.id !== this.hold.id) return;
    const before = this.hold.state;
    this.hold = held;
    if (held.state === "released") this.#release();
    else if (held.state === "captured" || held.state === "sold") this.#confirm();
    else if (held.state === "held" && before === "paying") this.#go("declined");
    else this.#sheet.render();
  }

  #onOrder(order) {
    const ours = this.order ? this.order.id === order.id : this.hold && this.hold.id === order.hold_id;
    if (!ours) {
      if (order.state === "sold") toast(t("Your order is confirmed."), "good");
      return;
    }
    this.order = order;
    // Money on its way back opens no sheet that its buyer has read and closed.
    const returned = order.state === "refunded" && ["sold", "closed"].includes(this.step);
    if (order.state === "sold") {
      this.#go("sold");
    } else if (order.state === "partly_refunded" || returned) {
      toast(t("{sum} of your order went back to you.", { sum: formatMoney(order.refunded) }), "good");
    } else if (order.state === "refund_due" || order.state === "refunded") this.#go("late");
    else if (order.state === "expired" && this.step !== "over") this.#release();
  }

  /** After a reconnection: what was told to this buyer alone may have been missed. */
  #onSnapshot() {
    const { you } = this.#room;
    for (const id of this.#entries) {
      const held = you && you.holds.find((known) => known.id === id);
      if (held && held.state === "held") this.#onDrawn(held);
    }
    this.#entries = new Set(you ? you.holds.filter(({ state }) => state === "entered").map(({ id }) => id) : []);
    if (!this.hold || !you || ["closed", "holding", "sold", "late", "over", "lineover", "undrawn"].includes(this.step)) return;
    const order = you.orders.find((known) => known.hold_id === this.hold.id);
    const held = you.holds.find((known) => known.id === this.hold.id);
    if (order && order.state !== "paying") this.#onOrder(order);
    else if (held) this.#onHold(held);
    else this.#release();
  }

  #onMessage(event) {
    if (event.origin !== location.origin || !event.data || event.data.type !== "haul.pay") return;
    if (!this.order || event.data.order !== this.order.id) return;
    if (event.data.outcome === "paid") this.#confirm();
    else if (this.step === "paying") this.#go("declined");
  }

  #confirm() {
    if (this.step !== "sold") this.#go("confirming");
  }

  #release() {
    if (this.hold) this.#room.takeHold({ ...this.hold, state: "released" });
    if (this.step === "closed") toast(sentence({ code: "hold_over" }));
    else this.#go("over");
  }

  #onSheetClosed() {
    // The hold stands until its deadline; the card leads back to it.
    this.step = "closed";
    this.dispatchEvent(new CustomEvent("change"));
  }

  #go(step) {
    const reopened = step !== "closed" && step !== "holding";
    this.step = step;
    if (step !== "failed") this.error = null;
    this.#sheet.render();
    if (reopened) openSheet(byId("buy-sheet"));
    else if (step === "closed") closeSheet(byId("buy-sheet"));
    this.dispatchEvent(new CustomEvent("change"));
  }
}

/** What a request for these units says: a number where it is of the first line alone. */
function wanted(units) {
  const [only, ...others] = units;
  return others.length === 0 && only.line === 0 ? { quantity: only.quantity } : { lines: units };
}
