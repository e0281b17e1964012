// A live on a shop's own page:
//
//   <script type="module" src="https://live.example/sdk/element.js"></script>
//   <haul-live live="tea-time" token="eyJ…"></haul-live>
//
// The watch page in a frame, so that neither page can break the other's looks. The shop's origin must be among the
// server's `http.allowed_origins`.

const HOME = new URL(import.meta.url).origin;

/**
 * Attributes: `live`, `token` (optional where the live is public), `lang` (`en` or `zh`), `base` (the server, where it is not
 * the one that this script is from). Events: `haul-order` (detail: `{id, state}`) when an order of the viewer's changes, and
 * `haul-state` (detail: `{state}`: `waiting`, `live` or `reconnecting`).
 */
export class HaulLive extends HTMLElement {
  static observedAttributes = ["live", "token", "lang", "base"];
  #frame = null;
  #shown = "";
  #hear = ({ origin, source, data }) => {
    if (!this.#frame || source !== this.#frame.contentWindow || origin !== this.#base()) return;
    if (!data || data.source !== "haul") return;
    if (data.type === "order") this.dispatchEvent(new CustomEvent("haul-order", { detail: data.detail, bubbles: true }));
    if (data.type === "state") this.dispatchEvent(new CustomEvent("haul-state", { detail: data.detail, bubbles: true }));
  };

  connectedCallback() {
    addEventListener("message", this.#hear);
    this.#show();
  }

  disconnectedCallback() {
    removeEventListener("message", this.#hear);
    if (this.#frame) this.#frame.remove();
    this.#frame = null;
    this.#shown = "";
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#show();
  }

  #base() {
    return this.hasAttribute("base") ? new URL(this.getAttribute("base"), location.href).origin : HOME;
  }

  #show() {
    const live = this.getAttribute("live");
    if (!live) return;
    const url = new URL(`/watch/${encodeURIComponent(live)}`, this.#base());
    if (this.hasAttribute("lang")) url.searchParams.set("lang", this.getAttribute("lang"));
    const fragment = new URLSearchParams({ origin: location.origin });
    if (this.hasAttribute("token")) fragment.set("token", this.getAttribute("token"));
    url.hash = fragment.toString();
    if (url.href === this.#shown) return;
    this.#shown = url.href;
    // A new frame: a frame that only its fragment changes of would not load again.
    const frame = document.createElement("iframe");
    frame.src = url.href;
    frame.title = this.getAttribute("title") || "Live";
    frame.allow = "autoplay; fullscreen; clipboard-write; payment";
    Object.assign(frame.style, { display: "block", width: "100%", height: "100%", border: "0" });
    if (!this.style.display) this.style.display = "block";
    if (!this.style.height && !this.style.aspectRatio) this.style.aspectRatio = "9 / 16";
    this.replaceChildren(frame);
    this.#frame = frame;
  }
}

if (!customElements.get("haul-live")) customElements.define("haul-live", HaulLive);
