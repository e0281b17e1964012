// A live on a shop's own page:
//
//   <script type="module" src="https://live.example/sdk/element.js"></script>
//   <haul-live live="tea-time" token="eyJ…"></haul-live>
//
// The watch page in a frame, so that neither page can break the other's looks. The shop's origin must be among the
// server's `http.allowed_origins`.

const HOME = new URL(import.meta.url).origin;
// A page that has loaded and says nothing for so long was kept from showing itself.
const SILENT_MS = 6_000;
const BLOCKED = {
  en: (origin) => `The live can't be shown here. If this is your shop: add ${origin} to http.allowed_origins on the server.`,
  zh: (origin) => `直播无法在此显示。如果这是你的店铺：请在服务器的 http.allowed_origins 中加入 ${origin}。`,
};

/**
 * Attributes: `live`, `token` (optional where the live is public), `lang` (`en` or `zh`), `ref` (whose link it is), `base` (the
 * server, where it is not the one that this script is from). Events: `haul-order` (detail: `{id, state}`) when an order of the viewer's changes, and
 * `haul-state` (detail: `{state}`: `waiting`, `live` or `reconnecting`), `haul-error` (detail: `{code, message}`: `blocked`, where
 * the server does not let this origin show the live, or can't be reached).
 */
export class HaulLive extends HTMLElement {
  static observedAttributes = ["live", "token", "lang", "ref", "base"];
  #frame = null;
  #shown = "";
  #silence = 0;
  /** Whether the page in the frame has said something. */
  #spoken = false;
  #hear = ({ origin, source, data }) => {
    if (!this.#frame || source !== this.#frame.contentWindow || origin !== this.#base()) return;
    if (!data || data.source !== "haul") return;
    this.#heard();
    if (data.type === "order") this.dispatchEvent(new CustomEvent("haul-order", { detail: data.detail, bubbles: true }));
    if (data.type === "state") this.dispatchEvent(new CustomEvent("haul-state", { detail: data.detail, bubbles: true }));
  };

  connectedCallback() {
    addEventListener("message", this.#hear);
    this.#show();
  }

  disconnectedCallback() {
    removeEventListener("message", this.#hear);
    clearTimeout(this.#silence);
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
    if (this.hasAttribute("ref")) url.searchParams.set("ref", this.getAttribute("ref"));
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
    this.#spoken = false;
    clearTimeout(this.#silence);
    frame.addEventListener("load", () => {
      if (this.#frame === frame && !this.#spoken) this.#silence = setTimeout(() => this.#blocked(), SILENT_MS);
    });
  }

  /** The page in the frame has said something: whatever was said in its place goes. */
  #heard() {
    this.#spoken = true;
    clearTimeout(this.#silence);
    const note = this.querySelector("p");
    if (note) note.remove();
    if (this.#frame) this.#frame.style.display = "block";
  }

  #blocked() {
    const say = BLOCKED[(this.getAttribute("lang") || "en").startsWith("zh") ? "zh" : "en"];
    const note = document.createElement("p");
    note.textContent = say(location.origin);
    note.setAttribute("role", "alert");
    Object.assign(note.style, { margin: "0", padding: "24px", font: "16px/1.5 system-ui, sans-serif" });
    this.#frame.style.display = "none";
    this.append(note);
    this.dispatchEvent(new CustomEvent("haul-error", { detail: { code: "blocked", message: note.textContent }, bubbles: true }));
  }
}

if (!customElements.get("haul-live")) customElements.define("haul-live", HaulLive);
