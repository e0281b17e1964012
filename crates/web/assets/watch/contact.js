// Whom the order goes to, where the shop needs to know it before the payment. Kept in this tab until it is closed, and on
// the device only where the buyer says so.

import { el } from "../ui/dom.js";
import { locale, t } from "../ui/tongue.js";

const KEY = "haul.contact";
/** ISO 3166-1. */
const COUNTRIES =
  "AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GT GU GW GY HK HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TG TH TJ TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW".split(" ");

/** The contact that was given last, here or on this device; null where none was. */
export function knownContact() {
  for (const store of stores()) {
    try {
      const kept = JSON.parse(store.getItem(KEY));
      if (kept && typeof kept === "object") return kept;
    } catch {
      // Not ours any more, or not readable: ask again.
    }
  }
  return null;
}

/** The fields for it. `need` is `email` or `address`, as the server says. */
export class ContactForm {
  #need;
  #inputs = {};
  #remember;

  constructor(need) {
    this.#need = need;
    const known = knownContact() || {};
    const [line1 = "", line2 = "", city = ""] = split(known.address || []);
    const input = (name, label, value, attributes) => {
      const field = el("input", { class: "input", name, value, maxLength: 200, data: { testid: `contact-${name}` }, ...attributes });
      this.#inputs[name] = field;
      return el("label", { class: "field" }, el("span", {}, label), field);
    };
    const email = (required) => input("email", t("E-mail"), known.email || "", { type: "email", autocomplete: "email", required, inputMode: "email" });
    this.#remember = el("input", { type: "checkbox", checked: keptOnDevice(), data: { testid: "contact-remember" } });
    const remember = el("label", { class: "check small" }, this.#remember, el("span", {}, t("Remember on this device")));
    const fields =
      need === "email"
        ? [email(true)]
        : [
            input("name", t("Full name"), known.name || "", { autocomplete: "name", required: true }),
            input("line1", t("Address"), line1, { autocomplete: "address-line1", required: true }),
            input("line2", t("Flat, floor (if any)"), line2, { autocomplete: "address-line2" }),
            el(
              "div",
              { class: "two" },
              input("postal", t("Postal code"), known.postal_code || "", { autocomplete: "postal-code" }),
              input("city", t("City"), city, { autocomplete: "address-level2", required: true }),
            ),
            this.#country(known.country),
            email(true),
            input("phone", t("Phone (for the courier)"), known.phone || "", { type: "tel", autocomplete: "tel", inputMode: "tel" }),
          ];
    // A form, so that browsers offer what they know, and check it.
    this.element = el(
      "form",
      { class: "contact", noValidate: false, "aria-label": t("Where it goes"), on: { submit: (event) => event.preventDefault() } },
      el("h3", {}, t(need === "email" ? "Where to write to you" : "Where it goes")),
      ...fields,
      remember,
    );
  }

  #country(known) {
    const here = (navigator.language.split("-").find((part) => /^[A-Z]{2}$/.test(part)) || "").toUpperCase();
    const names = new Intl.DisplayNames([locale || navigator.language, "en"], { type: "region" });
    const order = new Intl.Collator(locale).compare;
    const options = COUNTRIES.map((code) => ({ code, name: names.of(code) })).sort((a, b) => order(a.name, b.name));
    const select = el(
      "select",
      { class: "input", name: "country", required: true, autocomplete: "country", data: { testid: "contact-country" } },
      el("option", { value: "" }, t("Choose a country")),
      ...options.map(({ code, name }) => el("option", { value: code }, name)),
    );
    select.value = known || here;
    this.#inputs.country = select;
    return el("label", { class: "field" }, el("span", {}, t("Country")), select);
  }

  /** Whether it is complete; where it is not, the browser shows what is missing. */
  check() {
    return this.element.reportValidity();
  }

  /** The contact as the server takes it, kept for the next order. */
  take() {
    const of = (name) => (this.#inputs[name] ? this.#inputs[name].value.trim() : "");
    const contact =
      this.#need === "email"
        ? { email: of("email") }
        : {
            name: of("name"),
            email: of("email"),
            phone: of("phone"),
            address: [of("line1"), of("line2"), of("city")].filter(Boolean),
            postal_code: of("postal"),
            country: of("country"),
          };
    keep(contact, this.#remember.checked);
    return contact;
  }
}

/** Two lines or three: the last is the city. */
function split(address) {
  const lines = address.slice(0, -1);
  return [lines[0], lines.slice(1).join(", "), address.at(-1)];
}

function keep(contact, onDevice) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(contact));
    if (onDevice) localStorage.setItem(KEY, JSON.stringify(contact));
    else localStorage.removeItem(KEY);
  } catch {
    // Storage is full or forbidden: then it is typed again.
  }
}

function keptOnDevice() {
  try {
    return localStorage.getItem(KEY) !== null;
  } catch {
    return false;
  }
}

function stores() {
  try {
    return [sessionStorage, localStorage];
  } catch {
    return [];
  }
}
