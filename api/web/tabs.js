/** Tabs as the WAI-ARIA pattern has them: arrow keys between tabs, one tab stop. */

import { h, uniqueId } from "./dom.js";

/**
 * @param {object} options
 * @param {string} options.label
 * @param {Array<{key: string, label: string, content: Node[]}>} options.tabs
 * @param {(key: string) => void} options.onChoose
 * @returns {{element: HTMLElement, choose: (key: string) => void}}
 */
export function tabs({ label, tabs: given, onChoose }) {
  const prefix = uniqueId("tabs");
  const buttons = given.map(({ key, label: words }) =>
    h("button", { type: "button", role: "tab", class: "tab", id: `${prefix}-${key}`, "aria-controls": `${prefix}-${key}-panel`, data: { key }, on: { click: () => onChoose(key) } }, words));
  const panels = given.map(({ key, content }) =>
    h("div", { role: "tabpanel", id: `${prefix}-${key}-panel`, "aria-labelledby": `${prefix}-${key}`, class: "tab-panel" }, content));
  const list = h("div", { role: "tablist", class: "tabs", "aria-label": label }, buttons);
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = buttons.at(to % buttons.length);
    next.focus();
    onChoose(next.dataset.key);
  });
  const choose = (key) => {
    given.forEach((tab, at) => {
      const chosen = tab.key === key;
      buttons[at].setAttribute("aria-selected", String(chosen));
      buttons[at].tabIndex = chosen ? 0 : -1;
      panels[at].hidden = !chosen;
    });
  };
  return { element: h("div", {}, list, panels), choose };
}
