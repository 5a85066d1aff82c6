/** The status of a message: a shape, a word and a border of its own each, and the explanation behind it. */

import { timeElement } from "./dates.js";
import { h, revise, uniqueId } from "./dom.js";
import { icon } from "./icons.js";
import { explainBy } from "./tooltip.js";
import { STATUSES } from "./words.js";

/** @typedef {{status: string, statusLabel: string, statusAt: string, explanation: {text: string, nextStep: string | null}}} Explained */

function inside({ status, statusLabel }) {
  return [icon(status in STATUSES ? status : "info"), h("span", { class: "visually-hidden" }, "Status: "), h("span", {}, statusLabel)];
}

/**
 * The status without its explanation, where that stands beside it anyway.
 * @param {Explained} message
 */
export function badge(message) {
  return h("span", { class: "chip chip-large", data: { status: message.status, testid: "status" } }, inside(message));
}

/**
 * A chip that explains itself on hover, focus and tap.
 * @param {Explained} message
 * @returns {{element: HTMLElement, update: (message: Explained) => void}}
 */
export function chip(message) {
  const id = uniqueId("explanation");
  const button = h("button", { type: "button", class: "chip", "aria-describedby": id, data: { testid: "status" } });
  const tip = h("div", { id, class: "tip", role: "tooltip", popover: "manual", data: { testid: "explanation" } });
  const element = h("span", { class: "chip-place" }, button, tip);
  const update = (/** @type {Explained} */ latest) => {
    const { text, nextStep } = latest.explanation;
    button.dataset.status = latest.status;
    revise(button, inside(latest));
    revise(
      tip,
      h("p", { class: "tip-title" }, h("strong", {}, latest.statusLabel), " · ", timeElement(latest.statusAt)),
      h("p", {}, text),
      nextStep && h("p", { class: "next-step" }, h("strong", {}, "What to do: "), nextStep),
    );
  };
  explainBy(button, tip);
  update(message);
  return { element, update };
}
