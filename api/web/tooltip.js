/**
 * A popover that explains a button: by hover, by keyboard focus and by tap (WCAG 1.4.13: it can be
 * dismissed by Esc, stays while the pointer is over it, and until it isn't needed).
 */

const OPENING = 120;
const CLOSING = 180;
const GAP = 8;

let shown = null;

function place(button, tip) {
  const anchor = button.getBoundingClientRect();
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(GAP, anchor.left), innerWidth - width - GAP);
  const below = anchor.bottom + GAP;
  const top = below + height > innerHeight - GAP && anchor.top > height + GAP ? anchor.top - height - GAP : below;
  tip.style.left = `${Math.round(left)}px`;
  tip.style.top = `${Math.round(top)}px`;
}

function hide() {
  if (!shown) return;
  const { button, tip } = shown;
  shown = null;
  if (tip.isConnected) tip.hidePopover();
  button.removeAttribute("data-explained");
}

function show(button, tip) {
  if (shown?.tip === tip) return;
  hide();
  if (!button.isConnected) return;
  shown = { button, tip };
  tip.showPopover();
  place(button, tip);
  button.setAttribute("data-explained", "");
}

// Capture: the Esc that dismisses an explanation must not close the dialog around it too.
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !shown) return;
  event.preventDefault();
  event.stopPropagation();
  hide();
}, { capture: true });
addEventListener("pointerdown", (event) => {
  if (shown && !shown.tip.contains(event.target) && !shown.button.contains(event.target)) hide();
}, { capture: true });
addEventListener("scroll", () => shown && place(shown.button, shown.tip), { capture: true, passive: true });
addEventListener("resize", hide);

/**
 * @param {HTMLElement} button described by `tip` (aria-describedby)
 * @param {HTMLElement} tip with popover="manual", beside the button, so that it isn't inert within a dialog
 */
export function explainBy(button, tip) {
  let timer = 0;
  let wasShown = false;
  const isShown = () => shown?.tip === tip;
  const soon = (action, delay) => {
    clearTimeout(timer);
    timer = setTimeout(action, delay);
  };
  const enter = (event) => event.pointerType === "mouse" && soon(() => show(button, tip), isShown() ? 0 : OPENING);
  const leave = (event) => event.pointerType === "mouse" && soon(() => isShown() && document.activeElement !== button && hide(), CLOSING);
  for (const element of [button, tip]) {
    element.addEventListener("pointerenter", enter);
    element.addEventListener("pointerleave", leave);
  }
  button.addEventListener("pointerdown", () => {
    wasShown = isShown();
  });
  button.addEventListener("focus", () => {
    clearTimeout(timer);
    if (button.matches(":focus-visible")) show(button, tip);
  });
  button.addEventListener("blur", () => soon(() => isShown() && !tip.matches(":hover") && hide(), 0));
  button.addEventListener("click", (event) => {
    clearTimeout(timer);
    const byPointer = event.detail > 0;
    // A mouse has shown it already by hovering; its click must not take it away.
    if ((byPointer ? wasShown && event.pointerType !== "mouse" : isShown())) hide();
    else show(button, tip);
    wasShown = false;
  });
}
