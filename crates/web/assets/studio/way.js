// By which way the studio publishes: WebRTC, or Media over QUIC where the page's address says `?transport=moq`.

import { Publication } from "/sdk/haul.js";

/** The publication of a stream, not begun yet. */
export async function publicationOf(stream, options) {
  if (new URLSearchParams(location.search).get("transport") !== "moq") return new Publication(stream, options);
  // Most hosts never need it.
  const { MoqPublication } = await import("/sdk/moq/publish.js");
  return new MoqPublication(stream, options);
}
