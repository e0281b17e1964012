// The picture begins before everything else of the page: this module is loaded first, and needs few others. The rest of the
// page runs once the offer is answered: before that it would keep the answer, and with it the picture, waiting.

import { play } from "/sdk/play.js";
import { liveId, takeToken } from "../ui/visit.js";

/** Longer than an answer takes; what the rest of the page shows is wanted then, whatever the picture does. */
const ALONE_MS = 500;

export const token = takeToken();
const transport = new URLSearchParams(location.search).get("transport") || undefined;
export const player = play({ live: liveId, token, transport, video: document.getElementById("video") });

// Loaded once, however often it is asked for.
const follow = () => import("./main.js");
for (const type of ["session", "state"]) player.addEventListener(type, follow, { once: true });
setTimeout(follow, player.state === "connecting" ? ALONE_MS : 0);
