/** The Patient Summary: who it is, the Messages tab and the Details tab. */

import { Compose } from "./compose.js";
import { timeZone } from "./dates.js";
import { debounce, fill, h, revise } from "./dom.js";
import { icon } from "./icons.js";
import { indicator } from "./indicator.js";
import { MessagePanel } from "./message-panel.js";
import { MessageList } from "./messages.js";
import { PATIENT } from "./operations.js";
import { openPatientForm } from "./patient-form.js";
import { initials } from "./patients.js";
import { go, href } from "./route.js";
import { tabs } from "./tabs.js";
import { healthOf } from "./words.js";

export class PatientView {
  #patient = null;
  #panel = null;
  #cameByLink = false;

  /**
   * @param {object} options
   * @param {import("./session.js").Session} options.session
   * @param {string} options.patientId
   * @param {(patient: any) => void} options.onPatient the patient as now known
   */
  constructor({ session, patientId, onPatient }) {
    Object.assign(this, { session, patientId, onPatient });
    this.heading = h("h1", { tabindex: "-1", data: { testid: "patient-name" } }, h("span", { class: "skeleton", "aria-hidden": "true" }), h("span", { class: "visually-hidden" }, "Loading"));
    this.avatar = h("span", { class: "avatar avatar-large", "aria-hidden": "true" });
    this.meta = h("div", { class: "patient-meta" });
    this.buttons = h("div", { class: "patient-actions" });
    this.details = h("div");
    this.messages = new MessageList({ api: session.api, live: session.live, patientId });
    this.messages.addEventListener("patient", ({ detail }) => this.#show(detail));
    this.messages.addEventListener("change", ({ detail }) => this.#changed(detail));
    const live = indicator(session.live);
    this.stopIndicator = live.stop;
    this.tabs = tabs({
      label: "Patient Summary",
      tabs: [
        { key: "messages", label: "Messages", content: [
          h("div", { class: "toolbar" }, h("div", { class: "select" }, this.messages.filter), live.element),
          this.messages.element,
        ] },
        { key: "details", label: "Details", content: [this.details] },
      ],
      onChoose: (tab) => go({ patient: patientId, tab }, { replace: true }),
    });
    this.summary = h(
      "div",
      { class: "summary" },
      h("a", { class: "back-link", href: href({}) }, icon("back"), "All patients"),
      h("header", { class: "patient-head" }, this.avatar, h("div", { class: "patient-title" }, this.heading, this.meta), this.buttons),
      this.tabs.element,
    );
    this.element = h("div", { class: "patient-view", data: { testid: "patient-summary" } }, this.summary);
  }

  /** @param {import("./route.js").Route} route of this patient */
  show({ message, tab }, { first = false } = {}) {
    this.tabs.choose(tab);
    if (message === (this.#panel?.messageId ?? null)) return;
    // Closing by code isn't leaving: the address says already where we are.
    const former = this.#panel;
    this.#panel = null;
    former?.close();
    if (!message) return;
    if (!former) this.#cameByLink = !first;
    const panel = new MessagePanel({
      api: this.session.api,
      messageId: message,
      canWrite: this.session.canWrite,
      onClose: () => this.#left(panel),
      onChanged: (changed) => this.messages.add(changed, this.messages.tick),
      onSent: (sent) => {
        this.messages.add(sent, this.messages.tick);
        go({ patient: this.patientId, message: sent.id }, { replace: true });
      },
    });
    this.#panel = panel;
  }

  dispose() {
    const panel = this.#panel;
    this.#panel = null;
    panel?.close();
    this.messages.dispose();
    this.stopIndicator();
    this.#refreshSoon.cancel();
  }

  #left(panel) {
    if (this.#panel !== panel) return;
    this.#panel = null;
    if (this.#cameByLink) history.back();
    else go({ patient: this.patientId }, { replace: true });
  }

  #changed(message) {
    if (this.#panel?.messageId === message.id) this.#panel.changed(message);
    // What became of an email says something about the address.
    if (["DELIVERED", "NOT_DELIVERED"].includes(message.status)) this.#refreshSoon();
  }

  #refreshSoon = debounce(async () => {
    const { patient } = await this.session.api.request(PATIENT, { id: this.patientId }).catch(() => ({ patient: null }));
    if (patient) this.#show(patient);
  }, 800);

  #show(patient) {
    if (!patient) {
      this.messages.dispose();
      fill(this.element, h("div", { class: "empty tall" }, icon("search"), h("h1", { class: "empty-title" }, "This patient could not be found"), h("a", { class: "button", href: href({}) }, "All patients")));
      return;
    }
    this.#patient = patient;
    document.title = `${patient.name} · Carepost`;
    this.heading.textContent = patient.name;
    this.avatar.textContent = initials(patient.name);
    const health = healthOf(patient.emailHealth);
    revise(
      this.meta,
      h("span", { class: "meta-item", data: { testid: "patient-email" } }, icon("envelope"), patient.email),
      h("span", { class: `meta-item tone-${health.tone}`, title: health.meaning, data: { testid: "email-health", health: patient.emailHealth } }, icon(health.tone === "good" ? "check" : health.tone === "neutral" ? "info" : "warning"), health.label),
      h("span", { class: "meta-item", data: { testid: "open-tracking" } }, icon(patient.openTracking ? "eye" : "eyeOff"), `Open tracking ${patient.openTracking ? "on" : "off"}`),
    );
    if (this.session.canWrite && this.buttons.children.length === 0) {
      this.buttons.append(
        h("button", { type: "button", class: "button", on: { click: () => this.#edit() } }, icon("edit"), "Edit"),
        h("button", { type: "button", class: "button primary", on: { click: () => this.#compose() } }, icon("add"), "New message"),
      );
    }
    this.#showDetails(patient, health);
    this.onPatient(patient);
  }

  #showDetails(patient, health) {
    const row = (term, ...description) => [h("dt", {}, term), h("dd", {}, ...description)];
    const note = (words) => h("p", { class: "muted" }, words);
    revise(
      this.details,
      h("dl", { class: "facts card" },
        row("Name", patient.name),
        row("Email address", patient.email),
        row("State of the address", health.label, health.meaning && note(health.meaning)),
        row("Open tracking", patient.openTracking ? "On" : "Off", note(patient.openTracking
          ? "The patient agreed that the practice may see whether emails are opened."
          : "Emails carry no tracking image, so they show at most Delivered.")),
        row("Times", `In the practice's time zone, ${timeZone()}`)),
    );
  }

  #edit() {
    openPatientForm({ api: this.session.api, patient: this.#patient, onSaved: (patient) => this.#show(patient) });
  }

  #compose() {
    new Compose({
      api: this.session.api,
      patient: this.#patient,
      tick: () => this.messages.tick,
      onSent: (message, askedAt) => {
        this.messages.add(message, askedAt);
        go({ patient: this.patientId }, { replace: true });
      },
    });
  }
}
