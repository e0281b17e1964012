// English and Chinese. English words are the keys, so that what is not translated yet is still read.

import { CHINESE } from "./chinese.js";

const wanted = new URLSearchParams(location.search).get("lang") || navigator.language || "en";

/** `en` or `zh`. */
export const tongue = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";

/** The words in the reader's tongue. */
export function t(words) {
  return tongue === "zh" ? CHINESE[words] || words : words;
}

const ATTRIBUTES = ["placeholder", "aria-label", "title", "alt"];

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
