// The watch page: puts its parts together. Each part shows one thing of the room and knows none of the others.

import { Channel, Quality, rest } from "/sdk/haul.js";
import { Composer, showChat, showRules } from "../ui/chat.js";
import { byId } from "../ui/dom.js";
import { Room, renderOn } from "../ui/room.js";
import { openSheet, toast, wireSheets } from "../ui/sheet.js";
import { t, translatePage } from "../ui/tongue.js";
import { forgetToken, liveId, tellEmbedder } from "../ui/visit.js";
import { compact, sentence } from "../ui/words.js";
import { showBag } from "./bag.js";
import { Buying } from "./buy.js";
import { showEntrance } from "./entrance.js";
import { player, token as given } from "./picture.js";
import { showLikes } from "./likes.js";
import { showPin } from "./pin.js";
import { showQuality } from "./quality.js";
import { showShow, showTalk } from "./show.js";
import { showStage } from "./stage.js";

const page = byId("page");
let token = given;

const channel = new Channel({ live: liveId, token, ref: new URLSearchParams(location.search).get("ref") });
const room = new Room(channel);
const quality = new Quality(channel, player);
// For tests and support: the browser's own statistics are a question away.
window.haul = { channel, player, quality, room, get pc() { return player.pc; } };

translatePage();
wireSheets();
showStage(page, room, player);
showQuality(page, quality);
showChat(room, byId("chat"), new Composer(room, byId("composer"), byId("chat-input")));
showRules(room);

const entrance = showEntrance(room, { hasToken: () => Boolean(token), onToken: (fresh) => enter(fresh) });
const buying = new Buying(room, { needsToken: () => entrance.ask() });
showPin(room, buying);
showBag(room, buying);
showLikes(room, () => entrance.ask());
showShow(room, () => entrance.ask());
showTalk(room, () => entrance.ask());
byId("talk-open").addEventListener("click", () => openSheet(byId("talk-sheet")));
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
  if (detail.state === "closed" && detail.reason !== "left") onRefused(detail.reason);
});
channel.connect().catch(() => {});

function enter(fresh) {
  token = fresh;
  channel.setToken(fresh);
  player.setToken(fresh);
}

/** The token does not do (any more): go on without one where the live is public, else say so. */
async function onRefused(reason) {
  if (reason === "banned") {
    page.dataset.player = "refused";
    player.stop();
    byId("veil-title").textContent = t("You are banned from this live.");
    byId("veil-text").textContent = "";
    return;
  }
  forgetToken();
  const had = token;
  token = null;
  const live = await rest(`/v1/lives/${encodeURIComponent(liveId)}`).catch(() => null);
  if (live && live.public) {
    if (had) {
      toast(sentence({ code: reason }), "bad");
      enter(null);
    }
    entrance.render();
    return;
  }
  page.dataset.player = "refused";
  entrance.render();
}
