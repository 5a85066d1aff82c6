/** The live changes of one patient's messages, without a gap over reconnections. */

import { MESSAGE_STATUS_CHANGED } from "./operations.js";

/** Without a socket (a proxy may forbid them) the list is asked for again, this often. */
const FALLBACK = 30_000;

/**
 * @param {object} options
 * @param {import("./live.js").LiveConnection} options.live
 * @param {string} options.patientId
 * @param {(message: any) => void} options.onChange a row's message, new or changed
 * @param {() => void} options.onGap changes may have been missed: ask for the first page again
 * @returns {() => void} ends it
 */
export function followMessages({ live, patientId, onChange, onGap }) {
  /** @type {string | null} the last change we saw */
  let cursor = null;
  const stop = live.subscribe({
    query: MESSAGE_STATUS_CHANGED,
    variables: () => ({ patientId, since: cursor }),
    onStart() {
      // Without a cursor nobody knows what happened before the server heard us.
      if (cursor === null) onGap();
    },
    onNext({ messageStatusChanged: change }) {
      cursor = change.cursor;
      onChange(change.message);
    },
    onErrors(errors) {
      const expired = cursor !== null && errors.some(({ extensions }) => /CURSOR/.test(extensions?.code ?? ""));
      if (expired) cursor = null;
      return expired;
    },
  });
  const fallback = setInterval(() => {
    if (live.state !== "live" && !document.hidden && navigator.onLine) onGap();
  }, FALLBACK);
  return () => {
    clearInterval(fallback);
    stop();
  };
}
