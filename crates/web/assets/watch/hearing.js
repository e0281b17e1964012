// Sound that WebRTC does not carry: then the live is taken over MoQ, and where that can't be had, a word says why it is silent.

import { byId } from "../ui/dom.js";
import { toast } from "../ui/sheet.js";
import { t } from "../ui/tongue.js";

const NOTICE_MS = 12_000;

export function showHearing(room, player) {
  const sound = byId("sound");
  let [tried, told] = [false, false];
  const look = () => {
    const apart = room.ready && room.live.state !== "waiting" && room.live.sound === "moq_only";
    if (!apart) [tried, told] = [false, false];
    const deaf = apart && player.transport === "webrtc";
    sound.disabled = deaf;
    if (!deaf) return;
    if (!tried) {
      tried = true;
      if (player.prefer("moq")) return;
    }
    if (told) return;
    told = true;
    toast(t("The host's sound can't be played over this connection. The picture goes on."), "bad", NOTICE_MS);
  };
  room.addEventListener("change", ({ detail }) => detail === "live" && look());
  player.addEventListener("transport", look);
  look();
}
