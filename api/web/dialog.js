/** Modal dialogs. The browser's own `<dialog>` keeps the focus inside, closes by Esc and gives the focus back. */

import { raiseNotice } from "./announce.js";
import { h, uniqueId } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @param {object} options
 * @param {string | Node} options.title
 * @param {Array<any>} options.content
 * @param {"dialog" | "panel"} [options.kind] a panel stands at the side, and a click beside it closes it
 * @param {string} [options.testid]
 * @param {() => boolean | Promise<boolean>} [options.mayClose] asked when the person wants to leave
 * @param {() => void} [options.onClose]
 * @returns {{element: any, close: () => void}} `close` doesn't ask
 */
export function openDialog({ title, content, kind = "dialog", testid, mayClose = () => true, onClose }) {
  const id = uniqueId("title");
  const leave = async () => {
    if (await mayClose()) element.close();
  };
  const element = h(
    "dialog",
    { class: kind, "aria-labelledby": id, data: { testid: testid ?? kind } },
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id, tabindex: "-1" }, title),
      h("button", { type: "button", class: "icon-button", "aria-label": "Close", on: { click: leave } }, icon("close")),
    ),
    ...content,
    h("div", { class: "visually-hidden", role: "status", "aria-live": "polite" }),
  );
  element.addEventListener("cancel", (event) => {
    // The cancel of a control inside, such as a file picker, bubbles up to here.
    if (event.target !== element) return;
    event.preventDefault();
    leave();
  });
  element.addEventListener("close", (event) => {
    if (event.target !== element) return;
    element.remove();
    onClose?.();
  });
  if (kind === "panel") {
    element.addEventListener("pointerdown", (event) => {
      if (event.target === element && event.clientX < element.getBoundingClientRect().left) leave();
    });
  }
  document.body.append(element);
  element.showModal();
  raiseNotice();
  return { element, close: () => element.close() };
}

/**
 * Asks before something that can't be taken back.
 * @param {object} options
 * @param {string} options.title
 * @param {Array<any>} options.content
 * @param {string} options.yes
 * @param {string} [options.no]
 * @returns {Promise<boolean>}
 */
export function confirm({ title, content, yes, no = "Cancel" }) {
  return new Promise((resolve) => {
    let answer = false;
    const say = (value) => () => {
      answer = value;
      close();
    };
    const { element, close } = openDialog({
      title,
      testid: "confirm",
      content: [
        h("div", { class: "dialog-body" }, ...content),
        h(
          "div",
          { class: "dialog-foot" },
          h("button", { type: "button", class: "button", on: { click: say(false) } }, no),
          h("button", { type: "button", class: "button primary", on: { click: say(true) } }, yes),
        ),
      ],
      onClose: () => resolve(answer),
    });
    element.querySelector(".primary").focus();
  });
}
