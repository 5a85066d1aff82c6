/** One message in the list. Its parts are updated in place, so that focus and open explanations stay. */

import { chip } from "./chip.js";
import { timeElement } from "./dates.js";
import { h, revise } from "./dom.js";
import { icon } from "./icons.js";
import { href } from "./route.js";
import { accountKind, NEEDS_ATTENTION } from "./words.js";

export class MessageRow {
  /**
   * @param {any} message
   * @param {string} patientId
   */
  constructor(message, patientId) {
    this.chip = chip(message);
    this.link = h("a", { class: "message-link", href: href({ patient: patientId, message: message.id }), data: { testid: "message-subject" } });
    this.account = h("span", { class: "message-account" });
    this.hint = h("p", { class: "message-hint" });
    this.time = h("span", { class: "message-time" });
    this.element = h(
      "li",
      { class: "message", data: { testid: "message" } },
      this.chip.element,
      h("div", { class: "message-words" }, h("h2", { class: "message-subject" }, this.link), this.account, this.hint),
      this.time,
    );
    this.element.addEventListener("animationend", () => this.element.classList.remove("changed"));
    this.show(message);
  }

  /** @param {any} message */
  update(message) {
    this.chip.update(message);
    this.show(message);
  }

  /** Draws the eye for a moment; the style sheet stills it for people who prefer less motion. */
  highlight() {
    this.element.classList.remove("changed");
    void this.element.offsetWidth;
    this.element.classList.add("changed");
  }

  show(message) {
    this.message = message;
    this.queuedAt = Date.parse(message.queuedAt);
    this.element.dataset.status = message.status;
    this.element.dataset.messageId = message.id;
    revise(this.link, message.subject);
    revise(
      this.account,
      h("span", { data: { testid: "message-account" } }, message.account.name),
      h("span", { class: "muted" }, ` · ${accountKind(message.account)}`),
      message.resendOf && h("span", { class: "tag" }, icon("repeat"), "Sent again"),
    );
    const { text, nextStep } = message.explanation;
    const attention = NEEDS_ATTENTION.includes(message.status);
    this.hint.hidden = !attention;
    revise(this.hint, attention && [h("strong", {}, "What to do: "), nextStep || text]);
    const waits = message.status === "QUEUED" && message.scheduledAt;
    const at = waits ? message.scheduledAt : (message.sentAt ?? message.queuedAt);
    revise(this.time, waits && h("span", { class: "muted" }, "Goes out "), timeElement(at));
  }
}
