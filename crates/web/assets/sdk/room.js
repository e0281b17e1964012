// Talking in a live, in a way that a lost reply can't make somebody say the same thing twice.

import { newKey, persist } from "./shop.js";

/**
 * Says something to everybody. `clientId` stands for one message; pass the same one to repeat a message whose outcome is
 * not known. Resolves with its id.
 */
export async function say(channel, text, { replyTo, clientId = newKey(), patienceMs = 15_000 } = {}) {
  const { message_id } = await send(channel, text, { replyTo, clientId, patienceMs });
  return message_id;
}

/**
 * The same, resolving with all of the reply: `message_id`, unless it came too soon after the last to be heard, and `ticket` where
 * it entered a giveaway.
 */
export function send(channel, text, { replyTo, clientId = newKey(), patienceMs = 15_000 } = {}) {
  return persist(channel, "chat.send", { text, client_id: clientId, reply_to: replyTo }, patienceMs);
}

/**
 * Asks the host something, about `productId` where that is given. `clientId` stands for one question, as with `say`. Resolves
 * with its id.
 */
export async function ask(channel, text, { productId, clientId = newKey(), patienceMs = 15_000 } = {}) {
  const fields = { text, product_id: productId, client_id: clientId };
  const { question_id } = await persist(channel, "question.ask", fields, patienceMs);
  return question_id;
}

/**
 * Writes to the host's team, or from the team to `userId`, where nobody else reads it. `clientId` stands for one message, as
 * with `say`. Resolves with its id.
 */
export async function write(channel, text, { userId, clientId = newKey(), patienceMs = 15_000 } = {}) {
  const fields = { text, user_id: userId, client_id: clientId };
  const { message_id } = await persist(channel, "thread.send", fields, patienceMs);
  return message_id;
}

const LIKES_EVERY_MS = 400;
const LIKES_AT_ONCE = 20;
/** Likes that wait to be sent, by channel and kind. */
const waiting = new WeakMap();

/** Likes what is seen: `heart`, `laugh`, `wow`, `clap` or `fire`. Many taps are sent as one message; there is no answer. */
export function like(channel, kind = "heart") {
  let counts = waiting.get(channel);
  if (!counts) {
    counts = new Map();
    waiting.set(channel, counts);
    setTimeout(() => {
      waiting.delete(channel);
      for (const [each, count] of counts) channel.tell("like", { kind: each, count: Math.min(count, LIKES_AT_ONCE) });
    }, LIKES_EVERY_MS);
  }
  counts.set(kind, (counts.get(kind) || 0) + 1);
}

/**
 * Keeps somebody from chatting, or lets them again: `action` is `mute`, `ban`, `shadow_ban` or `restore`; `messageId` or
 * `userId` says whom. Without `durationMs` it holds until it is lifted. For host and moderators.
 */
export function moderate(channel, { action, messageId, userId, durationMs, reason }) {
  return channel.request("chat.moderate", {
    action,
    message_id: messageId,
    user_id: userId,
    duration_ms: durationMs,
    reason,
  });
}
