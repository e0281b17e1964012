// Requests to the server's REST interface.

import { HaulError } from "./error.js";
import { parse } from "./json.js";

/**
 * Asks the server and resolves with the JSON of its answer, or null where it has none. Rejects with a `HaulError`
 * made from the problem document (RFC 9457).
 */
export async function rest(path, { method = "GET", token = null, body, headers: more = {}, base = location.origin } = {}) {
  const headers = { Accept: "application/json", ...more };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, base), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new HaulError("network", "The server can't be reached.");
  }
  if (!response.ok) throw await problem(response);
  if (response.status === 204) return null;
  return response.text().then(parse).catch(() => null);
}

/** The error that an HTTP answer stands for. */
export async function problem(response) {
  let document = {};
  try {
    document = parse(await response.text()) || {};
  } catch {
    // A proxy's page, or nothing at all: the status has to do.
  }
  const seconds = Number(response.headers.get("Retry-After"));
  const retryAfterMs = Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : undefined;
  const message = document.detail || document.title || `The server answered ${response.status}.`;
  return new HaulError(document.code || `http_${response.status}`, message, { retryAfterMs, status: response.status, why: document.why, standing: document.standing });
}
