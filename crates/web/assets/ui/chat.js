// The chat of a live, as read on both pages, and the field to write in.

import { moderate, send } from "/sdk/haul.js";
import { Attempt } from "./attempt.js";
import { byId, el, folded, icon, setText } from "./dom.js";
import { isStaff, renderOn } from "./room.js";
import { toast } from "./sheet.js";
import { everyTick } from "./time.js";
import { phrase, t } from "./tongue.js";
import { sentence, teamSentence } from "./words.js";

const LINES_SHOWN_MAX = 120;
const LENGTH_MAX = 300;
// Closer to the end than this counts as reading along.
const NEAR_END_PX = 60;
const MUTE_MS = 10 * 60_000;

const BADGES = { follower: phrase("Follower"), verified_buyer: phrase("Buyer"), repeat_buyer: phrase("Regular") };

/**
 * Shows the room's lines in `list`, and follows them while the reader is at the end. A tap on a line's menu opens what can
 * be done with it; host and moderators also have the usual two beside each line.
 */
export function showChat(room, list, composer) {
  const lineOf = (line) => chatLine(room, line, composer);
  const render = () => {
    list.replaceChildren(...room.chat.slice(-LINES_SHOWN_MAX).map(lineOf));
    list.scrollTop = list.scrollHeight;
  };
  room.addEventListener("change", ({ detail }) => detail === "chat" && render());
  // Who may do more sees more beside each line.
  let staff = null;
  renderOn(room, ["you"], () => {
    if (staff !== null && staff !== isStaff(room)) render();
    staff = isStaff(room);
  });
  room.addEventListener("line", ({ detail }) => {
    const following = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
    list.append(lineOf(detail));
    while (list.children.length > LINES_SHOWN_MAX) list.firstChild.remove();
    if (following) list.scrollTop = list.scrollHeight;
  });
  room.addEventListener("gone", ({ detail }) => {
    for (const line of [...list.children]) if (detail.includes(line.dataset.id)) line.remove();
    for (const quote of list.querySelectorAll(".quote")) if (detail.includes(quote.dataset.id)) quote.remove();
  });
  // Another size (a keyboard, a card that comes) must not hide the newest line.
  if ("ResizeObserver" in window) {
    new ResizeObserver(() => (list.scrollTop = list.scrollHeight)).observe(list);
  }
  showPinned(room);
}

function chatLine(room, line, composer) {
  const { id, name, role, text, badges = [], tier, reply_to: quote } = line;
  const tag = role === "host" ? phrase("Host") : role === "moderator" ? phrase("Mod") : null;
  // A regular is a buyer too; one word says it.
  const best = badges[badges.length - 1];
  const menu = el(
    "button",
    {
      class: "line-menu",
      type: "button",
      "aria-label": t("Actions for the message of {name}", { name }),
      "aria-haspopup": "dialog",
      data: { testid: "line-menu" },
      on: { click: () => openMenu(room, line, composer) },
    },
    "⋯",
  );
  return el(
    "li",
    { class: "chat-line", data: { testid: "chat-line", role, id } },
    quote && el("span", { class: "quote", data: { id: quote.id } }, `${quote.name}: ${quote.text}`),
    el("b", {}, name),
    tag && el("span", { class: "tag" }, t(tag)),
    best && BADGES[best] && el("span", { class: "tag soft", data: { badge: best } }, t(BADGES[best])),
    tier && el("span", { class: "tag soft" }, tier),
    " ",
    el("span", { class: "said" }, text),
    isStaff(room) && role === "viewer" ? quick(room, id, name, menu) : room.you && menu,
  );
}

