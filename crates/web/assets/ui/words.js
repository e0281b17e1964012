// What people read when something does not work. Codes come from the server; sentences are ours.

import { t } from "./tongue.js";

const SENTENCES = {
  muted: "You can't write here now.",
  rejected: "That can't be said here.",
  banned: "You are banned from this live.",
  unauthorized: "Your link has run out. Open the shop's link again.",
  forbidden: "Your link does not allow that.",
  not_found: "That is not on offer any more.",
  rate_limited: "That was quick. Wait a moment.",
  sale_not_open: "The sale is not open yet. Watch the countdown.",
  sale_closed: "The sale is over.",
  sold_out: "Sold out. Every unit found a home.",
  not_enough: "Others are holding the last units. If someone lets go, they come back.",
  buyer_limit: "You have as many as one buyer may have.",
  unknown_hold: "That reservation is gone.",
  hold_over: "Time ran out, and your units went back to the shelf.",
  pending: "We are still waiting for the answer. Nothing is lost: try again, and you will see where you stand.",
  unavailable: "Buying is paused for a moment. Nothing was taken; try again shortly.",
  busy: "The house is full. You are let in as soon as someone leaves.",
  disconnected: "The connection dropped. We are bringing it back.",
  timeout: "No answer in time. We will check again.",
  network: "The server can't be reached. Check your connection.",
  internal: "Something went wrong on our side. Try again.",
};

/** A sentence for a `HaulError`: ours if we have one, else the server's. */
export function sentence(error) {
  const known = SENTENCES[error.code];
  if (error.code === "rate_limited" && error.retryAfterMs) {
    const seconds = Math.ceil(error.retryAfterMs / 1000);
    // What is rounded up to a second is said as one.
    return seconds > 1 ? `${t("That was quick. Wait a moment.")} (${seconds} s)` : t(SENTENCES.rate_limited);
  }
  // The server says which word or whose turn it is; ours say what it comes to.
  if ((error.code === "muted" || error.code === "rejected" || error.code === "banned") && error.message) {
    return `${t(known)} (${error.message})`;
  }
  return known ? t(known) : error.message || t(SENTENCES.internal);
}

const ORDER_STATES = {
  paying: { text: "Awaiting payment", tone: "warn" },
  sold: { text: "Confirmed", tone: "good" },
  expired: { text: "Not paid", tone: "plain" },
  refund_due: { text: "Refund on its way", tone: "bad" },
  partly_refunded: { text: "Partly refunded", tone: "plain" },
  refunded: { text: "Refunded", tone: "plain" },
};

export function orderState(state) {
  const known = ORDER_STATES[state];
  return known ? { ...known, text: t(known.text) } : { text: state, tone: "plain" };
}

/** "1 unit", "3 units". */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString()} ${number === 1 ? one : many}`;
}

/** A large count in little room: 950, 1.2K. */
export function compact(number) {
  return new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 }).format(number);
}

/** The part of an order's id that people read out: the last eight characters. The full id is beside it. */
export function shortId(id) {
  return id.slice(-8).toUpperCase();
}
