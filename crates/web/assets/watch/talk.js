// The sheet in which one asks the host, and writes to the host's team in private.

import { ask as askHost, write } from "/sdk/haul.js";
import { Attempt } from "../ui/attempt.js";
import { byId, el, setText } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { openSheet, toast } from "../ui/sheet.js";
import { t } from "../ui/tongue.js";
import { sentence } from "../ui/words.js";
import { Kept } from "./kept.js";

const TOLD_MAX = 40;

/** Shows the sheet. Returns `{open(), ask(productId)}`. */
export function showTalk(room, needsToken) {
  const list = byId("question-list");
  const sheet = byId("talk-sheet");
  /** Up to when the private messages have been read. */
  const read = new Kept(room, "read");
  const unread = () => room.thread.filter(({ from_team: team, at }) => team && at > (read.value || 0)).length;
  /** What came while one was away stays marked until one has had it before one's eyes. */
  const renderUnread = () => {
    const seen = sheet.open && !byId("tab-thread").hidden;
    if (seen && room.thread.length) read.value = room.thread.at(-1).at;
    const count = unread();
    for (const mark of [byId("talk-unread"), byId("thread-unread")]) {
      mark.hidden = count === 0;
      setText(mark, count ? String(count) : "");
    }
    setText(byId("talk-unread-words"), count ? t("{n} unread private messages", { n: count }) : "");
  };
  const attempt = async (request) => {
    if (!room.you) return needsToken();
    try {
      return await request();
    } catch (error) {
      toast(sentence(error), "bad");
      return null;
    }
  };
  const ask = (type, fields) => attempt(() => room.channel.request(type, fields));
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
            "aria-pressed": String(voted.has(id)),
            disabled: state === "answered",
            data: { testid: "question-vote" },
            on: { click: async () => (await ask("question.vote", { question_id: id })) && voted.add(id) },
          },
          el("span", { "aria-hidden": "true" }, "▲ "),
          el("b", { class: "tabular" }, String(votes)),
          el("span", { class: "only-heard" }, ` ${t("I want to know too")}: ${text}`),
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
  const asking = new Attempt();
  byId("question-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = byId("question-input");
    const text = input.value.trim();
    if (!text) return;
    const productId = byId("question-product").value || undefined;
    const clientId = asking.keyOf(`${productId} ${text}`);
    if (!(await attempt(() => askHost(room.channel, text, { productId, clientId })))) return;
    asking.done();
    input.value = "";
    toast(t("Asked. You hear when the host takes it up."), "good");
  });
  /** What one has been told of one's own questions, the newest last. */
  const told = new Kept(room, "told");
  const tellOwn = ({ id, state, answer }) => {
    const news = `${id} ${state}`;
    const known = told.value || [];
    if (state === "open" || known.includes(news)) return;
    told.value = [...known, news].slice(-TOLD_MAX);
    if (state === "picked") toast(t("The host is answering your question."), "good", 8_000);
    else toast(answer ? `${t("Answered")}: ${answer}` : t("Your question was answered."), "good", 8_000);
  };
  room.channel.addEventListener("question.yours", ({ detail }) => tellOwn(detail.question));
  // Who was away hears of it when they are back.
  room.channel.addEventListener("snapshot", ({ detail }) => (detail.room.yours || []).forEach(tellOwn));

  const thread = byId("thread-list");
  renderOn(room, ["thread"], () => {
    byId("thread-none").hidden = room.thread.length > 0;
    thread.replaceChildren(
      ...room.thread.map(({ name, text, from_team: team }) =>
        el("li", { class: "thread-line", data: { team: String(team), testid: "thread-line" } }, team && el("b", { class: "small" }, name), el("p", {}, text)),
      ),
    );
    thread.scrollTop = thread.scrollHeight;
    renderUnread();
  });
  const writing = new Attempt();
  byId("thread-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = byId("thread-input");
    const text = input.value.trim();
    if (!text) return;
    if (!(await attempt(() => write(room.channel, text, { clientId: writing.keyOf(text) })))) return;
    writing.done();
    input.value = "";
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
    // What could not be scrolled while it was hidden.
    thread.scrollTop = thread.scrollHeight;
    renderUnread();
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
  sheet.addEventListener("close", renderUnread);
  return {
    open: () => {
      if (unread() > 0) show(tabs[1]);
      openSheet(sheet);
      show(tabs.find((tab) => tab.getAttribute("aria-selected") === "true"));
    },
    ask: (productId) => {
      show(tabs[0]);
      openSheet(sheet);
      byId("question-product").value = productId;
      chosen = true;
      byId("question-input").focus();
    },
  };
}
