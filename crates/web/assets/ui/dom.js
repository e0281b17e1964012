// Building and finding elements. Text goes in as text only, never as markup.

import { t } from "./tongue.js";

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id, which the page must have. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * A new element. `props` sets properties; `class`, `data` and names with a dash are set as attributes. Children are
 * elements, or text.
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A text that takes little room until it is tapped. */
export function folded(...children) {
  const text = el("button", { class: "folded", type: "button", "aria-expanded": "false" }, ...children);
  text.addEventListener("click", () => text.setAttribute("aria-expanded", String(text.getAttribute("aria-expanded") === "false")));
  return text;
}

/** An icon of the sprite. It only decorates: the name of a button goes into its label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/assets/theme/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Writes text only where it changes, so that a tick costs no layout and says nothing to a screen reader. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A product's picture, or a quiet surface of the same size where it has none. */
export function picture(product, size) {
  const url = product ? safeImage(product.image_url) : null;
  const image = url
    ? el("img", { class: "picture", src: url, alt: "", width: size, height: size, decoding: "async" })
    : el("span", { class: "picture empty" });
  image.style.width = image.style.height = `${size}px`;
  if (url) image.addEventListener("error", () => image.replaceWith(picture(null, size)), { once: true });
  return image;
}

/** The URL, if it is one that the page may show as a picture. */
function safeImage(text) {
  if (!text) return null;
  try {
    const url = new URL(text, location.origin);
    const allowed = url.protocol === "https:" || url.origin === location.origin || /^data:image\//.test(text);
    return allowed ? url.href : null;
  } catch {
    return null;
  }
}

/** Copies text and says on the button that it did. */
export async function copyFrom(button, text) {
  let copied = false;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    // The clipboard is for secure contexts only; selecting and copying the old way works on plain HTTP too.
    const field = el("textarea", { value: text, readOnly: true, class: "only-heard" });
    (button.closest("dialog") || document.body).append(field);
    field.select();
    copied = document.execCommand("copy");
    field.remove();
  }
  const label = button.querySelector("span") || button;
  const before = button.dataset.label || label.textContent;
  button.dataset.label = before;
  label.textContent = t(copied ? "Copied" : "Copy by hand");
  setTimeout(() => (label.textContent = before), 1_600);
}
