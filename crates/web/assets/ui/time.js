// Countdowns, all from one timer.

import { locale, t } from "./tongue.js";

const TICK_MS = 200;
const listeners = new Set();
let timer = 0;

/** Calls `listener` now and a few times a second. Returns how to stop it. */
export function everyTick(listener) {
  listeners.add(listener);
  if (!timer) timer = setInterval(() => listeners.forEach((each) => each()), TICK_MS);
  listener();
  return () => listeners.delete(listener);
}

/** A span of time as people read it: "4:09", "1:02:10", "3 days". It ends at "0:00", and shows that second once. */
export function spanText(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds >= 48 * 3600) return t("{n} days", { n: Math.floor(seconds / 86400) });
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  if (minutes >= 60) return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
  return `${minutes}:${two(seconds % 60)}`;
}

/** A time of day, in the reader's manner. */
export function clockText(at) {
  return new Date(at).toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" });
}

/** A moment, in the reader's manner: the time of day, with the date where that is not today's. */
export function momentText(at) {
  const isToday = new Date(at).toDateString() === new Date().toDateString();
  return isToday ? clockText(at) : new Date(at).toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
}
