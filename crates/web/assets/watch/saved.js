// Products that a viewer has saved: kept by the server, and told of when they can be bought again.

import { rest } from "/sdk/haul.js";
import { renderOn } from "../ui/room.js";
import { toast } from "../ui/sheet.js";
import { t } from "../ui/tongue.js";
import { liveId } from "../ui/visit.js";
import { sentence } from "../ui/words.js";

const SAVED = `/v1/lives/${encodeURIComponent(liveId)}/saved`;

/** Event `change`. */
export class Saved extends EventTarget {
  #room;
  #token;
  #needsToken;
  #ids = new Set();
  /** Which of them could be bought when last looked. */
  #buyable = new Map();

  constructor(room, { token, needsToken }) {
    super();
    this.#room = room;
    this.#token = token;
    this.#needsToken = needsToken;
    room.channel.addEventListener("snapshot", () => this.#load());
    renderOn(room, ["sales", "products"], () => this.#look());
  }

  has(id) {
    return this.#ids.has(id);
  }

  async toggle(id) {
    if (!this.#room.you) {
      this.#needsToken();
      return;
    }
    const on = !this.has(id);
    this.#set(id, on);
    try {
      await rest(`${SAVED}/${encodeURIComponent(id)}`, { method: on ? "PUT" : "DELETE", token: this.#token() });
      if (on) toast(t("Saved. You hear when it can be bought again."), "good");
    } catch (error) {
      this.#set(id, !on);
      toast(sentence(error), "bad");
    }
  }

  #set(id, on) {
    if (on) this.#ids.add(id);
    else this.#ids.delete(id);
    this.dispatchEvent(new CustomEvent("change"));
  }

  async #load() {
    if (!this.#room.you) return;
    const saved = await rest(SAVED, { token: this.#token() }).catch(() => null);
    if (!saved) return;
    this.#ids = new Set(saved.product_ids);
    this.dispatchEvent(new CustomEvent("change"));
  }

  #look() {
    for (const product of this.#room.products) {
      const sale = this.#room.saleOf(product.id);
      const open = sale && this.#room.phase(sale) === "open";
      const now = Boolean(open && this.#room.linesOf(sale, product.id).some(({ available }) => available > 0));
      const before = this.#buyable.get(product.id);
      if (now && before === false && this.has(product.id)) toast(t("Back in stock: {title}", { title: product.title }), "good", 8_000);
      this.#buyable.set(product.id, now);
    }
  }
}
