// What people read when something does not work. Codes come from the server; sentences are ours.

import { locale, phrase, t } from "./tongue.js";

const SENTENCES = {
  muted: phrase("You can't write here now."),
  rejected: phrase("That can't be said here."),
  banned: phrase("You are banned from this live."),
  unauthorized: phrase("Your link has run out. Open the shop's link again."),
  forbidden: phrase("Your link does not allow that."),
  not_found: phrase("That is not on offer any more."),
  rate_limited: phrase("That was quick. Wait a moment."),
  sale_not_open: phrase("The sale is not open yet. Watch the countdown."),
  sale_paused: phrase("The host has paused the sale. Stay: it goes on in a moment."),
  sale_closed: phrase("The sale is over."),
  sold_out: phrase("Sold out. Every unit found a home."),
  not_enough: phrase("Others are holding the last units. If someone lets go, they come back."),
  no_line: phrase("The line is full. Try again in a moment."),
  buyer_limit: phrase("You have as many as one buyer may have."),
  coupon_invalid: phrase("This coupon is not valid here."),
  coupon_used_up: phrase("This coupon is used up."),
  contact_invalid: phrase("Something is missing in where it goes. Look at the address once more."),
  unknown_hold: phrase("That reservation is gone."),
  hold_over: phrase("Time ran out, and your units went back to the shelf."),
  wrong_state: phrase("That has changed meanwhile. Look again, then try once more."),
  pending: phrase("We are still waiting for the answer. Nothing is lost: try again, and you will see where you stand."),
  unavailable: phrase("Buying is paused for a moment. Nothing was taken; try again shortly."),
  busy: phrase("The house is full. You are let in as soon as someone leaves."),
  disconnected: phrase("The connection dropped. We are bringing it back."),
  timeout: phrase("No answer in time. We will check again."),
  network: phrase("The server can't be reached. Check your connection."),
  internal: phrase("Something went wrong on our side. Try again."),
};

/** A sentence for a `HaulError`: ours if we have one, else the server's. */
export function sentence(error) {
  const known = SENTENCES[error.code];
  if (error.code === "rate_limited" && error.retryAfterMs) {
    const seconds = Math.ceil(error.retryAfterMs / 1000);
    // What is rounded up to a second is said as one.
    return seconds > 1 ? `${t("That was quick. Wait a moment.")} (${t("{n} s", { n: seconds })})` : t(SENTENCES.rate_limited);
  }
  // The server says which word or whose turn it is; ours say what it comes to.
  if ((error.code === "coupon_invalid" || error.code === "muted" || error.code === "rejected" || error.code === "banned") && error.message) {
    return `${t(known)} (${error.message})`;
  }
  return known ? t(known) : error.message || t(SENTENCES.internal);
}

const ORDER_STATES = {
  paying: { text: phrase("Awaiting payment"), tone: "warn" },
  sold: { text: phrase("Confirmed"), tone: "good" },
  expired: { text: phrase("Not paid"), tone: "plain" },
  refund_due: { text: phrase("Refund on its way"), tone: "bad" },
  partly_refunded: { text: phrase("Partly refunded"), tone: "plain" },
  refunded: { text: phrase("Refunded"), tone: "plain" },
};

export function orderState(state) {
  const known = ORDER_STATES[state];
  return known ? { ...known, text: t(known.text) } : { text: state, tone: "plain" };
}

/** A large count in little room: 950, 1.2K. */
export function compact(number) {
  return new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 }).format(number);
}

/** The part of an order's id that people read out: the last eight characters. The full id is beside it. */
export function shortId(id) {
  return id.slice(-8).toUpperCase();
}
