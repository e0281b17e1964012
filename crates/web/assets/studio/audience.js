// The host's side of the room: questions, announcements, polls, giveaways, private threads.

import { write } from "/sdk/haul.js";
import { Attempt } from "../ui/attempt.js";
import { byId, el, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { openSheet, toast } from "../ui/sheet.js";
import { clockText, everyTick, spanText } from "../ui/time.js";
import { phrase, t } from "../ui/tongue.js";
import { teamSentence } from "../ui/words.js";

const ANSWER_CHARS = 300;

export function showAudience(room) {
  const ask = async (type, fields) => {
    try {
      return await room.channel.request(type, fields);
    } catch (error) {
      toast(teamSentence(error), "bad");
      return null;
    }
  };
  showQuestions(room, ask);
  showSays(room, ask);
  showThreads(room, ask);
}

function isHost(room) {
  return Boolean(room.you && room.you.role === "host");
}

function action(words, testid, act, tone = "") {
  return el("button", { class: `button ${tone}`, type: "button", data: { testid }, on: { click: act } }, t(words));
}

function showQuestions(room, ask) {
  const list = byId("questions");
  /** What is being written as an answer, by the question: the list is made anew with every vote. */
  const answers = new Map();
  const answerField = (id, text) => {
    if (!answers.has(id)) answers.set(id, el("input", { class: "input grow", maxLength: ANSWER_CHARS, placeholder: t("Answer in writing, if you like"), "aria-label": `${t("Answer in writing, if you like")}: ${text}`, data: { testid: "question-answer" } }));
    return answers.get(id);
  };
  const doneForm = (id, text) => {
    const field = answerField(id, text);
    const form = el("form", { class: "question-done", autocomplete: "off" }, field, el("button", { class: "button primary", type: "submit", data: { testid: "question-done" } }, t("Done")));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (await ask("question.answer", { question_id: id, text: field.value.trim() || undefined })) answers.delete(id);
    });
    return form;
  };
  renderOn(room, ["questions", "products"], () => {
    const questions = room.questionList();
    const waiting = questions.filter(({ state }) => state !== "answered");
    setText(byId("questions-count"), waiting.length ? String(waiting.length) : "");
    byId("questions-none").hidden = questions.length > 0;
    for (const id of answers.keys()) if (!room.questions.has(id)) answers.delete(id);
    const typing = [...answers.values()].find((field) => field === document.activeElement);
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
            state === "picked" && action(phrase("Put back"), "question-unpick", request("question.unpick"), "quiet"),
            action(phrase("Remove"), "question-remove", request("question.remove"), "quiet"),
          ),
          state === "picked" && doneForm(id, text),
        );
      }),
    );
    if (typing && typing.isConnected) typing.focus({ preventScroll: true });
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
    // Beside one that is drawn, whose winners still have time to claim, the next may begin.
    byId("giveaway-form").hidden = Boolean(now && now.open);
    byId("giveaway-now").hidden = !now;
    byId("giveaway-none").hidden = isHost(room) || Boolean(now) || room.earlier.size > 0;
    if (!now) return;
    setText(byId("giveaway-words"), now.title);
    setText(byId("giveaway-facts"), `${t("{n} entered", { n: now.entries })} · ${now.open ? spanText(now.closes_at - room.now()) : t("Drawn")}`);
    byId("giveaway-draw").hidden = !now.open;
    setText(byId("giveaway-end"), now.open ? t("Call off") : t("Take away"));
  };
  renderOn(room, ["giveaway", "you"], () => {
    renderGiveaway();
    const winner = (prize) => ({ user_id: user, name, claimed }) =>
      el("li", { data: { testid: "giveaway-winner" } }, el("span", { class: "grow" }, [prize, name, claimed ? t("Claimed") : t("not claimed yet")].filter(Boolean).join(" · ")), action(phrase("Write"), "winner-write", () => openThread(room, ask, user, name)));
    byId("giveaway-list").replaceChildren(...room.winners.map(winner("")));
    byId("giveaway-earlier").replaceChildren(...[...room.earlier.values()].flatMap(({ giveaway: { title }, winners }) => winners.map(winner(title))));
  });
  everyTick(renderGiveaway);
}

let open = null;

function showThreads(room, ask) {
  const list = byId("threads");
  const attempt = new Attempt();
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
    try {
      await write(room.channel, text, { userId: open.user, clientId: attempt.keyOf(`${open.user} ${text}`) });
      attempt.done();
      byId("thread-input").value = "";
    } catch (error) {
      toast(teamSentence(error), "bad");
    }
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

