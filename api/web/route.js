/**
 * What is shown, kept in the address's fragment so that reload, back and links work.
 *
 * @typedef {object} Route
 * @property {string | null} patient
 * @property {string | null} message shown in the side panel
 * @property {"messages" | "details"} tab
 * @property {"patients" | "accounts"} view
 */

/** @returns {Route} */
export function route() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  return {
    patient: parameters.get("patient") || null,
    message: parameters.get("message") || null,
    tab: parameters.get("tab") === "details" ? "details" : "messages",
    view: parameters.has("accounts") ? "accounts" : "patients",
  };
}

/**
 * @param {Partial<Route>} to
 * @returns {string} for an `<a href>`
 */
export function href({ patient = null, message = null, tab = "messages", view = "patients" }) {
  if (view === "accounts") return "#accounts";
  const parameters = new URLSearchParams();
  if (patient) parameters.set("patient", patient);
  if (patient && tab === "details") parameters.set("tab", tab);
  if (message) parameters.set("message", message);
  return `#${parameters}`;
}

/**
 * @param {Partial<Route>} to
 * @param {{replace?: boolean}} [options] `replace`: back doesn't return to where we are
 */
export function go(to, { replace = false } = {}) {
  if (replace) location.replace(href(to));
  else location.hash = href(to);
}
