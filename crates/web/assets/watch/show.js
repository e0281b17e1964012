// What the host does with the room: a sentence, a poll, a giveaway, the question being answered.

import { byId, el, folded, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { openSheet, toast } from "../ui/sheet.js";
import { everyTick, spanText } from "../ui/time.js";
import { locale, t } from "../ui/tongue.js";
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
  room.channel.addEventListener("giveaway.won", async ({ detail }) => {
    toast(`${t("You have won")}: ${detail.giveaway.title}`, "good", 10_000);
    if (room.ticket) return;
    // Entered by a word in the chat: the ticket is not known here yet. Who has entered is told theirs again.
    const answer = await ask("giveaway.enter", { giveaway_id: detail.giveaway.id });
    if (answer && answer.ticket) room.takeTicket(answer.ticket);
  });
  renderOn(room, ["giveaway"], render);
  everyTick(render);
}

/** The sheet with questions, and the private thread with the host's team. Returns `{open(), ask(productId)}`. */
export function showTalk(room, needsToken) {
  const list = byId("question-list");
  const ask = async (type, fields) => {
    if (!room.you) return needsToken();
    try {
      return await room.channel.request(type, fields);
    } catch (error) {
      toast(sentence(error), "bad");
      return null;
    }
  };
  const voted = new Set();
  // What it is about is what is shown, unless somebody says otherwise.
  let chosen = false;
  const renderQuestions = () => {
    const questions = room.questionList();
    byId("question-none").hidden = questions.length > 0;
    list.replaceChildren(
      ...questions.map((question) => {
        const { id, name, text, votes, state, answer } = question;
        const product = question.product_id && room.product(question.product_id);
        const vote = el(
          "button",
          {
            class: "vote",
            type: "button",
            "aria-label": `${t("I want to know too")}: ${text}`,
            "aria-pressed": String(voted.has(id)),
            disabled: state === "answered",
            data: { testid: "question-vote" },
            on: { click: async () => (await ask("question.vote", { question_id: id })) && voted.add(id) },
          },
          "▲ ",
          el("b", { class: "tabular" }, String(votes)),
        );
        const about = [name, product && product.title, state === "picked" && t("Answering now"), state === "answered" && t("Answered")];
        return el(
          "li",
          { class: "question", data: { testid: "question", state } },
          el("div", { class: "grow" }, el("p", {}, text), answer && el("p", { class: "answer" }, answer), el("p", { class: "small muted" }, about.filter(Boolean).join(" · "))),
          vote,
        );
      }),
    );
    const select = byId("question-product");
    const before = select.value;
    select.replaceChildren(el("option", { value: "" }, t("About the live")), ...room.products.map(({ id, title }) => el("option", { value: id }, title)));
    select.value = chosen && room.product(before) ? before : room.pin ? room.pin.product_id : "";
  };
  renderOn(room, ["questions", "products", "pin"], renderQuestions);
  byId("question-product").addEventListener("change", () => (chosen = true));
  byId("question-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = byId("question-input");
    const text = input.value.trim();
    if (!text) return;
    const answer = await ask("question.ask", { text, product_id: byId("question-product").value || undefined });
    if (!answer) return;
    input.value = "";
    toast(t("Asked. You hear when the host takes it up."), "good");
  });
  room.channel.addEventListener("question.yours", ({ detail }) => {
    if (detail.question.state === "picked") toast(t("The host is answering your question."), "good", 8_000);
    if (detail.question.state === "answered") toast(detail.question.answer ? `${t("Answered")}: ${detail.question.answer}` : t("Your question was answered."), "good", 8_000);
  });

  const thread = byId("thread-list");
  renderOn(room, ["thread"], () => {
    byId("thread-none").hidden = room.thread.length > 0;
    thread.replaceChildren(
      ...room.thread.map(({ name, text, from_team: team }) =>
        el("li", { class: "thread-line", data: { team: String(team), testid: "thread-line" } }, team && el("b", { class: "small" }, name), el("p", {}, text)),
      ),
    );
    thread.scrollTop = thread.scrollHeight;
  });
  byId("thread-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = byId("thread-input");
    const text = input.value.trim();
    if (!text) return;
    if (await ask("thread.send", { text })) input.value = "";
  });
  room.channel.addEventListener("thread.message", ({ detail }) => {
    if (detail.message.from_team && !byId("talk-sheet").open) toast(`${detail.message.name}: ${detail.message.text}`, "plain", 8_000);
  });
  const tabs = [...document.querySelectorAll("[data-tab]")];
  const show = (tab) => {
    for (const other of tabs) {
      const on = other === tab;
      other.setAttribute("aria-selected", String(on));
      other.tabIndex = on ? 0 : -1;
      byId(other.dataset.tab).hidden = !on;
    }
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", ({ key }) => {
      if (key !== "ArrowRight" && key !== "ArrowLeft") return;
      const next = tabs[(i + (key === "ArrowRight" ? 1 : tabs.length - 1)) % tabs.length];
      show(next);
      next.focus();
    });
  });
  const sheet = byId("talk-sheet");
  return {
    open: () => openSheet(sheet),
    ask: (productId) => {
      show(tabs[0]);
      openSheet(sheet);
      byId("question-product").value = productId;
      chosen = true;
      byId("question-input").focus();
    },
  };
}
