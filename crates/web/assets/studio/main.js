// The studio: the host's page. Puts its parts together, once the server said that this is the host.

import { Channel, rest } from "/sdk/haul.js";
import { Composer, showChat, showRules } from "../ui/chat.js";
import { byId, setText } from "../ui/dom.js";
import { followListing } from "../ui/listing.js";
import { Room, isStaff, renderOn } from "../ui/room.js";
import { closeSheet, openSheet, toast, wireSheets } from "../ui/sheet.js";
import { locale, phrase, t, translatePage } from "../ui/tongue.js";
import { claims, expired, forgetToken, keepToken, liveId, takeToken } from "../ui/visit.js";
import { teamSentence } from "../ui/words.js";
import { showAudience } from "./audience.js";
import { showCoupons } from "./coupons.js";
import { runBroadcast } from "./broadcast.js";
import { showOrders } from "./orders.js";
import { showPlot } from "./plot.js";
import { showModeration } from "./moderation.js";
import { showProducts } from "./products.js";
import { wireSaleForm } from "./saleform.js";
import { showSales } from "./sales.js";
import { showShare } from "./share.js";

const GATES = {
  missing: [phrase("The studio needs a host token"), phrase("Open the link with the token that the server printed, or paste the token here.")],
  expired: [phrase("This token has run out"), phrase("Tokens are valid for a while only. Make a new one and paste it here.")],
  unauthorized: [phrase("This token is not valid here"), phrase("It was made for another server, was changed on the way, or has run out.")],
  forbidden: [phrase("This token is for another live"), phrase("Check the address of this page, or paste the token that belongs to it.")],
  role: [phrase("This token is for watching"), phrase("Going live and selling needs a token of the role host; to moderate, one of the role moderator.")],
};

const WARNING_MS = 30_000;
const EXPIRY_NOTICE_MS = 5 * 60_000;
const WARNINGS = {
  b_frames: phrase("Your encoder sends B-frames, which make browsers stutter. Turn them off (in OBS: set bframes=0, or tune to zerolatency)."),
  aac: phrase("Your encoder sends AAC, which WebRTC does not carry: many viewers see the picture and hear nothing. Choose Opus there."),
};

translatePage();
wireSheets();
setText(byId("gate-command"), `haul token --live ${liveId} --role host --sub you`);
byId("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("gate-token").value.trim();
  if (!token) return;
  keepToken(token);
  location.reload();
});

const token = takeToken();
if (!token) refuse("missing");
else if (expired(token)) refuse("expired");
else if (roleOf(token) === "viewer") refuse("role");
else open(roleOf(token));

/** What the token says; whoever has one that can't be read hears from the server what it is. */
function roleOf(token) {
  return (claims(token) || {}).role || "host";
}

function refuse(reason) {
  const [title, text] = GATES[reason] || GATES.unauthorized;
  setText(byId("gate-title"), t(title));
  setText(byId("gate-text"), t(text));
  byId("studio").hidden = true;
  byId("gate").hidden = false;
  if (reason !== "missing") forgetToken();
}

/** As `host`, or as `moderator`: without the picture, the sale, and what else is the host's alone. */
function open(role) {
  const api = (path, options = {}) => rest(`/v1/lives/${encodeURIComponent(liveId)}${path}`, { token, ...options });
  // Products are changed here: they are shown as they were written.
  const channel = new Channel({ live: liveId, token, locale: null });
  const room = new Room(channel);
  followListing(room, () => token);
  byId("studio").dataset.role = role;
  byId("studio").hidden = false;
  if (role !== "host") byId("chat-input").placeholder = t("Answer as moderator");

  const broadcast = runBroadcast({ live: liveId, token, room });
  // For tests and support: the browser's own statistics are a question away.
  window.haul = { channel, room, broadcast, get pc() { return broadcast.pc; } };

  showChat(room, byId("chat"), new Composer(room, byId("composer"), byId("chat-input")));
  showRules(room);
  showModeration(room);
  showAudience(room);
  showPlot(room);
  showProducts(room, api, { mayEdit: role === "host" });
  wireSaleForm(room);
  showSales(room);
  showOrders(room, { token, mayRefund: role === "host" });
  if (role === "host") showCoupons(room, { token });
  showShare({ live: liveId, token, api });
  showSettings(room, api);

  renderOn(room, ["live"], () => {
    const title = room.live.title || liveId;
    setText(byId("title"), title);
    document.title = `${title} · ${t("Studio")}`;
  });
  room.addEventListener("change", ({ detail }) => {
    if (detail !== "live" || room.live.state !== "reconnecting") return;
    toast(t("Nothing arrives from your camera or encoder. Viewers read that you are reconnecting."), "bad");
  });
  // Whoever has minutes to go can still get a fresh link in peace. Longer waits than timers count are left out.
  const { exp } = claims(token) || {};
  const warnIn = exp * 1000 - Date.now() - EXPIRY_NOTICE_MS;
  if (warnIn < 2 ** 31) setTimeout(() => toast(t("Your token runs out within five minutes, and with it this studio: open it by a fresh link."), "bad", WARNING_MS), Math.max(0, warnIn));
  renderOn(room, ["viewers"], () => setText(byId("viewers"), room.viewers.toLocaleString(locale)));
  renderOn(room, ["you"], () => {
    // A token of another role than this page was made for can't have been read right.
    if (room.ready && (!isStaff(room) || room.you.role !== role)) {
      broadcast.end();
      channel.close();
      refuse("role");
    }
  });

  channel.addEventListener("host.warning", ({ detail }) => {
    // Of one that this page does not know it has nothing to say.
    if (WARNINGS[detail.warning]) toast(t(WARNINGS[detail.warning]), "bad", WARNING_MS);
  });

  let failing = 0;
  channel.addEventListener("state", ({ detail }) => {
    clearTimeout(failing);
    const link = byId("link-state");
    if (detail.state === "open") link.hidden = true;
    if (detail.state === "waiting") {
      // A blink is not worth a word.
      failing = setTimeout(() => {
        setText(link, t(room.ready ? "The server can't be reached. Reconnecting: orders and holds are safe there." : "Waiting for the server"));
        link.hidden = false;
      }, 1_200);
    }
    if (detail.state === "closed" && detail.reason !== "left") {
      if (broadcast.state !== "off" && expired(token)) {
        // A show on air outlives its token: the picture goes on, while chat and shop need a new one.
        setText(link, t("Your token has run out. You are still on air: sell on by a fresh link, in another tab"));
        link.hidden = false;
        return;
      }
      broadcast.end();
      refuse(detail.reason);
    }
  });
  // A live that nobody created yet comes into being with its first broadcast.
  broadcast.addEventListener("state", ({ detail }) => detail.state === "live" && channel.retryNow());
  channel.connect().catch(() => {});
}

function showSettings(room, api) {
  byId("settings-open").addEventListener("click", async () => {
    byId("settings-title").value = room.live.title;
    const live = await api("").catch(() => null);
    byId("settings-public").checked = Boolean(live && live.public);
    openSheet(byId("settings-sheet"));
  });
  byId("settings-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { title: byId("settings-title").value.trim(), public: byId("settings-public").checked };
    try {
      await api("", { method: "PUT", body });
      closeSheet(byId("settings-sheet"));
      toast(t("Saved."), "good");
    } catch (error) {
      toast(teamSentence(error), "bad");
    }
  });
}
