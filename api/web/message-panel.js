/** The side panel with all that is known of one message. */

import { announce, notify } from "./announce.js";
import { messageBody } from "./body.js";
import { badge } from "./chip.js";
import { timeElement } from "./dates.js";
import { confirm, openDialog } from "./dialog.js";
import { debounce, fill, h, revise } from "./dom.js";
import { GraphQLRefused, wordsOf } from "./graphql.js";
import { icon } from "./icons.js";
import { CANCEL_MESSAGE, MESSAGE, RESEND_MESSAGE } from "./operations.js";
import { href } from "./route.js";
import { Timeline } from "./timeline.js";
import { accountKind } from "./words.js";

export class MessagePanel {
  #message = null;
  /** One key for the life of the panel: a second click, or a retry after a network error, sends once. */
  #resendKey = crypto.randomUUID();

  /**
   * @param {object} options
   * @param {import("./graphql.js").GraphQLClient} options.api
   * @param {string} options.messageId
   * @param {boolean} options.canWrite
   * @param {() => void} options.onClose
   * @param {(message: any) => void} options.onSent a message that this one was sent again as
   * @param {(message: any) => void} options.onChanged
   */
  constructor({ api, messageId, canWrite, onClose, onSent, onChanged }) {
    Object.assign(this, { api, messageId, canWrite, onSent, onChanged });
    this.timeline = new Timeline({ api, messageId });
    this.title = h("span", {}, "Message");
    this.status = h("section", { class: "panel-status", "aria-label": "Status", data: { testid: "panel-status" } });
    this.facts = h("dl", { class: "facts" });
    this.body = h("div");
    this.alert = h("div", { class: "alert bad", role: "alert", hidden: true, data: { testid: "panel-error" } });
    this.actions = h("div", { class: "dialog-foot", hidden: true });
    this.content = h(
      "div",
      { class: "dialog-body panel-body", tabindex: "0", role: "group", "aria-label": "About this message", "aria-busy": "true" },
      this.alert,
      this.status,
      this.facts,
      h("section", {}, h("h3", {}, "What happened"), this.timeline.element),
      h("section", {}, h("h3", {}, "The message"), this.body),
    );
    fill(this.status, h("span", { class: "skeleton pill" }), h("span", { class: "skeleton" }), h("span", { class: "skeleton short" }));
    const { element, close } = openDialog({
      kind: "panel",
      testid: "message-panel",
      title: this.title,
      content: [this.content, this.actions],
      onClose: () => {
        this.#refreshSoon.cancel();
        onClose();
      },
    });
    this.element = element;
    this.close = close;
    this.#load();
  }

  /** A live change of this message: the news at once, its evidence a moment later. */
  changed(message) {
    if (this.#message) {
      this.#message = { ...this.#message, ...message };
      this.#show();
    }
    this.#refreshSoon();
  }

  #refreshSoon = debounce(() => this.#load({ live: true }), 120);

  async #load({ live = false } = {}) {
    try {
      const [{ message }] = await Promise.all([this.api.request(MESSAGE, { id: this.messageId }), this.timeline.load({ live })]);
      this.content.removeAttribute("aria-busy");
      if (!message) {
        this.#fail("This message could not be found.");
        return;
      }
      const before = this.#message;
      this.#message = message;
      this.#show();
      // The body never changes: shown once, so that a live change doesn't scroll the frame back.
      if (!before) fill(this.body, messageBody(message));
      if (live && before?.status !== message.status) announce(`${message.subject}: ${message.statusLabel}`, message.id);
      this.alert.hidden = true;
    } catch (error) {
      this.content.removeAttribute("aria-busy");
      if (!this.#message) this.#fail(wordsOf(error), () => this.#load());
    }
  }

  #fail(words, again) {
    if (!this.#message) this.status.hidden = true;
    this.alert.hidden = false;
    fill(this.alert, icon("warning"), h("p", {}, words), again && h("button", { type: "button", class: "button small", on: { click: again } }, "Try again"));
  }

