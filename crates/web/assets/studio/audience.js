// The host's side of the room: questions, announcements, polls, giveaways, private threads.

import { byId, el, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { openSheet, toast } from "../ui/sheet.js";
import { clockText, everyTick, spanText } from "../ui/time.js";
import { phrase, t } from "../ui/tongue.js";
import { sentence } from "../ui/words.js";

export function showAudience(room) {
  const ask = async (type, fields) => {
    try {
      return await room.channel.request(type, fields);
    } catch (error) {
      toast(sentence(error), "bad");
      return null;
    }
  };
  showQuestions(room, ask);
  showSays(room, ask);
  showThreads(room, ask);
}

function action(words, testid, act, tone = "") {
  return el("button", { class: `button ${tone}`, type: "button", data: { testid }, on: { click: act } }, t(words));
}

function showQuestions(room, ask) {
  const list = byId("questions");
  renderOn(room, ["questions", "products"], () => {
    const questions = room.questionList();
    const waiting = questions.filter(({ state }) => state !== "answered");
    setText(byId("questions-count"), waiting.length ? String(waiting.length) : "");
    byId("questions-none").hidden = questions.length > 0;
    list.replaceChildren(
      ...questions.map(({ id, name, text, votes, state, answer, product_id: about }) => {
        const product = about && room.product(about);
        const request = (type) => () => ask(type, { question_id: id });
        const facts = [name, `▲ ${votes}`, product && product.title, state === "answered" && t("Answered")];
        return el(
          "li",
          { class: "question", data: { testid: "question", state } },
          el("div", { class: "grow" }, el("p", {}, text), answer && el("p", { class: "answer" }, answer), el("p", { class: "small muted" }, facts.filter(Boolean).join(" · "))),
          el(
            "div",
            { class: "question-actions" },
            state === "open" && action(phrase("Answer"), "question-pick", request("question.pick"), "primary"),
            state === "picked" && action(phrase("Done"), "question-done", request("question.answer"), "primary"),
            action(phrase("Remove"), "question-remove", request("question.remove"), "quiet"),
          ),
        );
      }),
    );
  });
}

function showSays(room, ask) {
  byId("announce-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await ask("announce", { text: byId("announce-text").value })) byId("announce-text").value = "";
  });
  byId("announce-clear").addEventListener("click", () => ask("announce", {}));
  renderOn(room, ["announcement"], () => {
    byId("announce-now").hidden = !room.announcement;
    setText(byId("announce-words"), room.announcement ? room.announcement.text : "");
  });

  byId("poll-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const options = byId("poll-answers").value.split(/[\n,，、]/).map((words) => words.trim()).filter(Boolean);
    const opened = await ask("poll.open", {
      question: byId("poll-text").value,
      options,
      duration_ms: Number(byId("poll-minutes").value) * 60_000,
    });
    if (opened) event.target.reset();
  });
  byId("poll-end").addEventListener("click", () => room.poll && ask("poll.close", { poll_id: room.poll.id }));
  renderOn(room, ["poll"], () => {
    const { poll } = room;
    byId("poll-form").hidden = Boolean(poll);
    byId("poll-now").hidden = !poll;
    if (!poll) return;
    setText(byId("poll-words"), poll.question);
    const total = Math.max(1, poll.votes.reduce((sum, votes) => sum + votes, 0));
    byId("poll-result").replaceChildren(
      ...poll.options.map((words, i) => {
        const bar = el("i", {});
        bar.style.transform = `scaleX(${poll.votes[i] / total})`;
        return el("li", { data: { testid: "poll-result" } }, el("span", { class: "grow" }, words), el("b", { class: "tabular" }, String(poll.votes[i])), el("span", { class: "meter" }, bar));
      }),
    );
    setText(byId("poll-end"), poll.open ? t("Close the poll") : t("Take away"));
  });

  byId("giveaway-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const started = await ask("giveaway.start", {
      title: byId("giveaway-prize").value,
      word: byId("giveaway-word").value || undefined,
      winners: Number(byId("giveaway-winners").value),
      duration_ms: Number(byId("giveaway-minutes").value) * 60_000,
      claim_ms: 24 * 3_600_000,
    });
    if (started) event.target.reset();
  });
  const giveaway = (type) => () => room.giveaway && ask(type, { giveaway_id: room.giveaway.id });
  byId("giveaway-draw").addEventListener("click", giveaway("giveaway.draw"));
  byId("giveaway-end").addEventListener("click", giveaway("giveaway.end"));
  const renderGiveaway = () => {
    const { giveaway: now } = room;
    byId("giveaway-form").hidden = Boolean(now);
    byId("giveaway-now").hidden = !now;
    if (!now) return;
    setText(byId("giveaway-words"), now.title);
    setText(byId("giveaway-facts"), `${t("{n} entered", { n: now.entries })} · ${now.open ? spanText(now.closes_at - room.now()) : t("Drawn")}`);
    byId("giveaway-draw").hidden = !now.open;
    setText(byId("giveaway-end"), now.open ? t("Call off") : t("Take away"));
  };
  renderOn(room, ["giveaway"], () => {
    renderGiveaway();
    byId("giveaway-list").replaceChildren(
      ...room.winners.map(({ user_id: user, name, claimed }) =>
        el("li", { data: { testid: "giveaway-winner" } }, el("span", { class: "grow" }, `${name} · ${claimed ? t("Claimed") : t("not claimed yet")}`), action(phrase("Write"), "winner-write", () => openThread(room, ask, user, name))),
      ),
    );
  });
  everyTick(renderGiveaway);
}

let open = null;

function showThreads(room, ask) {
  const list = byId("threads");
  renderOn(room, ["threads"], () => {
    setText(byId("threads-count"), room.threads.length ? String(room.threads.length) : "");
    byId("threads-none").hidden = room.threads.length > 0;
    list.replaceChildren(
      ...room.threads.map(({ user_id: user, user_name: name, last }) =>
        el(
          "li",
          {},
          el(
            "button",
            { class: "thread-row", type: "button", data: { testid: "thread-row" }, on: { click: () => openThread(room, ask, user, name) } },
            el("b", {}, name),
            el("span", { class: "small muted" }, `${clockText(last.at)} · ${last.text}`),
          ),
        ),
      ),
    );
    if (open && byId("thread-sheet").open) openThread(room, ask, open.user, open.name);
  });
  byId("thread-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = byId("thread-input").value.trim();
    if (!text || !open) return;
    if (await ask("thread.send", { text, user_id: open.user })) byId("thread-input").value = "";
  });
  byId("thread-sheet").addEventListener("close", () => (open = null));
}

async function openThread(room, ask, user, name) {
  open = { user, name };
  setText(byId("thread-heading"), name);
  const answer = await ask("thread.read", { user_id: user });
  if (!answer || !open || open.user !== user) return;
  const list = byId("thread-list");
  list.replaceChildren(
    ...answer.messages.map(({ name: by, text, from_team: team }) =>
      el("li", { class: "thread-line", data: { team: String(team) } }, el("b", { class: "small" }, by), el("p", {}, text)),
    ),
  );
  openSheet(byId("thread-sheet"));
  list.scrollTop = list.scrollHeight;
}

