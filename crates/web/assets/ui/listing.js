// What the channel does not tell of products: their variants, links to external shops.

import { rest } from "/sdk/haul.js";
import { tongue } from "./tongue.js";
import { liveId } from "./visit.js";

// However many watch: so many ask a second at most when the host changes the bag.
const ASKS_A_SECOND = 500;
const SPREAD_MAX_MS = 60_000;
// Links to shops are good for a day.
const AGAIN_MS = 12 * 3_600_000;

/** Keeps the room's listing current. `token()` is whose; `ref` goes into links to external shops. */
export function followListing(room, token, ref = null) {
  let asked = false;
  let timer = 0;

  const ask = async () => {
    clearTimeout(timer);
    timer = setTimeout(ask, AGAIN_MS);
    asked = true;
    const query = new URLSearchParams(ref ? { ref } : {});
    // The page's tongue goes before the browser's languages; where the page is English, those may know better.
    if (tongue === "zh") query.set("locale", "zh-Hans");
    try {
      const { products } = await rest(`/v1/lives/${encodeURIComponent(liveId)}/products?${query}`, { token: token() });
      room.takeListing(products);
    } catch {
      // The channel has told titles and prices; what is missing comes with the next change.
    }
  };

  const soon = () => {
    if (!asked) return ask();
    clearTimeout(timer);
    timer = setTimeout(ask, Math.random() * Math.min(SPREAD_MAX_MS, (room.viewers / ASKS_A_SECOND) * 1_000));
    return undefined;
  };
  room.channel.addEventListener("snapshot", ask);
  room.channel.addEventListener("products.changed", soon);
}
