// What is said, asked or written stands for one thing, however often it is sent because an answer was lost.

import { newKey } from "/sdk/haul.js";

/** The same words again after a failure are the same attempt. */
export class Attempt {
  #words = null;
  #key = null;

  keyOf(words) {
    if (words !== this.#words) {
      this.#words = words;
      this.#key = newKey();
    }
    return this.#key;
  }

  /** It is known what became of it: the same words are something new. */
  done() {
    this.#words = null;
  }
}
