// Coupons: made, dropped into the room, counted, and closed.

import { exponent, parseAmount, rest } from "/sdk/haul.js";
import { byId, el } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { toast } from "../ui/sheet.js";
import { clockText } from "../ui/time.js";
import { t } from "../ui/tongue.js";
import { liveId } from "../ui/visit.js";
import { teamSentence } from "../ui/words.js";
import { offText } from "../watch/coupon.js";

const COUPONS = `/v1/lives/${encodeURIComponent(liveId)}/coupons`;

export function showCoupons(room, { token }) {
  let known = [];
  const currency = () => (room.products[0] ? room.products[0].list_price.currency : "EUR");

  const load = async () => {
    const answer = await rest(COUPONS, { token }).catch(() => null);
    if (answer) known = answer.coupons;
    render();
  };
  const ask = async (type, fields) => {
    try {
      await room.channel.request(type, fields);
      await load();
      return true;
    } catch (error) {
      toast(error.code === "bad_request" ? `${t("There can be no such coupon.")} (${error.message})` : teamSentence(error), "bad");
      return false;
    }
  };

  const render = () => {
    byId("coupons-none").hidden = known.length > 0;
    byId("coupons").replaceChildren(
      ...known.map((coupon) => {
        const { code, limit, sold, paying, valid_until: until, closed } = coupon;
        const shown = room.coupon && room.coupon.code === code;
        const over = closed || room.now() >= until;
        const state = over ? t("Closed") : t("until {time}", { time: clockText(until) });
        const button = (words, testid, type, fields = { code }) =>
          el("button", { class: "button small-button", type: "button", "aria-label": `${words}: ${code}`, data: { testid }, on: { click: () => ask(type, fields) } }, words);
        return el(
          "li",
          { class: "coupon-row", data: { testid: "coupon-row" } },
          el("div", { class: "grow" }, el("b", {}, `${code} · ${offText(coupon)}`), el("p", { class: "small muted tabular" }, `${t("{used} of {limit} used", { used: sold + paying, limit })} · ${state}`)),
          !over && (shown ? button(t("Hide"), "coupon-hide", "coupon.hide", {}) : button(t("Show"), "coupon-show", "coupon.show")),
          !over && button(t("Close"), "coupon-close", "coupon.close"),
        );
      }),
    );
  };

  byId("coupon-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const off = byId("coupon-off").value.trim();
    const percent = byId("coupon-kind").value === "percent";
    const amount = percent ? Number(off) : parseAmount(off, currency());
    if (!Number.isInteger(amount) || amount < 1) {
      toast(t("Write what it takes off as a number."), "bad");
      return;
    }
    const made = await ask("coupon.make", {
      code: byId("coupon-code").value.trim(),
      ...(percent ? { percent: amount } : { amount_minor: amount }),
      limit: Number(byId("coupon-limit").value),
      duration_ms: Number(byId("coupon-minutes").value) * 60_000,
      show: byId("coupon-drop").checked,
    });
    if (made) event.target.reset();
  });
  renderOn(room, ["products"], () => {
    byId("coupon-kind").lastElementChild.textContent = currency();
    byId("coupon-off").inputMode = exponent(currency()) ? "decimal" : "numeric";
  });
  // Each order may have used one.
  renderOn(room, ["coupon", "host"], () => room.ready && load());
}
