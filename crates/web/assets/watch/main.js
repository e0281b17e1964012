// The watch page: puts its parts together. Each part shows one thing of the room and knows none of the others.

import { Channel, Quality, click, rest } from "/sdk/haul.js";
import { Composer, showChat, showRules } from "../ui/chat.js";
import { byId } from "../ui/dom.js";
import { followListing } from "../ui/listing.js";
import { Room, isStaff, renderOn } from "../ui/room.js";
import { openSheet, toast, wireSheets } from "../ui/sheet.js";
import { t, translatePage, wanted } from "../ui/tongue.js";
import { claims, expired, forgetToken, liveId, tellEmbedder } from "../ui/visit.js";
import { compact, sentence } from "../ui/words.js";
import { showBag } from "./bag.js";
import { Buying } from "./buy.js";
import { showCoupon } from "./coupon.js";
import { showDeck } from "./deck.js";
import { showEntrance } from "./entrance.js";
import { showHearing } from "./hearing.js";
import { player, token as given } from "./picture.js";
import { showLikes } from "./likes.js";
import { showPin } from "./pin.js";
import { showProduct } from "./product.js";
import { showQuality } from "./quality.js";
import { Saved } from "./saved.js";
import { showShow } from "./show.js";
import { showStage } from "./stage.js";
import { showTalk } from "./talk.js";

const page = byId("page");
let token = given;

const ref = new URLSearchParams(location.search).get("ref");
const channel = new Channel({ live: liveId, token, ref, locale: wanted });
const room = new Room(channel);
room.takeClaims(token && claims(token));
followListing(room, () => token, ref);
const quality = new Quality(channel, player);
// For tests and support: the browser's own statistics are a question away.
window.haul = { channel, player, quality, room, get pc() { return player.pc; } };

translatePage();
wireSheets();
tellEmbedder("ready", {});
const stage = showStage(page, room, player);
showHearing(room, player);
showQuality(page, quality);
showChat(room, byId("chat"), new Composer(room, byId("composer"), byId("chat-input")));
showRules(room);

showDeck();
const entrance = showEntrance(room, { hasToken: () => Boolean(token), onToken: (fresh) => enter(fresh) });
const needsToken = () => entrance.ask();
const buying = new Buying(room, { needsToken });
const saved = new Saved(room, { token: () => token, needsToken });
const talk = showTalk(room, needsToken);
const openSheetOf = showProduct(room, { buying, saved, onAsk: talk.ask });
const openProduct = (id) => {
  if (!room.product(id)?.shop_link) click(channel, id);
  openSheetOf(id);
};
showPin(room, { buying, saved, openProduct });
showBag(room, { buying, saved, openProduct });
showCoupon(room, buying);
showLikes(room, needsToken);
showShow(room, needsToken);
renderOn(room, ["you"], () => (byId("studio-link").hidden = !isStaff(room)));
byId("studio-link").href = `/studio/${encodeURIComponent(liveId)}`;
byId("studio-link").addEventListener("click", (event) => {
  event.preventDefault();
  // The other tab has no storage of ours; a fragment goes to no server, and is gone as soon as it was read.
  window.open(`${event.currentTarget.href}#token=${encodeURIComponent(token)}`, "_blank", "noopener");
});
byId("talk-open").addEventListener("click", () => talk.open());
byId("bag-open").addEventListener("click", () => openSheet(byId("bag-sheet")));

renderOn(room, ["live"], () => {
  byId("title").textContent = room.live.title || (room.ready ? liveId : "\u00a0");
  document.title = room.live.title ? `${room.live.title} · Live` : "Live";
});
renderOn(room, ["viewers"], () => (byId("viewers").textContent = compact(room.viewers)));

renderOn(room, ["live"], () => room.ready && tellEmbedder("state", { state: room.live.state }));
room.addEventListener("order", ({ detail }) => tellEmbedder("order", { id: detail.id, state: detail.state }));

// The two connections help each other: the channel knows first that the host is there, or should be.
room.addEventListener("change", ({ detail }) => {
  if (detail === "live" && room.live.state === "live" && ["waiting", "unsupported"].includes(player.state)) player.hurry();
});

channel.addEventListener("snapshot", () => player.state === "reconnecting" && player.hurry());

channel.addEventListener("state", ({ detail }) => {
  if (detail.state === "closed" && detail.reason !== "left") onRefused(detail.reason, detail.error);
});
channel.connect().catch(() => {});
page.inert = false;

function enter(fresh) {
  token = fresh;
  room.takeClaims(fresh && claims(fresh));
  channel.setToken(fresh);
  player.setToken(fresh);
}

/** The token does not do (any more): go on without one where the live is public, else say what is wrong with it. */
async function onRefused(reason, error) {
  if (reason === "banned") {
    const told = room.you && room.you.standing;
    const ban = (error && error.standing) || (told && told.measure === "ban" ? told : null);
    // Put out with somebody else of their network, and not told why: the answer to another hello says it.
    if (!ban && !error) {
      channel.connect().catch(() => {});
      return;
    }
    stage.refuse("banned", ban);
    player.stop();
    return;
  }
  forgetToken();
  const had = token;
  token = null;
  const live = await rest(`/v1/lives/${encodeURIComponent(liveId)}`).catch(() => null);
  if (live && live.public) {
    if (had) {
      toast(had && expired(had) ? t("Your link has run out. Open the shop's link again.") : sentence({ code: reason }), "bad");
      enter(null);
    }
    entrance.render();
    return;
  }
  if (had) stage.refuse(whyRefused(had, reason));
  else page.dataset.player = "refused";
  entrance.render();
}

function whyRefused(token, reason) {
  if (expired(token)) return "expired";
  const claimed = claims(token);
  if (claimed && reason === "forbidden") return "other_live";
  return "invalid";
}
