/** Form fields with their labels, hints and errors tied together for screen readers. */

import { h, uniqueId } from "./dom.js";
import { icon } from "./icons.js";

/** @typedef {{field: string | null, message: string, code: string}} UserError `field` as `subject` or `patientIds.3` */

/**
 * A labelled control. `name` is the field of the GraphQL input, by which errors find their place.
 * @param {object} options
 * @param {string} options.name
 * @param {string} options.label
 * @param {any} options.control
 * @param {Node | string} [options.hint]
 */
export function field({ name, label, control, hint }) {
  control.id = uniqueId(name);
  control.name = name;
  const hintId = `${control.id}-hint`;
  const isCheck = control.type === "checkbox";
  if (hint) control.setAttribute("aria-describedby", hintId);
  control.addEventListener("input", () => clearError(element));
  const labelElement = h("label", { for: control.id }, label);
  const element = h(
    "div",
    { class: isCheck ? "field check" : "field", data: { field: name } },
    isCheck ? [h("span", { class: "check-line" }, control, labelElement)] : [labelElement, control],
    hint && h("div", { class: "hint", id: hintId }, hint),
    h("p", { class: "field-error", id: `${control.id}-error`, hidden: true, data: { testid: `error-${name}` } }),
  );
  return element;
}

function describe(control, add, id) {
  const ids = new Set((control.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
  if (add) ids.add(id);
  else ids.delete(id);
  if (ids.size > 0) control.setAttribute("aria-describedby", [...ids].join(" "));
  else control.removeAttribute("aria-describedby");
}

function clearError(element) {
  const control = element.querySelector("input, textarea, select");
  const line = element.querySelector(".field-error");
  if (line.hidden) return;
  line.hidden = true;
  line.textContent = "";
  control.removeAttribute("aria-invalid");
  describe(control, false, line.id);
}

/** The place for errors that belong to no field. */
export function formAlert() {
  return h("div", { class: "alert bad", role: "alert", hidden: true, data: { testid: "form-error" } });
}

/**
 * Puts each error at its field, the rest above the form, and the focus on the first. No errors: clears all.
 * @param {HTMLFormElement} form with fields made by `field` and a `formAlert`
 * @param {UserError[]} errors
 */
export function showErrors(form, errors) {
  for (const element of form.querySelectorAll(".field")) clearError(element);
  const unplaced = [];
  for (const { field: path, message } of errors) {
    const name = (path ?? "").split(".").find((part) => part && form.querySelector(`[data-field="${CSS.escape(part)}"]`));
    if (!name) {
      unplaced.push(message);
      continue;
    }
    const element = form.querySelector(`[data-field="${CSS.escape(name)}"]`);
    const control = element.querySelector("input, textarea, select");
    const line = element.querySelector(".field-error");
    line.textContent = line.hidden ? message : `${line.textContent} ${message}`;
    line.hidden = false;
    control.setAttribute("aria-invalid", "true");
    describe(control, true, line.id);
  }
  showAlert(form, unplaced.join(" "));
  form.querySelector("[aria-invalid=true]")?.focus();
}

/**
 * @param {HTMLFormElement} form
 * @param {string} words empty: none
 */
export function showAlert(form, words) {
  const alert = form.querySelector(".alert[role=alert]");
  alert.hidden = !words;
  if (words) alert.replaceChildren(icon("warning"), h("p", {}, words));
  else alert.replaceChildren();
}

/**
 * Runs `submit` on each submission, one at a time: a second click while the first is under way does nothing.
 * @param {HTMLFormElement} form
 * @param {() => Promise<void>} submit
 */
export function onSubmit(form, submit) {
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    const button = form.querySelector("[type=submit]");
    // Not `disabled`: that would take the focus away from somebody at a keyboard.
    button.setAttribute("aria-disabled", "true");
    form.setAttribute("aria-busy", "true");
    try {
      await submit();
    } finally {
      busy = false;
      button.removeAttribute("aria-disabled");
      form.removeAttribute("aria-busy");
    }
  });
}
