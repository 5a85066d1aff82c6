/** The dialog that adds a patient or changes one. */

import { notify } from "./announce.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { field, formAlert, onSubmit, showAlert, showErrors } from "./form.js";
import { wordsOf } from "./graphql.js";
import { CREATE_PATIENT, UPDATE_PATIENT } from "./operations.js";

/**
 * @param {object} options
 * @param {import("./graphql.js").GraphQLClient} options.api
 * @param {any} [options.patient] left out: a new one
 * @param {(patient: any) => void} options.onSaved
 */
export function openPatientForm({ api, patient, onSaved }) {
  const name = h("input", { type: "text", autocomplete: "off", required: true });
  const email = h("input", { type: "email", autocomplete: "off", spellcheck: "false", required: true });
  const openTracking = h("input", { type: "checkbox" });
  name.value = patient?.name ?? "";
  email.value = patient?.email ?? "";
  // Consent is given, never assumed: off until somebody ticks it.
  openTracking.checked = patient?.openTracking ?? false;
  const form = h(
    "form",
    { class: "dialog-form", novalidate: true },
    h(
      "div",
      { class: "dialog-body stack" },
      formAlert(),
      field({ name: "name", label: "Name", control: name }),
      field({ name: "email", label: "Email address", control: email }),
      field({
        name: "openTracking",
        label: "Open tracking",
        control: openTracking,
        hint: "Only with the patient's consent. When it is off, emails carry no tracking image and show at most Delivered.",
      }),
    ),
    h(
      "div",
      { class: "dialog-foot" },
      h("button", { type: "button", class: "button", on: { click: () => close() } }, "Cancel"),
      h("button", { type: "submit", class: "button primary" }, patient ? "Save" : "Add patient"),
    ),
  );
  onSubmit(form, async () => {
    const missing = [
      !name.value.trim() && { field: "name", message: "Write a name.", code: "REQUIRED" },
      !email.value.trim() && { field: "email", message: "Write an email address.", code: "REQUIRED" },
    ].filter(Boolean);
    showErrors(form, missing);
    if (missing.length > 0) return;
    const input = { name: name.value, email: email.value, openTracking: openTracking.checked };
    try {
      const payload = patient
        ? (await api.request(UPDATE_PATIENT, { input: { patientId: patient.id, ...input } })).updatePatient
        : (await api.request(CREATE_PATIENT, { input })).createPatient;
      showErrors(form, payload.errors);
      if (!payload.patient) return;
      close();
      notify(patient ? "Changes saved" : `${payload.patient.name} was added`);
      onSaved(payload.patient);
    } catch (error) {
      showAlert(form, wordsOf(error));
    }
  });
  const { close } = openDialog({ title: patient ? "Edit patient" : "New patient", testid: "patient-form", content: [form] });
  name.focus();
}
