// Who the viewer is: a guest who may only read, a guest with a name, or a customer with the shop's link.

import { rest } from "/sdk/haul.js";
import { byId } from "../ui/dom.js";
import { toast } from "../ui/sheet.js";
import { spanText } from "../ui/time.js";
import { phrase, t } from "../ui/tongue.js";
import { keepToken, liveId } from "../ui/visit.js";
import { sentence } from "../ui/words.js";

const LIVE = `/v1/lives/${encodeURIComponent(liveId)}`;
const ASK_AGAIN_MS = 5_000;

/** Why a name won't do, where other words than a message's say it better. */
const NAME_WHY = {
  word: phrase("A word in this name may not be used here. Choose another."),
  link: phrase("A name can't have a link in it. Choose another."),
  marks: phrase("This name has too many marks over one letter. Choose another."),
};

/** Shows the field that fits. `ask()` leads somebody without a token to it; `render()` looks again. */
export function showEntrance(room, { hasToken, onToken }) {
  const composer = byId("composer");
  const guest = byId("guest");
  const closed = byId("no-token");
  const name = byId("guest-name");
  let guests = null;

  const render = () => {
    composer.hidden = !hasToken();
    guest.hidden = hasToken() || guests !== true;
    closed.hidden = hasToken() || guests !== false;
  };

  const look = async () => {
    if (hasToken()) return;
    try {
      guests = Boolean((await rest(LIVE)).guests);
    } catch (error) {
      // A live that is not there yet may come; one that is private stays closed to guests.
      if (error.status === 401 || error.status === 403) guests = false;
      else setTimeout(look, ASK_AGAIN_MS);
    }
    render();
  };

  guest.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wanted = name.value.trim();
    if (!wanted) {
      name.focus();
      toast(t("Choose a name first."));
      return;
    }
    const button = byId("guest-join");
    button.disabled = true;
    try {
      const { token } = await rest(`${LIVE}/guests`, { method: "POST", body: { name: wanted } });
      keepToken(token);
      onToken(token);
      render();
      toast(t("Welcome, {name}.", { name: wanted }), "good");
    } catch (error) {
      toast(refusal(error), "bad");
    } finally {
      button.disabled = false;
    }
  });

  render();
  look();
  return {
    render: () => {
      render();
      look();
    },
    ask: () => {
      if (guests) {
        name.focus();
        toast(t("Join with a name first, then it's yours."));
      } else {
        toast(t("To chat and buy, open the link from the shop."));
      }
    },
  };
}

/** Why a guest may not come in, or not by this name. */
function refusal(error) {
  if (NAME_WHY[error.why]) return t(NAME_WHY[error.why]);
  if (error.why === "guests") return t("Too many guests came from your network. Try again in {span}, or ask the shop for a link of your own.", { span: spanText(error.retryAfterMs) });
  return error.code === "bad_request" ? t("This name can't be used. Choose another.") : sentence(error);
}
