// How viewers get in, and how OBS gets in.

import { byId, copyFrom, el, icon } from "../ui/dom.js";
import { openSheet, toast } from "../ui/sheet.js";
import { t } from "../ui/tongue.js";
import { teamSentence } from "../ui/words.js";

export function showShare({ live, token, api }) {
  const watchUrl = `${location.origin}/watch/${encodeURIComponent(live)}`;
  const whipUrl = `${location.origin}/whip/${encodeURIComponent(live)}`;

  byId("share-open").addEventListener("click", async () => {
    byId("share-body").replaceChildren(el("p", { class: "muted" }, t("One moment")));
    openSheet(byId("share-sheet"));
    const about = await api("").catch(() => null);
    const open = Boolean(about && about.public);
    byId("share-body").replaceChildren(
      el(
        "section",
        {},
        el("h3", {}, t("For viewers")),
        copyRow(t("Watch link"), watchUrl),
        el(
          "p",
          { class: "muted small" },
          open
            ? t("This live is public: anybody with the link may watch and read. Chatting and buying needs a viewer's token.")
            : t("This live is private: the link needs a viewer's token. Your shop makes one for each customer; for a try, make one here."),
        ),
        personalLink(watchUrl, api),
      ),
      el(
        "section",
        {},
        el("h3", {}, t("From OBS")),
        el(
          "ol",
          { class: "steps" },
          el("li", {}, t("Settings → Stream, service: WHIP.")),
          el("li", {}, t("Server:"), copyRow(t("WHIP server"), whipUrl)),
          el("li", {}, t("Bearer token:"), tokenRow(token)),
          el("li", {}, t("Settings → Output: x264 or a hardware H.264 encoder, 2500 kb/s, keyframe interval 2 s, no B-frames (bframes=0).")),
          el("li", {}, t("Start streaming. End a broadcast from this page first: a live has one picture.")),
        ),
        el("p", { class: "muted small" }, t("The token lets its holder go live and sell here. Treat it like a password.")),
      ),
    );
  });
}

function copyRow(label, text) {
  const button = el("button", { class: "button", type: "button" }, icon("copy"), el("span", {}, t("Copy")));
  button.addEventListener("click", () => copyFrom(button, text));
  return el(
    "div",
    { class: "copy-row" },
    el("input", { class: "input mono", value: text, readOnly: true, "aria-label": label, on: { focus: (event) => event.target.select() } }),
    button,
  );
}

/** The token is hidden until asked for: screens are shared, and a host's screen more than others. */
function tokenRow(token) {
  const input = el("input", { class: "input mono", type: "password", value: token, readOnly: true, "aria-label": t("Host token"), data: { testid: "host-token" }, autocomplete: "off" });
  const show = el("button", { class: "button", type: "button", data: { testid: "show-token" } }, t("Show"));
  show.addEventListener("click", () => {
    const hidden = input.type === "password";
    input.type = hidden ? "text" : "password";
    show.textContent = t(hidden ? "Hide" : "Show");
  });
  const copy = el("button", { class: "button", type: "button" }, icon("copy"), el("span", {}, t("Copy")));
  copy.addEventListener("click", () => copyFrom(copy, token));
  return el("div", { class: "copy-row" }, input, show, copy);
}

function personalLink(watchUrl, api) {
  const name = el("input", { class: "input", placeholder: t("Name of the viewer"), maxLength: 40, "aria-label": t("Name of the viewer") });
  const make = el("button", { class: "button", type: "submit" }, t("Make a personal link"));
  const out = el("div", {});
  const form = el("form", { class: "personal" }, el("div", { class: "copy-row" }, name, make), out);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    make.disabled = true;
    try {
      const { token } = await api("/tokens", { method: "POST", body: { role: "viewer", name: name.value.trim() || t("Guest") } });
      out.replaceChildren(
        copyRow(t("Personal watch link"), `${watchUrl}#token=${token}`),
        el("p", { class: "muted small" }, t("One link is one person: limits per buyer count by it.")),
      );
    } catch (error) {
      toast(teamSentence(error), "bad");
    }
    make.disabled = false;
  });
  return form;
}
