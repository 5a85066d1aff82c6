/** The dialog in which staff write to a patient. */

import { notify } from "./announce.js";
import { exact, timeZone, toInstant, toLocal } from "./dates.js";
import { confirm, openDialog } from "./dialog.js";
import { fill, h } from "./dom.js";
import { field, formAlert, onSubmit, showAlert, showErrors } from "./form.js";
import { Unreachable, wordsOf } from "./graphql.js";
import { icon } from "./icons.js";
import { SEND_MESSAGE, SENDING_ACCOUNTS } from "./operations.js";
import { accountKind } from "./words.js";

const required = (name, message) => ({ field: name, message, code: "REQUIRED" });

export class Compose {
  /** One key for what is written here: a double click, or a retry after a network error, sends once. */
  #key = crypto.randomUUID();
  #accounts = [];

  /**
   * @param {object} options
   * @param {import("./graphql.js").GraphQLClient} options.api
   * @param {any} options.patient
   * @param {() => number} options.tick
   * @param {(message: any, askedAt: number) => void} options.onSent
   */
  constructor({ api, patient, tick, onSent }) {
    Object.assign(this, { api, patient, tick, onSent });
    this.account = h("select", { on: { change: () => this.#hintAccount() } }, h("option", { value: "" }, "Loading…"));
    this.accountHint = h("span");
    this.subject = h("input", { type: "text", autocomplete: "off", required: true });
    this.text = h("textarea", { rows: "7", required: true });
    this.later = h("input", { type: "checkbox", on: { change: () => this.#toggleLater() } });
    this.sendAt = h("input", { type: "datetime-local", on: { input: () => this.#hintTime() } });
    this.timeHint = h("span");
    this.timeField = field({ name: "sendAt", label: `Date and time (${timeZone()})`, control: this.sendAt, hint: this.timeHint });
    this.timeField.hidden = true;
    this.submit = h("button", { type: "submit", class: "button primary" }, icon("SENT"), h("span", {}, "Send"));
    this.form = this.#build();
    onSubmit(this.form, () => this.#send());
    const { close } = openDialog({
      title: `New message to ${patient.name}`,
      testid: "compose",
      content: [this.form],
      mayClose: () => this.#mayClose(),
    });
    this.close = close;
    this.#hintTime();
    this.subject.focus();
    this.#loadAccounts();
  }

  #build() {
    return h(
      "form",
      { class: "dialog-form", novalidate: true },
      h(
        "div",
        { class: "dialog-body stack" },
        this.patient.emailHealth === "BOUNCED" && h(
          "div",
          { class: "alert caution", data: { testid: "bounced-warning" } },
          icon("warning"),
          h("p", {}, h("strong", {}, "An email to this address came back. "), "Check ", h("strong", {}, this.patient.email), " with the patient before you send another one."),
        ),
        formAlert(),
        h("p", { class: "to-line" }, h("span", { class: "muted" }, "To "), h("strong", {}, this.patient.name), h("span", { class: "muted" }, ` <${this.patient.email}>`)),
        field({ name: "accountId", label: "Send from", control: this.account, hint: this.accountHint }),
        field({ name: "subject", label: "Subject", control: this.subject }),
        field({ name: "text", label: "Message", control: this.text }),
        field({ name: "later", label: "Send later", control: this.later }),
        this.timeField,
      ),
      h(
        "div",
        { class: "dialog-foot" },
        h("button", { type: "button", class: "button", on: { click: async () => (await this.#mayClose()) && this.close() } }, "Cancel"),
        this.submit,
      ),
    );
  }

  async #loadAccounts() {
    try {
      const { sendingAccounts } = await this.api.request(SENDING_ACCOUNTS);
      this.#accounts = sendingAccounts;
      fill(this.account, ...sendingAccounts.map((account) =>
        h("option", { value: account.id, selected: account.isDefault }, `${account.name} <${account.fromAddress}>${account.isDefault ? " (default)" : ""}`)));
      if (sendingAccounts.length === 0) {
        fill(this.account, h("option", { value: "" }, "No sending account"));
        showAlert(this.form, "No sending account has been set up. Ask your administrator.");
      }
      this.#hintAccount();
    } catch (error) {
      // Without the list the server still takes the practice's default.
      fill(this.account, h("option", { value: "" }, "The practice's default account"));
      fill(this.accountHint, `The other accounts could not be read. ${wordsOf(error)}`);
    }
  }

  #hintAccount() {
    const account = this.#accounts.find(({ id }) => id === this.account.value);
    if (!account) return;
    fill(this.accountHint, `${accountKind(account)}: ${this.#shows(account)}`);
  }

  /** How far this message's status can rise. */
  #shows({ tracked, capabilities }) {
    if (!tracked) return "it reports nothing back, so this message will show at most Sent.";
    if (!capabilities.delivery) return "it does not report deliveries, so silence is normal.";
    if (!capabilities.opens) return "deliveries show; it does not report opens.";
    if (!this.patient.openTracking) return "deliveries show; opens don't, as open tracking is off for this patient.";
    return "deliveries and opens show where they are reported.";
  }

  #toggleLater() {
    this.timeField.hidden = !this.later.checked;
    this.submit.lastChild.textContent = this.later.checked ? "Schedule" : "Send";
    if (!this.later.checked) return;
    this.sendAt.min = toLocal(new Date());
    if (!this.sendAt.value) this.sendAt.value = toLocal(new Date(Date.now() + 3_600_000));
    this.#hintTime();
    this.sendAt.focus();
  }

  #hintTime() {
    this.timeHint.textContent = this.sendAt.value ? `Goes out on ${exact(toInstant(this.sendAt.value))}.` : "On the practice's clock.";
  }

  async #mayClose() {
    if (this.form.hasAttribute("aria-busy")) return false;
    if (!this.subject.value.trim() && !this.text.value.trim()) return true;
    return confirm({ title: "Discard this message?", content: [h("p", {}, "What you wrote has not been sent and will be lost.")], yes: "Discard", no: "Keep writing" });
  }

  #missing() {
    const later = this.later.checked;
    return [
      !this.subject.value.trim() && required("subject", "Write a subject; mail without one is often taken for spam."),
      !this.text.value.trim() && required("text", "Write a message."),
      later && !this.sendAt.value && required("sendAt", "Choose a date and a time."),
      later && this.sendAt.value && toInstant(this.sendAt.value) <= new Date() && required("sendAt", "Choose a time that is still to come."),
    ].filter(Boolean);
  }

  async #send() {
    const missing = this.#missing();
    showErrors(this.form, missing);
    if (missing.length > 0) return;
    const askedAt = this.tick();
    const scheduled = this.later.checked;
    try {
      const { sendMessage: payload } = await this.api.request(SEND_MESSAGE, {
        input: {
          patientId: this.patient.id,
          accountId: this.account.value || null,
          subject: this.subject.value,
          text: this.text.value,
          sendAt: scheduled ? toInstant(this.sendAt.value).toISOString() : null,
          idempotencyKey: this.#key,
        },
      });
      if (payload.message && payload.errors.length === 0) {
        this.close();
        notify(scheduled ? "The message is scheduled" : "The message is queued");
        this.onSent(payload.message, askedAt);
        return;
      }
      this.#refuse(payload.errors);
    } catch (error) {
      const again = error instanceof Unreachable ? " What you wrote is kept. Press Send again: it will not be sent twice." : "";
      showAlert(this.form, wordsOf(error) + again);
    }
  }

  #refuse(errors) {
    const reused = errors.some(({ code }) => code === "IDEMPOTENCY_KEY_REUSED");
    if (!reused) {
      showErrors(this.form, errors);
      return;
    }
    // An earlier try did arrive, and was then edited: what stands here now is another message.
    this.#key = crypto.randomUUID();
    showAlert(this.form, "The version that you sent before the connection broke did arrive. Press Send only if this one should go out as well.");
  }
}
