// Sheets (modal dialogs) and short messages.

import { byId, el } from "./dom.js";

/** Opens a sheet. */
export function openSheet(dialog) {
  if (dialog.open) return;
  dialog.showModal();
  // The newest top-layer element is on top; messages must stay readable above the sheet.
  raiseToasts();
}

export function closeSheet(dialog) {
  if (dialog.open) dialog.close();
}

/** Closes sheets by their ✕ and by a tap beside them. */
export function wireSheets() {
  for (const dialog of document.querySelectorAll("dialog.sheet")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog && !inside(dialog, event)) dialog.close();
    });
    for (const button of dialog.querySelectorAll("[data-close]")) {
      button.addEventListener("click", () => dialog.close());
    }
  }
}

function inside(dialog, { clientX, clientY }) {
  const box = dialog.getBoundingClientRect();
  return clientX >= box.left && clientX <= box.right && clientY >= box.top && clientY <= box.bottom;
}

const TOAST_MS = 4_500;
const TOASTS_MAX = 3;

/** Shows a short message: tone `plain`, `good` or `bad`. The same words twice are shown once. */
export function toast(text, tone = "plain", forMs = TOAST_MS) {
  const area = byId("toasts");
  for (const shown of area.children) if (shown.textContent === text) shown.remove();
  while (area.children.length >= TOASTS_MAX) area.firstChild.remove();
  const message = el("div", { class: "toast", data: { tone } }, text);
  area.append(message);
  raiseToasts();
  setTimeout(() => message.remove(), forMs);
}

function raiseToasts() {
  const area = byId("toasts");
  // Where there are no popovers yet, the messages are under the backdrop: dimmed, but there.
  if (!area.showPopover) return;
  area.popover = "manual";
  if (area.matches(":popover-open")) area.hidePopover();
  if (area.children.length > 0) area.showPopover();
}
