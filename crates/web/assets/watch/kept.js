// What this browser remembers of a reader and a live, over reloads too.

import { liveId } from "../ui/visit.js";

/** One thing that is remembered: for each live and each person another. Null where nothing is. */
export class Kept {
  #room;
  #name;
  /** By the slot: storage may be off, and then it lasts as long as the page. */
  #here = new Map();

  constructor(room, name) {
    this.#room = room;
    this.#name = name;
  }

  get value() {
    const slot = this.#slot();
    if (this.#here.has(slot)) return this.#here.get(slot);
    try {
      return JSON.parse(localStorage.getItem(slot));
    } catch {
      return null;
    }
  }

  set value(value) {
    const slot = this.#slot();
    this.#here.set(slot, value);
    try {
      localStorage.setItem(slot, JSON.stringify(value));
    } catch {
      // After a reload it is news again.
    }
  }

  #slot() {
    return `haul.${this.#name}.${liveId}.${this.#room.reader}`;
  }
}
