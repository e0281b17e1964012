// The picture begins before everything else of the page: this module is loaded first, and needs few others.

import { watch } from "/sdk/watch.js";
import { liveId, takeToken } from "../ui/visit.js";

export const token = takeToken();
export const player = watch({ live: liveId, token, video: document.getElementById("video") });
