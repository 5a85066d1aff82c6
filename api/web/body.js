/** What the email says. Its HTML is shown in a frame that can do nothing: no script, no form, no request. */

import { h } from "./dom.js";

/**
 * The page around the HTML. The frame has an origin of its own (sandbox without allow-same-origin), and on top
 * of the policy that it inherits from this page, one that lets nothing load but our own style sheet and
 * images that are part of the email (data:). So nobody learns by a remote image that staff looked.
 */
function framed(html) {
  const style = new URL("web/email.css", document.baseURI);
  const policy = `default-src 'none'; style-src ${style.origin}; img-src data:; form-action 'none'; base-uri 'none'`;
  return `<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${policy}"><meta name="referrer" content="no-referrer"><link rel="stylesheet" href="${style.href}"></head><body>${html}</body></html>`;
}

/**
 * @param {{text: string, html: string | null, subject: string}} message
 * @returns {HTMLElement}
 */
export function messageBody({ text, html, subject }) {
  const plain = h("div", { class: "body-text", data: { testid: "body-text" } }, text || "(empty)");
  if (!html) return plain;
  const frame = h("iframe", {
    class: "body-frame", sandbox: "", title: `Formatted message: ${subject}`, referrerpolicy: "no-referrer", loading: "lazy", data: { testid: "body-html" },
  });
  frame.srcdoc = framed(html);
  const formatted = h("div", {}, frame, h("p", { class: "hint" }, "Remote images and links are switched off here."));
  const buttons = [
    h("button", { type: "button", class: "segment", "aria-pressed": "true" }, "Formatted"),
    h("button", { type: "button", class: "segment", "aria-pressed": "false" }, "Plain text"),
  ];
  plain.hidden = true;
  buttons.forEach((button, at) =>
    button.addEventListener("click", () => {
      formatted.hidden = at !== 0;
      plain.hidden = at !== 1;
      buttons.forEach((each, position) => each.setAttribute("aria-pressed", String(position === at)));
    }));
  return h("div", {}, h("div", { class: "segments", role: "group", "aria-label": "Show the message as" }, buttons), formatted, plain);
}
