/** Times are shown and typed in the practice's time zone, whatever zone the computer is set to. */

import { h } from "./dom.js";

let zone = "UTC";
const locale = navigator.language?.startsWith("en") ? navigator.language : "en-GB";
const formats = new Map();

/** @param {string} name IANA name, as in `viewer.practice.timeZone` */
export function useTimeZone(name) {
  zone = name;
  formats.clear();
}

export function timeZone() {
  return zone;
}

function format(date, options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale, { timeZone: zone, ...options }));
  return formats.get(key).format(date);
}

/** `2026-05-12T09:30:00` on the practice's clock; comparable as text. */
function wallClock(date) {
  const parts = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  }).formatToParts(date);
  const part = (type) => parts.find((each) => each.type === type).value;
  return `${part("year").padStart(4, "0")}-${part("month")}-${part("day")}T${part("hour")}:${part("minute")}:${part("second")}`;
}

/**
 * "Today, 14:05", "Yesterday, 09:12", "12 May, 14:05", "12 May 2024".
 * @param {string} iso
 * @param {Date} [now]
 */
export function when(iso, now = new Date()) {
  const date = new Date(iso);
  const day = wallClock(date).slice(0, 10);
  const time = format(date, { timeStyle: "short" });
  const dayAt = (offset) => {
    const noon = new Date(`${wallClock(now).slice(0, 10)}T12:00:00Z`);
    noon.setUTCDate(noon.getUTCDate() + offset);
    return noon.toISOString().slice(0, 10);
  };
  if (day === dayAt(0)) return `Today, ${time}`;
  if (day === dayAt(-1)) return `Yesterday, ${time}`;
  if (day === dayAt(1)) return `Tomorrow, ${time}`;
  if (day.slice(0, 4) === dayAt(0).slice(0, 4)) return `${format(date, { day: "numeric", month: "short" })}, ${time}`;
  return format(date, { day: "numeric", month: "short", year: "numeric" });
}

/**
 * "Tuesday 12 May 2026 at 14:05:09 BST".
 * @param {string | Date} instant
 */
export function exact(instant) {
  return format(new Date(instant), {
    weekday: "long", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
  });
}

/**
 * A `<time>` in short words, exact in its title.
 * @param {string} iso
 */
export function timeElement(iso) {
  return h("time", { datetime: iso, title: exact(iso), data: { relative: "" } }, when(iso));
}

/** At midnight "Today" becomes "Yesterday", also on a page that stays open. */
export function refreshTimes() {
  for (const element of document.querySelectorAll("time[data-relative]")) {
    const words = when(element.dateTime);
    if (element.textContent !== words) element.textContent = words;
  }
}

/**
 * The instant of a time typed on the practice's clock.
 *
 * On days when the clock changes: a time that comes twice is the first of the two, one that doesn't
 * exist is read by the offset from before the change (PEP 495 calls both fold=0).
 * @param {string} local `2026-05-12T09:30`, the value of an `<input type="datetime-local">`
 * @returns {Date}
 */
export function toInstant(local) {
  const asUtc = Date.parse(`${local.length === 16 ? `${local}:00` : local}Z`);
  const day = 86_400_000;
  const offsetAt = (instant) => Date.parse(`${wallClock(new Date(instant))}Z`) - instant;
  const candidates = [asUtc - offsetAt(asUtc - day), asUtc - offsetAt(asUtc + day)];
  const real = candidates.filter((instant) => instant + offsetAt(instant) === asUtc);
  return new Date(real.length > 0 ? Math.min(...real) : candidates[0]);
}

/**
 * The value for an `<input type="datetime-local">`.
 * @param {Date} date
 */
export function toLocal(date) {
  return wallClock(date).slice(0, 16);
}
