// Buying, in a way that a lost reply can't make a buyer pay twice or lose what they won.

import { HaulError, pause } from "./error.js";

// Outcomes that are unknown rather than no: asking again with the same key tells the truth.
const UNKNOWN = new Set(["disconnected", "timeout", "pending"]);

/** A fresh idempotency key. (`crypto.randomUUID` exists only in secure contexts.) */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Sets units aside. `key` stands for one attempt to buy; pass the same one to repeat an attempt whose outcome is not
 * known. `lines`, such as `[{ line: 0, quantity: 1 }, { line: 2, quantity: 1 }]`, instead of `quantity` asks for several
 * lines of the sale, all of them or none. `coupon` is a code: a use of it is set aside too, or nothing is. Resolves with
 * the hold; in a sale that is drawn later, it is `entered`.
 */
export async function hold(channel, { saleId, quantity = 1, lines, coupon, key = newKey(), patienceMs = 15_000 }) {
  const units = lines ? { lines } : { quantity };
  const { hold } = await persist(channel, "hold", { sale_id: saleId, ...units, coupon, key }, patienceMs);
  return hold;
}

/**
 * Waits in line for units that are set aside for others, in a sale with `offer_ms`. Resolves with a hold: `waiting` with its
 * `position`, or `held` at once where units are free. The same key asks for the position again.
 */
export async function wait(channel, { saleId, line = 0, quantity = 1, key = newKey(), patienceMs = 15_000 }) {
  const { hold } = await persist(channel, "wait", { sale_id: saleId, line, quantity, key }, patienceMs);
  return hold;
}

/**
 * Goes to pay for a hold. Resolves with `{order, hold, pay_url}`; repeating it is safe. `coupon`: a code, where the hold
 * has none, with its first checkout. `ref` says whose doing it is.
 */
export function checkout(channel, { saleId, holdId, coupon, ref, contact, patienceMs = 15_000 }) {
  return persist(channel, "checkout", { sale_id: saleId, hold_id: holdId, coupon, ref, contact }, patienceMs);
}

/** Says that a product was tapped, so that it is counted for the product and for whose `ref` it was under. Never fails. */
export async function click(channel, productId, { ref } = {}) {
  try {
    await channel.request("click", { product_id: productId, ref });
  } catch {
    // A click that was not counted is nothing that a buyer should hear of.
  }
}

/** Gives a hold up. Resolves with the hold as it is now; repeating it is safe. */
export async function cancel(channel, { saleId, holdId, patienceMs = 8_000 }) {
  const { hold } = await persist(channel, "hold.cancel", { sale_id: saleId, hold_id: holdId }, patienceMs);
  return hold;
}

/** Repeats a request that is safe to repeat until its outcome is known or `patienceMs` is over. */
export async function persist(channel, type, fields, patienceMs) {
  const end = Date.now() + patienceMs;
  for (;;) {
    try {
      return await channel.request(type, fields, { timeoutMs: 5_000 });
    } catch (error) {
      const left = end - Date.now();
      if (!UNKNOWN.has(error.code) || left <= 0) throw error;
      await pause(Math.min(left, error.retryAfterMs || 600));
      if (channel.state !== "open") await reopened(channel, end - Date.now());
    }
  }
}

function reopened(channel, patienceMs) {
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer);
      channel.removeEventListener("snapshot", done);
      resolve();
    };
    const timer = setTimeout(() => {
      channel.removeEventListener("snapshot", done);
      reject(new HaulError("disconnected", "the connection is lost"));
    }, Math.max(0, patienceMs));
    channel.addEventListener("snapshot", done);
    channel.retryNow();
  });
}
