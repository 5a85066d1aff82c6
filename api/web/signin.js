/** The screen for somebody who isn't signed in. */

import { h } from "./dom.js";
import { field, formAlert, onSubmit, showErrors } from "./form.js";
import { icon } from "./icons.js";

/**
 * @param {object} options
 * @param {string} [options.reason] why the person is here again
 * @param {(token: string) => Promise<string>} options.onToken keeps the token and enters; gives what was wrong with it, or ""
 * @returns {HTMLElement}
 */
export function signIn({ reason, onToken }) {
  const control = h("textarea", { rows: "4", autocomplete: "off", autocapitalize: "off", spellcheck: "false", class: "mono", required: true });
  const form = h(
    "form",
    { class: "stack", novalidate: true, data: { testid: "signin" } },
    formAlert(),
    field({
      name: "token",
      label: "Access token",
      control,
      hint: ["Print one on the server with ", h("code", {}, "carepost token --role STAFF"), " and paste its last line here. The demo prints a link that signs you in by itself."],
    }),
    h("button", { type: "submit", class: "button primary wide" }, "Sign in"),
  );
  onSubmit(form, async () => {
    const value = control.value.trim();
    const wrong = value ? await onToken(value) : "Paste a token first.";
    if (wrong && form.isConnected) showErrors(form, [{ field: "token", message: wrong, code: "" }]);
  });
  return h(
    "main",
    { class: "signin", id: "main" },
    h(
      "div",
      { class: "card signin-card" },
      h("div", { class: "brand brand-large" }, icon("envelope"), "Carepost"),
      h("h1", {}, "Sign in"),
      h("p", { class: "muted" }, "See what became of each email your practice sends, as it happens."),
      reason && h("div", { class: "alert caution", role: "alert", data: { testid: "signin-reason" } }, icon("info"), h("p", {}, reason)),
      form,
      h("p", { class: "muted small" }, "The token stays in this browser tab and is forgotten when you sign out or close it."),
    ),
  );
}