/** One tap each: take the message away, keep its sender from writing for ten minutes. */
function quick(room, id, name, menu) {
  const button = (label, glyph, testid, act) =>
    el(
      "button",
      { class: "line-quick", type: "button", title: t(label), "aria-label": `${t(label)}: ${name}`, data: { testid }, on: { click: act } },
      icon(glyph),
    );
  return el(
    "span",
    { class: "line-actions" },
    button(phrase("Delete"), "trash", "line-delete", () => tell(room.channel.request("chat.delete", { message_id: id }))),
    button(phrase("Mute for 10 minutes"), "mute", "line-mute", () =>
      tell(moderate(room.channel, { action: "mute", messageId: id, durationMs: MUTE_MS }), phrase("Muted for 10 minutes."))),
    menu,
  );
}

async function tell(request, done) {
  try {
    await request;
    if (done) toast(t(done), "good");
  } catch (error) {
    toast(teamSentence(error), "bad");
  }
}

function openMenu(room, line, composer) {
  const dialog = byId("line-sheet");
  const { channel } = room;
  const act = (words, testid, run, tone = "") =>
    el(
      "button",
      { class: `button wide ${tone}`, type: "button", data: { testid }, on: { click: () => (dialog.close(), run()) } },
      t(words),
    );
  const against = (words, testid, fields, done) =>
    act(words, testid, () => tell(moderate(channel, { messageId: line.id, ...fields }), done), "danger");
  const mine = room.sentIds.has(line.id);
  const staff = isStaff(room);
  const theirs = staff && !mine && line.role === "viewer";
  byId("line-said").textContent = `${line.name}: ${line.text}`;
  byId("line-actions").replaceChildren(
    ...[
      composer && act(phrase("Reply"), "line-reply", () => composer.replyTo(line)),
      staff && act(phrase("Pin above the chat"), "line-pin", () => tell(channel.request("chat.pin", { message_id: line.id }))),
      (mine || staff) && act(phrase("Delete"), "line-delete-sheet", () => tell(channel.request("chat.delete", { message_id: line.id })), "danger"),
      theirs && against(phrase("Mute for 10 minutes"), "line-mute-sheet", { action: "mute", durationMs: MUTE_MS }, phrase("Muted for 10 minutes.")),
      theirs && against(phrase("Mute for good"), "line-mute-long", { action: "mute" }, phrase("Muted.")),
      theirs && against(phrase("Hide from others without telling"), "line-shadow", { action: "shadow_ban" }, phrase("Only they and your team see what they write.")),
      theirs && against(phrase("Ban for an hour"), "line-ban-hour", { action: "ban", durationMs: 3_600_000 }, phrase("Banned for an hour.")),
      theirs && against(phrase("Ban for good"), "line-ban", { action: "ban" }, phrase("Banned.")),
    ].filter(Boolean),
  );
  dialog.showModal();
}

function showPinned(room) {
  const bar = byId("chat-pin");
  renderOn(room, ["chatPin", "you"], () => {
    const line = room.chatPin;
    bar.hidden = !line;
    if (!line) return bar.replaceChildren();
    const off = el(
      "button",
      { class: "line-quick", type: "button", "aria-label": t("Unpin the message"), on: { click: () => tell(room.channel.request("chat.unpin")) } },
      icon("close"),
    );
    return bar.replaceChildren(icon("pin"), folded(el("b", {}, line.name), " ", line.text), isStaff(room) ? off : "");
  });
}

/** Sends what is typed in `form`'s `input`; the text comes back into the field if it was refused. */
export class Composer {
  #room;
  #form;
  #input;
  #replying = null;
  #attempt = new Attempt();
  /** By the server's clock, or for good (Infinity). */
  #until = 0;
  #why = "";
  /** Whether it is a measure or a rule that holds, and not a pause. */
  #ruled = false;

