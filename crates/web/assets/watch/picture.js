// The picture begins before everything else of the page: this module is loaded first, and needs few others. The rest of the
// page runs once it is there: before that it would keep the answer and the handshake waiting.

import { play } from "/sdk/play.js";
import { liveId, takeToken } from "../ui/visit.js";

/** What the rest of the page shows is wanted by then, whatever the picture does. */
const ALONE_MS = 400;

export const token = takeToken();
const transport = new URLSearchParams(location.search).get("transport") || undefined;
const video = document.getElementById("video");
export const player = play({ live: liveId, token, transport, video });

// Loaded once, however often it is asked for.
const follow = () => import("./main.js");
video.addEventListener("loadeddata", follow, { once: true });
player.addEventListener("state", follow, { once: true });
setTimeout(follow, player.state === "connecting" ? ALONE_MS : 0);
