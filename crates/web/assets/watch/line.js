// Places in line: taken, remembered over a reload, and asked for again while one waits.

import { newKey, wait } from "/sdk/haul.js";

const SLOT = "haul.line";
// Spread over the upper half of it, so that thousands in line do not ask in the same instant.
const ASK_EVERY_MS = 12_000;

export class Line {
  #room;
  #onPlace;
  #onTurn;
  /** By the hold's id: what was asked for. */
  #places = new Map();
  #timer = 0;

  /** `onPlace` hears of each place that was asked for again, `onTurn` of those whose turn came while nobody was connected. */
  constructor(room, { onPlace, onTurn }) {
    this.#room = room;
    this.#onPlace = onPlace;
    this.#onTurn = onTurn;
    room.channel.addEventListener("snapshot", ({ detail }) => this.#onSnapshot(detail));
  }

  has(holdId) {
    return this.#places.has(holdId);
  }

  leave(holdId) {
    this.#places.delete(holdId);
    this.#keep();
  }

  /** Takes a place. Resolves with the hold, which stands at once where units are free. */
  async take({ saleId, line, quantity, key = newKey() }) {
    const held = await wait(this.#room.channel, { saleId, line, quantity, key });
    if (held.state === "waiting") {
      this.#places.set(held.id, { saleId, line, quantity, key });
      this.#keep();
      this.#soon();
    }
    return held;
  }

  #onSnapshot({ you }) {
    const holds = you ? you.holds : [];
    const waiting = holds.filter(({ state }) => state === "waiting");
    const known = new Map([...Object.entries(this.#kept()), ...this.#places]);
    const turned = holds.filter(({ id, state }) => state === "held" && known.has(id));
    // Of a place that was taken elsewhere the key is not known: it stands, and only its number is not told.
    this.#places = new Map(waiting.map(({ id }) => [id, known.get(id) || null]));
    this.#keep();
    turned.forEach((held) => this.#onTurn(held));
    if (this.#places.size > 0) this.#ask();
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), ASK_EVERY_MS * (0.5 + Math.random() * 0.5));
  }

  async #ask() {
    for (const [id, place] of this.#places) {
      if (!place || document.visibilityState === "hidden") continue;
      const held = await wait(this.#room.channel, { ...place, patienceMs: 0 }).catch(() => null);
      if (!held || held.id !== id || held.state !== "waiting" || !this.#places.has(id)) continue;
      this.#room.takeHold(held);
      this.#onPlace(held);
    }
    if (this.#places.size > 0) this.#soon();
  }

  #kept() {
    try {
      return JSON.parse(sessionStorage.getItem(SLOT)) || {};
    } catch {
      return {};
    }
  }

  #keep() {
    try {
      const places = [...this.#places].filter(([, place]) => place);
      sessionStorage.setItem(SLOT, JSON.stringify(Object.fromEntries(places)));
    } catch {
      // Storage may be off. After a reload, the place is still there, and its number is not told.
    }
  }
}