  constructor(room, form, input) {
    this.#room = room;
    this.#form = form;
    this.#input = input;
    input.maxLength = LENGTH_MAX;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    input.addEventListener("keydown", (event) => event.key === "Escape" && this.replyTo(null));
    renderOn(room, ["rules", "you"], () => this.#onRules());
    everyTick(() => this.#tick());
  }

  /** The next message answers `line`; null: it answers none. */
  replyTo(line) {
    this.#replying = line;
    const note = byId("replying");
    note.hidden = !line;
    note.replaceChildren();
    if (!line) return;
    const cancel = el(
      "button",
      { class: "line-quick", type: "button", "aria-label": t("Do not reply"), on: { click: () => this.replyTo(null) } },
      icon("close"),
    );
    note.append(el("span", { class: "grow" }, `↩ ${line.name}: ${line.text}`), cancel);
    this.#input.focus();
  }

  async #send() {
    const input = this.#input;
    const text = input.value.trim();
    if (!text) return;
    const replying = this.#replying;
    input.value = "";
    try {
      const reply = await send(this.#room.channel, text, {
        clientId: this.#attempt.keyOf(text),
        replyTo: replying ? replying.id : undefined,
      });
      this.#room.onSaid(reply);
      this.#attempt.done();
      this.replyTo(null);
      const { slow_ms: slow } = this.#room.rules;
      if (slow > 0 && !isStaff(this.#room)) this.#hold(this.#room.now() + slow, t("Slow mode"));
    } catch (error) {
      if (!input.value) input.value = text;
      if (error.code === "rate_limited" || error.code === "rejected") this.#attempt.done();
      if (error.code === "rate_limited" && error.retryAfterMs > 1_000) {
        this.#hold(this.#room.now() + error.retryAfterMs, t("Wait a moment"));
      }
      toast(sentence(error), "bad");
    }
  }

  #onRules() {
    const { you, rules } = this.#room;
    const standing = you && !isStaff(this.#room) ? you.standing : null;
    const closed = you && !isStaff(this.#room) && closedTo(this.#room);
    if (standing) this.#hold(standing.until || Infinity, standing.reason ? `${t("Muted")}: ${standing.reason}` : t("Muted"));
    else if (closed) this.#hold(Infinity, t(closed));
    else if (this.#ruled) this.#hold(0, "");
    this.#ruled = Boolean(standing || closed);
  }

  #hold(until, why) {
    this.#until = until;
    this.#why = why;
    this.#tick();
  }

  #tick() {
    const left = this.#until - this.#room.now();
    const held = left > 0;
    const seconds = Number.isFinite(left) ? Math.ceil(left / 1000) : 0;
    const words = held ? (seconds ? `${this.#why} · ${t("{n} s", { n: seconds })}` : this.#why) : this.#input.dataset.words;
    this.#input.dataset.words ??= this.#input.placeholder;
    if (words !== undefined && this.#input.placeholder !== words) this.#input.placeholder = words;
    // One may write on while a pause runs, and not where there is nothing to wait for.
    const closed = held && !seconds;
    if (this.#input.readOnly !== closed) this.#input.readOnly = closed;
    const button = this.#form.querySelector("button[type=submit]");
    if (button.disabled !== held) button.disabled = held;
  }
}

const CLOSED = {
  followers: phrase("Only followers of the shop write now"),
  buyers: phrase("Only those who bought here write now"),
  staff: phrase("Only the host's team writes now"),
};

/** Why the rules let a viewer not write, or null. */
function closedTo(room) {
  const may = { everyone: true, followers: room.follower, buyers: room.hasBought() };
  return may[room.rules.who] ? null : CLOSED[room.rules.who] || null;
}

/** What the rules say to those who read, in a word; empty where there is nothing to say. */
export function rulesText(rules) {
  const parts = [];
  if (rules.slow_ms > 0) parts.push(`${t("Slow mode")} ${t("{n} s", { n: Math.round(rules.slow_ms / 1000) })}`);
  if (rules.who === "followers") parts.push(t("Followers only"));
  if (rules.who === "buyers") parts.push(t("Buyers only"));
  if (rules.who === "staff") parts.push(t("Only the host's team writes now"));
  return parts.join(" · ");
}

/** Shows what the rules say above the field. */
export function showRules(room) {
  const note = byId("chat-rules");
  renderOn(room, ["rules"], () => {
    const text = rulesText(room.rules);
    note.hidden = !text;
    setText(note, text);
  });
}
