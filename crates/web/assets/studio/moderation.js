// The rules of the chat, whom they were applied to, and by whom.

import { moderate } from "/sdk/haul.js";
import { byId, el } from "../ui/dom.js";
import { renderOn } from "../ui/room.js";
import { openSheet, toast } from "../ui/sheet.js";
import { clockText } from "../ui/time.js";
import { phrase, t } from "../ui/tongue.js";
import { teamSentence } from "../ui/words.js";

const ACTIONS = {
  mute: phrase("muted"),
  ban: phrase("banned"),
  shadow_ban: phrase("hid"),
  restore: phrase("restored"),
  delete: phrase("deleted a message of"),
  rules: phrase("changed the rules"),
  words: phrase("changed the words"),
};

export function showModeration(room) {
  const { channel } = room;
  const attempt = async (request) => {
    try {
      return await request;
    } catch (error) {
      toast(teamSentence(error), "bad");
      return null;
    }
  };

  renderOn(room, ["rules"], () => {
    byId("rules-who").value = room.rules.who;
    byId("rules-slow").value = String(room.rules.slow_ms);
    byId("rules-links").checked = room.rules.links;
    byId("rules-repeats").checked = room.rules.repeats;
  });
  byId("rules-form").addEventListener("change", () =>
    attempt(
      channel.request("chat.rules.set", {
        who: byId("rules-who").value,
        slow_ms: Number(byId("rules-slow").value),
        links: byId("rules-links").checked,
        repeats: byId("rules-repeats").checked,
      }),
    ),
  );

  const showWords = (answer) => {
    if (!answer) return;
    const chip = (word) =>
      el(
        "li",
        {},
        el(
          "button",
          {
            type: "button",
            "aria-label": `${t("Delete")}: ${word}`,
            on: { click: async () => showWords(await attempt(channel.request("chat.words", { remove: [word] }))) },
          },
          `${word} ×`,
        ),
      );
    byId("words-list").replaceChildren(...answer.words.map(chip));
  };
  byId("words-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const add = byId("words-input").value.split(/[,，、\n]/).map((word) => word.trim()).filter(Boolean);
    if (!add.length) return;
    const answer = await attempt(channel.request("chat.words", { add }));
    if (answer) byId("words-input").value = "";
    showWords(answer);
  });

  const showLog = async () => {
    const moderation = await attempt(channel.request("chat.log"));
    if (!moderation) return;
    const restore = (user) =>
      el(
        "button",
        {
          class: "button",
          type: "button",
          data: { testid: "restore" },
          on: { click: () => attempt(moderate(channel, { action: "restore", userId: user })) },
        },
        t("Lift"),
      );
    byId("standing-list").replaceChildren(
      ...moderation.standing.map(({ user_id: user, name, measure, until, reason }) => {
        const words = [name, t(ACTIONS[measure]), until ? `${t("until")} ${clockText(until)}` : "", reason || ""];
        return el("li", {}, el("span", { class: "grow" }, words.filter(Boolean).join(" · ")), restore(user));
      }),
    );
    byId("log-list").replaceChildren(
      ...moderation.log.map((entry) => {
        const words = [entry.by_name, t(ACTIONS[entry.action]), entry.user_name || ""].join(" ");
        const more = [entry.text && `“${entry.text}”`, entry.reason].filter(Boolean).join(" · ");
        return el("li", {}, el("time", { class: "tabular" }, clockText(entry.at)), el("span", { class: "grow" }, more ? `${words}: ${more}` : words));
      }),
    );
  };
  byId("rules-open").addEventListener("click", async () => {
    openSheet(byId("rules-sheet"));
    showWords(await attempt(channel.request("chat.words")));
    showLog();
  });
  channel.addEventListener("chat.measure", () => byId("rules-sheet").open && showLog());
}
