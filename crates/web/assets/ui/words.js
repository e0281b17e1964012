// What people read when something does not work. Codes come from the server; sentences are ours.

import { momentText } from "./time.js";
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
  bad_request: phrase("That can't be sent like this. Perhaps it is too long: change it, and try again."),
  network: phrase("The server can't be reached. Check your connection."),
  internal: phrase("Something went wrong on our side. Try again."),
};

/** Codes of HTTP requests that come to the same. */
const SAME = { token_missing: "unauthorized", token_invalid: "unauthorized", token_expired: "unauthorized", wrong_live: "forbidden" };

/** Where a code stands for several things, what exactly was wrong. */
const WHY = {
  name_taken: phrase("Somebody here is called so already. Choose another name."),
  word: phrase("That can't be said here: a word in it is not allowed."),
  link: phrase("Links may not be written here."),
  repeated: phrase("You have just said that."),
  marks: phrase("Too many marks stand over one letter."),
  followers: phrase("Only followers of the shop write now"),
  buyers: phrase("Only those who bought here write now"),
  staff: phrase("Only the host's team writes now"),
  unknown: phrase("There is no such coupon here."),
  not_yet: phrase("This coupon is not valid yet."),
  over: phrase("This coupon is not valid any more."),
  other_sale: phrase("This coupon is for another sale."),
  other_products: phrase("This coupon is for other products."),
  below_minimum: phrase("This coupon is for larger orders."),
  nothing_off: phrase("This coupon takes nothing off this price."),
};

/** A sentence for a `HaulError`, in the reader's tongue. The server's own words are for developers, and are not in it. */
export function sentence(error) {
  if (error.code === "rate_limited" && error.retryAfterMs) {
    const seconds = Math.ceil(error.retryAfterMs / 1000);
    // What is rounded up to a second is said as one.
    return seconds > 1 ? `${t("That was quick. Wait a moment.")} (${t("{n} s", { n: seconds })})` : t(SENTENCES.rate_limited);
  }
  const known = t(WHY[error.why] || SENTENCES[SAME[error.code] || error.code] || SENTENCES.internal);
  return error.standing ? [known, ...standingLines(error.standing)].join("\n") : known;
}

/** As `sentence`, for the host's team: what has no sentence of ours is told as the server puts it, since they can mend it. */
export function teamSentence(error) {
  const known = WHY[error.why] || (error.code !== "bad_request" && SENTENCES[error.code]);
  return known || !error.message ? sentence(error) : error.message;
}

/** Why something is in force against the reader, and until when: a line for each. */
export function standingLines({ reason, until }) {
  const end = until ? t("Until {time}", { time: momentText(until) }) : t("Until the host's team lifts it");
  return reason ? [t("Reason: {reason}", { reason }), end] : [end];
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
