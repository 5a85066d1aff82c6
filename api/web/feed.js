/** The live changes of one patient's messages, without a gap over reconnections. */

import { MESSAGE_STATUS_CHANGED } from "./operations.js";

/**
 * @param {object} options
 * @param {import("./live.js").LiveConnection} options.live
 * @param {string} options.patientId
 * @param {string} options.since the list's `liveCursor`: what changed after it was read comes first
 * @param {(message: any) => void} options.onChange a row's message, new or changed; some come twice
 * @param {() => void} options.onExpired too much changed while we were away: read the list anew and follow from there
 * @returns {() => void} ends it
 */
export function followMessages({ live, patientId, since, onChange, onExpired }) {
  let cursor = since;
  const stop = live.subscribe({
    query: MESSAGE_STATUS_CHANGED,
    variables: () => ({ patientId, since: cursor }),
    onNext({ messageStatusChanged: change }) {
      cursor = change.cursor;
      onChange(change.message);
    },
    onErrors(errors) {
      if (!errors.some(({ extensions }) => ["CURSOR_EXPIRED", "INVALID_CURSOR"].includes(extensions?.code ?? ""))) return;
      stop();
      onExpired();
    },
  });
  return stop;
}
