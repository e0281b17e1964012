// Which live this page is about, and with whose token.

/** The live's id, from a path such as `/watch/{live}`. */
export const liveId = decodeURIComponent(location.pathname.split("/")[2] || "");

const SLOT = `haul.token.${liveId}`;

/**
 * The token: from the fragment, then from this tab's storage. The fragment is cleared at once, so that the token
 * doesn't end in a screenshot, a bookmark or a copied address.
 */
export function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  if (given) {
    fragment.delete("token");
    const rest = fragment.toString();
    history.replaceState(history.state, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
    keepToken(given);
    return given;
  }
  try {
    return sessionStorage.getItem(SLOT);
  } catch {
    return null;
  }
}

export function keepToken(token) {
  try {
    sessionStorage.setItem(SLOT, token);
  } catch {
    // Storage may be off. The token then lasts as long as the page.
  }
}

export function forgetToken() {
  try {
    sessionStorage.removeItem(SLOT);
  } catch {
    // Nothing was kept.
  }
}

/** The origin of the page that shows this one in a frame and said so, or null. */
export const embedder = parent === window ? null : new URLSearchParams(location.hash.slice(1)).get("origin");

/** Tells the page that shows this one in a frame what happened here. */
export function tellEmbedder(type, detail) {
  if (embedder) parent.postMessage({ source: "haul", type, detail }, embedder);
}

/** What a token claims, unchecked: only for telling people what is wrong with it. Null where it can't be read. */
export function claims(token) {
  try {
    const body = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(body), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/** Whether a token ran out, by this device's clock. */
export function expired(token) {
  const claimed = claims(token);
  return Boolean(claimed && typeof claimed.exp === "number" && claimed.exp * 1000 < Date.now());
}
