/** Says whether changes come by themselves right now. */

import { h, revise } from "./dom.js";
import { icon } from "./icons.js";

const STATES = {
  connecting: { words: "Connecting…", shape: "repeat", title: "Asking the server for live changes." },
  live: { words: "Live", shape: "live", title: "Changes show here as they happen." },
  reconnecting: { words: "Reconnecting…", shape: "repeat", title: "The connection was lost. It comes back by itself, and so does what was missed." },
  offline: { words: "Offline", shape: "offline", title: "What you see may be out of date. It is tried again by itself." },
  closed: { words: "Offline", shape: "offline", title: "Signed out." },
};

/**
 * @param {import("./live.js").LiveConnection} live
 * @returns {{element: HTMLElement, stop: () => void}}
 */
export function indicator(live) {
  const element = h("span", { class: "live", role: "status", "aria-label": "Connection", data: { testid: "live" } });
  const show = () => {
    const { words, shape, title } = STATES[live.state];
    element.dataset.state = live.state;
    element.title = title;
    revise(element, icon(shape), h("span", {}, words));
  };
  live.addEventListener("state", show);
  show();
  return { element, stop: () => live.removeEventListener("state", show) };
}
