/**
 * Builds elements. Text only ever becomes text nodes, so nothing from a server can turn into markup.
 *
 * @param {string} tag
 * @param {Record<string, any>} [props] attributes; `class`, `on` (listeners), `data` (dataset); null and false are left out
 * @param {...(Node | string | number | null | undefined | false | Array<any>)} children
 * @returns {any} the element
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...present(children));
  return element;
}

/**
 * Replaces what an element holds.
 * @param {Element} element
 * @param {...any} children as in `h`
 */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

/**
 * Like `fill`, for what is only shown: what says the same already stays where it is, so none of it may be kept or listened
 * to by anybody. A press on what is then replaced is no click, and live changes come at any time.
 * @param {Element} element
 * @param {...any} children as in `h`
 */
export function revise(element, ...children) {
  let there = element.firstChild;
  const dropTo = (/** @type {Node | null} */ end) => {
    while (there !== end) {
      const next = there.nextSibling;
      there.remove();
      there = next;
    }
  };
  for (const child of present(children)) {
    const wanted = child instanceof Node ? child : document.createTextNode(child);
    let same = there;
    while (same && !same.isEqualNode(wanted)) same = same.nextSibling;
    if (same) {
      dropTo(same);
      there = same.nextSibling;
    } else {
      element.insertBefore(wanted, there);
    }
  }
  dropTo(null);
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

let lastId = 0;

/**
 * An id for aria-describedby and friends, unique on this page.
 * @param {string} prefix
 */
export function uniqueId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/**
 * Calls `action` once the calls have stopped coming for `milliseconds`.
 * @template {any[]} A
 * @param {(...args: A) => void} action
 * @param {number} milliseconds
 */
export function debounce(action, milliseconds) {
  let timer = 0;
  const later = (/** @type {A} */ ...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
