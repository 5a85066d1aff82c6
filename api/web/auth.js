/** The signed-in person's token: kept for this browser tab only, never in the address bar. */

const KEY = "carepost.token";

/**
 * Takes the token out of a sign-in link (`#token=…`) and leaves the rest of the fragment in the address bar.
 * A fragment is never sent to a server, so the link doesn't end up in access logs.
 */
export function takeTokenFromAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const token = parameters.get("token");
  if (token === null) return;
  parameters.delete("token");
  const rest = parameters.toString();
  history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  if (token.trim()) keepToken(token);
}

/** @returns {string | null} */
export function token() {
  return sessionStorage.getItem(KEY);
}

/** @param {string} value */
export function keepToken(value) {
  // People paste "Bearer eyJ…", and terminals break long lines.
  sessionStorage.setItem(KEY, value.trim().replace(/^bearer\s+/i, "").replace(/\s+/g, ""));
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}