  #show() {
    const message = this.#message;
    const { text, nextStep } = message.explanation;
    const { failure } = message;
    this.status.hidden = false;
    this.status.dataset.status = message.status;
    revise(this.title, message.subject);
    revise(
      this.status,
      h("p", { class: "panel-status-line" }, badge(message), timeElement(message.statusAt)),
      h("p", { data: { testid: "panel-explanation" } }, text),
      nextStep && h("p", { class: "next-step", data: { testid: "panel-next-step" } }, h("strong", {}, "What to do: "), nextStep),
      failure && h(
        "div",
        { class: "failure", data: { testid: "panel-failure" } },
        h("h3", {}, "The server's reply"),
        h("p", { class: "mono" }, [failure.smtpCode, failure.enhancedCode].filter(Boolean).join(" "), " ", failure.reason),
      ),
    );
    this.#showFacts(message);
    this.#showActions(message);
  }

  #showFacts(message) {
    const row = (term, ...description) => [h("dt", {}, term), h("dd", {}, ...description)];
    const time = (term, at) => at && row(term, timeElement(at));
    revise(
      this.facts,
      row("To", message.recipient),
      row("From", message.account.name, h("span", { class: "muted" }, ` · ${accountKind(message.account)}`)),
      time("Written", message.queuedAt),
      message.status === "QUEUED" && time("Goes out", message.scheduledAt),
      time("Sent", message.sentAt),
      time("Delivered", message.deliveredAt),
      time("Opened", message.openedAt),
      time("Came back", message.notDeliveredAt),
      message.resendOf && row("Repeats", h("a", { href: href({ patient: message.patient.id, message: message.resendOf.id }) }, "an earlier message")),
    );
  }

  #showActions(message) {
    const cancels = message.status === "QUEUED";
    this.actions.hidden = !this.canWrite;
    const wanted = cancels ? "cancel" : "resend";
    // The same button stays through live changes: it may have the focus.
    if (!this.canWrite || this.actions.dataset.action === wanted) return;
    const hadFocus = this.actions.contains(document.activeElement);
    this.actions.dataset.action = wanted;
    const button = cancels
      ? h("button", { type: "button", class: "button", on: { click: () => this.#act(button, () => this.#cancel()) } }, icon("close"), "Cancel message")
      : h("button", { type: "button", class: "button", on: { click: () => this.#act(button, () => this.#resend()) } }, icon("repeat"), "Resend");
    fill(this.actions, button);
    if (hadFocus) button.focus();
  }

  async #act(button, action) {
    if (button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    this.alert.hidden = true;
    try {
      await action();
    } catch (error) {
      this.#fail(error instanceof GraphQLRefused ? wordsOf(error) : `${wordsOf(error)} Try again; it will not be sent twice.`);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  }

  async #cancel() {
    const { cancelMessage: payload } = await this.api.request(CANCEL_MESSAGE, { input: { messageId: this.messageId } });
    if (payload.errors.length > 0) this.#fail(payload.errors.map(({ message }) => message).join(" "));
    if (!payload.message) return;
    if (payload.message.status === "CANCELLED") notify("The message was cancelled");
    this.onChanged(payload.message);
    this.changed(payload.message);
  }

  async #resend() {
    const { patient, subject } = this.#message;
    const sure = await confirm({
      title: "Send this message again?",
      content: [
        h("p", {}, "“", subject, "” goes to ", h("strong", {}, patient.email), " once more, as a new message."),
        patient.emailHealth === "BOUNCED" && h("div", { class: "alert caution" }, icon("warning"), h("p", {}, "An email to this patient came back. Check the address first.")),
      ],
      yes: "Send again",
    });
    if (!sure) return;
    const { resendMessage: payload } = await this.api.request(RESEND_MESSAGE, { input: { messageId: this.messageId, idempotencyKey: this.#resendKey } });
    if (payload.errors.length > 0) this.#fail(payload.errors.map(({ message }) => message).join(" "));
    if (!payload.message) return;
    notify("Sent again: the new message is queued");
    this.onSent(payload.message);
  }
}
