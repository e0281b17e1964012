// What the host does with the room: a sentence, a poll, a giveaway, the question being answered.

import { byId, el, folded, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { toast } from "../ui/sheet.js";
import { everyTick, spanText } from "../ui/time.js";
import { locale, plural, t } from "../ui/tongue.js";
import { sentence } from "../ui/words.js";
import { deal } from "./deck.js";

const JOINED_SHOWN_MS = 4_000;

export function showShow(room, needsToken) {
  const ask = async (type, fields) => {
    if (!room.you) return needsToken();
    try {
      return await room.channel.request(type, fields);
    } catch (error) {
      toast(sentence(error), "bad");
      return null;
    }
  };

  renderOn(room, ["announcement"], () => {
    const bar = byId("announcement");
    bar.hidden = !room.announcement;
    const text = room.announcement ? room.announcement.text : "";
    if (bar.textContent !== text) bar.replaceChildren(folded(text));
  });

  renderOn(room, ["questions"], () => {
    const picked = room.picked();
    const card = byId("answering");
    card.hidden = !picked;
    card.replaceChildren();
    deal(card, picked ? picked.id : "");
    if (picked) card.append(el("b", {}, t("Answering now")), el("p", {}, `${picked.name}: ${picked.text}`));
  });

  showPoll(room, ask);
  showGiveaway(room, ask);

  room.channel.addEventListener("chat.sampled", ({ detail: { messages } }) =>
    toast(plural(messages, "So many write at once that your message was not shown to all.", "So many write at once that {n} of your messages were not shown to all."), "plain", 8_000));

  let fading = 0;
  room.channel.addEventListener("viewers.joined", ({ detail }) => {
    const line = byId("joined");
    const names = detail.names.join(", ");
    setText(line, t("{names} joined", { names: detail.others ? `${names} +${detail.others}` : names }));
    line.hidden = false;
    clearTimeout(fading);
    fading = setTimeout(() => (line.hidden = true), JOINED_SHOWN_MS);
  });
}

function showPoll(room, ask) {
  const card = byId("poll");
  let mine = { poll: null, option: -1 };
  let built = "";
  const options = byId("poll-options");
  const render = () => {
    const { poll } = room;
    card.hidden = !poll;
    if (!poll) return;
    deal(card, poll.id);
    if (mine.poll !== poll.id) mine = { poll: poll.id, option: -1 };
    setText(byId("poll-question"), poll.question);
    if (built !== poll.id) {
      built = poll.id;
      options.replaceChildren(
        ...poll.options.map((words, option) =>
          el(
            "button",
            {
              class: "poll-option",
              type: "button",
              data: { testid: "poll-option" },
              on: {
                click: async () => {
                  if (await ask("poll.vote", { poll_id: room.poll.id, option })) {
                    mine.option = option;
                    render();
                  }
                },
              },
            },
            el("i", {}),
            el("span", { class: "grow" }, words),
            el("span", { class: "tabular" }),
          ),
        ),
      );
    }
    const total = poll.votes.reduce((sum, votes) => sum + votes, 0);
    [...options.children].forEach((button, option) => {
      const share = total ? poll.votes[option] / total : 0;
      button.firstChild.style.transform = `scaleX(${share})`;
      setText(button.lastChild, total ? `${Math.round(share * 100)} %` : "");
      button.setAttribute("aria-pressed", String(mine.option === option));
      button.disabled = !poll.open;
    });
  };
  renderOn(room, ["poll"], render);
  everyTick(() => {
    const { poll } = room;
    if (poll) setText(byId("poll-time"), poll.open ? spanText(poll.closes_at - room.now()) : t("Closed"));
  });
}

function showGiveaway(room, ask) {
  const card = byId("giveaway");
  const button = byId("giveaway-button");
  const render = () => {
    const { giveaway } = room;
    card.hidden = !giveaway;
    if (!giveaway) return;
    const won = room.ticket && giveaway.winners.some(({ ticket }) => ticket === room.ticket);
    const claimable = won && !room.claimed && room.now() < (giveaway.claim_until || 0);
    setText(byId("giveaway-title"), giveaway.title);
    setText(byId("giveaway-time"), giveaway.open ? spanText(giveaway.closes_at - room.now()) : t("Drawn"));
    const entries = t("{n} entered", { n: giveaway.entries.toLocaleString(locale) });
    const winners = giveaway.winners.map(({ name }) => name).join(", ");
    const words = giveaway.open
      ? giveaway.word ? `${entries} · ${t("or write “{word}”", { word: giveaway.word })}` : entries
      : giveaway.winners.length ? `${t("Winners")}: ${winners}` : t("Nobody entered");
    setText(byId("giveaway-text"), words);
    setText(byId("giveaway-proof"), giveaway.seed ? `${t("Seed")} ${giveaway.seed.slice(0, 12)}…` : `${t("Sealed")} ${giveaway.commitment.slice(0, 12)}…`);
    byId("giveaway-proof").title = giveaway.seed || giveaway.commitment;
    button.hidden = !(giveaway.open || won);
    button.disabled = giveaway.open ? Boolean(room.ticket) : !claimable;
    setText(button, giveaway.open ? (room.ticket ? t("You are in") : t("Enter")) : room.claimed ? t("Claimed") : claimable ? t("You won: claim it") : t("Time is over"));
    card.dataset.won = String(Boolean(won));
    deal(card, `${giveaway.id} ${giveaway.open ? "open" : "drawn"} ${card.dataset.won}`);
  };
  button.addEventListener("click", async () => {
    const { giveaway } = room;
    if (!giveaway) return;
    if (giveaway.open) {
      const answer = await ask("giveaway.enter", { giveaway_id: giveaway.id });
      if (answer && answer.ticket) room.takeTicket(answer.ticket);
    } else if (await ask("giveaway.claim", { giveaway_id: giveaway.id })) {
      room.claimed = true;
      toast(t("Claimed. The host's team will write to you."), "good");
    }
    render();
  });
  // Whoever writes the word is in, even where so many write it that not all is shown.
  room.addEventListener("entered", ({ detail }) => toast(`${t("You are in")}: ${detail ? detail.title : ""}`, "good"));
  room.channel.addEventListener("giveaway.won", async ({ detail }) => {
    toast(`${t("You have won")}: ${detail.giveaway.title}`, "good", 10_000);
    if (room.ticket) return;
    // Entered by a word in the chat: the ticket is not known here yet. Who has entered is told theirs again.
    const answer = await ask("giveaway.enter", { giveaway_id: detail.giveaway.id });
    if (answer && answer.ticket) room.takeTicket(answer.ticket);
  });
  renderOn(room, ["giveaway"], render);
  everyTick(render);
  showEarlier(room, ask);
}

/** What one has won, and has not claimed, after the next giveaway has begun. */
function showEarlier(room, ask) {
  const card = byId("earlier");
  let shown = "";
  const render = () => {
    const mine = [...room.earlier.values()].filter(
      ({ giveaway, ticket, claimed, won }) =>
        !claimed && giveaway.claim_until > room.now() && (won || giveaway.winners.some((winner) => winner.ticket === ticket)),
    );
    const key = mine.map(({ giveaway }) => giveaway.id).join(" ");
    if (key === shown) return;
    shown = key;
    card.hidden = mine.length === 0;
    deal(card, key);
    card.replaceChildren(
      ...mine.map((won) => {
        const claim = async () => {
          if (!(await ask("giveaway.claim", { giveaway_id: won.giveaway.id }))) return;
          won.claimed = true;
          toast(t("Claimed. The host's team will write to you."), "good");
          render();
        };
        return el("li", {}, el("span", { class: "grow" }, won.giveaway.title), el("button", { class: "button primary", type: "button", data: { testid: "earlier-claim" }, on: { click: claim } }, t("Claim")));
      }),
    );
  };
  renderOn(room, ["giveaway"], render);
  everyTick(render);
}
