/** Words for screen readers about what changed on the page, and short notices for everybody. */

import { debounce, h } from "./dom.js";

/** What waits to be said, by what it is about. */
const waiting = new Map();

const speak = debounce(() => {
  const words = [...waiting.values()].join(". ");
  waiting.clear();
  // While a modal dialog is open the rest of the page is inert, its live regions too: speak inside the dialog as well.
  const regions = [document.getElementById("announcer"), [...document.querySelectorAll("dialog[open] > [role=status]")].at(-1)];
  for (const region of regions) if (region) region.textContent = words;
}, 200);

/**
 * Says something politely: it waits until the screen reader has finished. Several at once are said together.
 * @param {string} words
 * @param {string} [about] of several about the same thing only the last is said
 */
export function announce(words, about = words) {
  waiting.set(about, words);
  speak();
}

/** Puts the notice above a dialog that has opened since. */
export function raiseNotice() {
  const notice = document.querySelector(".notice");
  notice?.hidePopover();
  notice?.showPopover();
}

/**
 * Shows a short notice at the foot of the page and says it.
 * @param {string} words
 */
export function notify(words) {
  document.querySelector(".notice")?.remove();
  const notice = h("div", { class: "notice", "aria-hidden": "true", popover: "manual", data: { testid: "notice" } }, words);
  document.body.append(notice);
  notice.showPopover();
  setTimeout(() => notice.remove(), 5000);
  announce(words);
}
