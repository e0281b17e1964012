// Haul's client module: watch and publish a live, follow its channel, buy in it.
//
//   import { Channel, watch, hold, checkout } from "/sdk/haul.js";
//
// Plain browser APIs, no dependencies; types are in haul.d.ts.

export { Channel, SUBPROTOCOL } from "./channel.js";
export { HaulError } from "./error.js";
export { timeText } from "./json.js";
export { formatMoney, parseAmount, plainAmount, exponent } from "./money.js";
export { LivePlayer, play } from "./play.js";
export { publish, Publication } from "./publish.js";
export { Quality } from "./quality.js";
export { rest } from "./rest.js";
export { ask, like, moderate, say, send, write } from "./room.js";
export { cancel, checkout, click, hold, newKey, wait } from "./shop.js";
export { Player, watch } from "./watch.js";
