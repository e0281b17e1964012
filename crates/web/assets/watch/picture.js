// The picture begins before everything else of the page: this module is loaded first, and needs few others.

import { play } from "/sdk/play.js";
import { liveId, takeToken } from "../ui/visit.js";

export const token = takeToken();
const transport = new URLSearchParams(location.search).get("transport") || undefined;
export const player = play({ live: liveId, token, transport, video: document.getElementById("video") });
