// Which layer of the pictures a viewer is sent, and what they ask for.

/**
 * Follows what the server sends `player` of the pictures, over `channel`, and asks for another layer with `choose`.
 *
 * Event `change`, when `current` has changed: `{pictures, layer, choice, reason, layers}`, null before anything is known.
 * `pictures` is `all`, `some` (they come late otherwise) or `none` (sound alone); `layers` are the names to choose from,
 * the largest first.
 */
export class Quality extends EventTarget {
  #channel;
  #player;
  #asked = null;

  constructor(channel, player) {
    super();
    this.#channel = channel;
    this.#player = player;
    this.choice = "auto";
    this.current = null;
    player.addEventListener("session", () => this.#ask());
    channel.addEventListener("snapshot", () => this.#ask());
    channel.addEventListener("quality.changed", ({ detail }) => this.#take(detail.quality));
    // Over MoQ it is the player who chooses among the renditions.
    player.addEventListener("quality", ({ detail }) => this.#show(detail));
    player.addEventListener("transport", () => this.#show(null));
    this.#ask();
  }

  /** Asks for a layer by its name, or for `auto`. Holds for later sessions, too. */
  async choose(choice) {
    this.choice = choice;
    if (this.#player.choose && this.#player.choose(choice)) return;
    await this.#ask();
  }

  async #ask() {
    const session = this.#player.sessionId;
    if (!session || this.#channel.state !== "open") return;
    const ask = (this.#asked = {});
    try {
      const { quality } = await this.#channel.request("quality.set", { session, layer: this.choice });
      if (ask === this.#asked) this.#take(quality);
    } catch (error) {
      // A layer that the host does not send any more; without a session or a channel there is nothing to ask for.
      if (error.code !== "not_found" || this.choice === "auto" || ask !== this.#asked) return;
      this.choice = "auto";
      await this.#ask();
    }
  }

  #take(quality) {
    if (quality.session !== this.#player.sessionId) return;
    this.#player.soundOnly = quality.pictures === "none";
    this.#show(quality);
  }

  #show(quality) {
    this.current = quality;
    this.dispatchEvent(new CustomEvent("change"));
  }
}
