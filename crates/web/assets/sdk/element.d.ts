// Types of the element <haul-live>.

/** Attributes: `live`, `token`, `lang`, `ref`, `base`; see docs/channel.md. */
export class HaulLive extends HTMLElement {}

declare global {
  interface HTMLElementTagNameMap {
    "haul-live": HaulLive;
  }
  interface HTMLElementEventMap {
    /** An order of the viewer's has changed. */
    "haul-order": CustomEvent<{
      id: string;
      state: "paying" | "sold" | "expired" | "refund_due" | "partly_refunded" | "refunded";
    }>;
    "haul-state": CustomEvent<{ state: "waiting" | "live" | "reconnecting" }>;
    /** The live can't be shown here: this origin is not among the server's, or the server can't be reached. */
    "haul-error": CustomEvent<{ code: "blocked"; message: string }>;
  }
}
