// English and Chinese. English words are the keys; a test sees to it that none lacks its Chinese.

import { CHINESE } from "./chinese.js";

/** What the reader reads: the page's `lang`, or the browser's language. Products may be told in more languages than pages. */
export const wanted = new URLSearchParams(location.search).get("lang") || navigator.language || "en";

/** `en` or `zh`. */
export const tongue = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";

/** For numbers and times of day: Chinese ones where the page is Chinese, else the reader's own. */
export const locale = tongue === "zh" ? "zh-CN" : undefined;

/** The words in the reader's tongue; `{name}` in them is what `values` has of that name. */
export function t(words, values = {}) {
  const text = tongue === "zh" ? CHINESE[words] || words : words;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Marks words that stand in a table and are translated where they are shown: the test looks for these marks. */
export function phrase(words) {
  return words;
}

/** As `t`, for one thing or for several: `{n}` is their number. */
export function plural(n, one, many, values = {}) {
  return t(n === 1 ? one : many, { n: n.toLocaleString(locale), ...values });
}

const ATTRIBUTES = ["placeholder", "aria-label", "title", "alt", "data-none"];

/** Translates what the page was written with. */
export function translatePage(root = document.body) {
  document.documentElement.lang = tongue === "zh" ? "zh-Hans" : "en";
  if (tongue === "en") return;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const words = node.data.trim();
    if (words && CHINESE[words]) node.data = node.data.replace(words, CHINESE[words]);
  }
  for (const name of ATTRIBUTES) {
    for (const element of root.querySelectorAll(`[${name}]`)) {
      const words = CHINESE[element.getAttribute(name)];
      if (words) element.setAttribute(name, words);
    }
  }
}
