// The sandbox's payment page. It tells the page that opened or framed it how it went; what counts is still the server's
// signed callback, which reaches the buyer over the live's channel.

import { formatMoney, rest } from "/sdk/haul.js";
import { byId, setText } from "../ui/dom.js";
import { plural, t, translatePage } from "../ui/tongue.js";
import { orderState, sentence } from "../ui/words.js";

const HERE = location.pathname.replace(/\/$/, "");
const LOOK_EVERY_MS = 700;
const LOOKS_MAX = 20;

translatePage();
document.title = t("Sandbox payment");

const buttons = [byId("pay"), byId("decline")];
let order = null;

byId("pay").addEventListener("click", () => decide("paid"));
byId("decline").addEventListener("click", () => decide("failed"));
load();

async function load() {
  try {
    const answer = await rest(`${HERE}/order`);
    order = answer.order;
    setText(byId("what"), `${order.quantity > 1 ? `${order.quantity} × ` : ""}${answer.product_title}`);
    setText(byId("sum"), formatMoney(order.total));
    setText(byId("pay"), t("Pay {sum}", { sum: formatMoney(order.total) }));
    if (order.state === "paying") {
      say(plural(order.quantity, "1 unit set aside for you", "{n} units set aside for you"));
      enable(true);
    } else {
      settled();
    }
  } catch (error) {
    say(error.status === 404 ? t("There is no such payment, or it is over.") : sentence(error), "bad");
    byId("choices").hidden = true;
  }
}

async function decide(outcome) {
  enable(false);
  say(t("One moment"));
  try {
    await rest(HERE, { method: "POST", body: { outcome } });
  } catch (error) {
    say(sentence(error), "bad");
    enable(true);
    return;
  }
  if (outcome === "failed") {
    say(t("Declined. Nothing was charged."), "bad");
    setText(byId("pay"), t("Pay after all"));
    tell(outcome);
    return;
  }
  say(t("Paid. Waiting for the shop to confirm."), "good");
  byId("choices").hidden = true;
  tell(outcome);
  confirmed(LOOKS_MAX);
}

/** The callback takes its own way through the server; look until the order says so. */
async function confirmed(looks) {
  if (looks === 0) return;
  await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  const answer = await rest(`${HERE}/order`).catch(() => null);
  if (answer) order = answer.order;
  if (answer && order.state !== "paying") settled();
  else confirmed(looks - 1);
}

function settled() {
  byId("choices").hidden = true;
  const { text, tone } = orderState(order.state);
  say(order.state === "sold" ? t("Paid and confirmed. Order {number}", { number: order.id }) : text, tone === "good" ? "good" : "bad");
  setText(byId("foot"), window.parent === window ? t("You can close this page and return to the live.") : "");
}

function say(words, tone = "") {
  const state = byId("pay-state");
  state.dataset.tone = tone;
  setText(state, words);
}

function enable(on) {
  for (const button of buttons) button.disabled = !on;
}

function tell(outcome) {
  const message = { type: "haul.pay", outcome, order: order.id };
  if (window.parent !== window) window.parent.postMessage(message, location.origin);
  if (window.opener) window.opener.postMessage(message, location.origin);
}
