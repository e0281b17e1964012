// The chat of a live, as read on both pages, and the field to write in.

import { el } from "./dom.js";
import { toast } from "./sheet.js";
import { sentence } from "./words.js";

const LINES_SHOWN_MAX = 120;
const LENGTH_MAX = 300;
// Closer to the end than this counts as reading along.
const NEAR_END_PX = 60;

/** Shows the room's lines in `list`, and follows them while the reader is at the end. */
export function showChat(room, list) {
  const render = () => {
    list.replaceChildren(...room.chat.slice(-LINES_SHOWN_MAX).map(chatLine));
    list.scrollTop = list.scrollHeight;
  };
  room.addEventListener("change", ({ detail }) => detail === "chat" && render());
  room.addEventListener("line", ({ detail }) => {
    const following = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
    list.append(chatLine(detail));
    while (list.children.length > LINES_SHOWN_MAX) list.firstChild.remove();
    if (following) list.scrollTop = list.scrollHeight;
  });
  // Another size (a keyboard, a card that comes) must not hide the newest line.
  if ("ResizeObserver" in window) {
    new ResizeObserver(() => (list.scrollTop = list.scrollHeight)).observe(list);
  }
}

function chatLine({ name, role, text }) {
  const tag = role === "host" ? "Host" : role === "moderator" ? "Mod" : null;
  return el(
    "li",
    { class: "chat-line", data: { testid: "chat-line", role } },
    el("b", {}, name),
    tag && el("span", { class: "tag" }, tag),
    " ",
    el("span", { class: "said" }, text),
  );
}

/** Sends what is typed in `form`'s `input`; the text comes back into the field if it was refused. */
export function wireComposer(channel, form, input) {
  input.maxLength = LENGTH_MAX;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    input.value = "";
    try {
      await channel.request("chat.send", { text });
    } catch (error) {
      if (!input.value) input.value = text;
      toast(sentence(error), "bad");
    }
  });
}
