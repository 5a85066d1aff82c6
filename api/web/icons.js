/** Inline icons, drawn on 24 by 24 with a stroke in the colour of the text beside them. */

const PATHS = {
  // One per status: each has its own outline, so that the shape alone tells them apart.
  QUEUED: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 7.5V12l3 2"],
  CANCELLED: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "m5.8 5.8 12.4 12.4"],
  FAILED: ["M8.3 3h7.4L21 8.3v7.4L15.7 21H8.3L3 15.7V8.3z", "m9.2 9.2 5.6 5.6", "m14.8 9.2-5.6 5.6"],
  SENT: ["M21 3 10.5 13.5", "M21 3l-6.5 18-4-7.5L3 9.5z"],
  DELIVERED: ["m4 12.5 5.5 5.5L20 7"],
  OPENED: ["M3 10 12 4l9 6v9.5H3z", "m3.5 10.5 8.5 6 8.5-6"],
  NOT_DELIVERED: ["M12 3.5 22 20.5H2z", "M12 10v4.5", "M12 17.4v.1"],

  add: ["M12 5v14", "M5 12h14"],
  back: ["M15 5l-7 7 7 7"],
  check: ["m4 12.5 5.5 5.5L20 7"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  edit: ["M4 20h4L19.5 8.5l-4-4L4 16z", "m13.5 6.5 4 4"],
  envelope: ["M3 5.5h18v13H3z", "m3.5 6 8.5 6.5L20.5 6"],
  eye: ["M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z", "M12 9.3a2.7 2.7 0 1 0 0 5.4 2.7 2.7 0 0 0 0-5.4z"],
  eyeOff: ["m4 4 16 16", "M9.5 5.9A9 9 0 0 1 12 5.5c6 0 9.5 6.5 9.5 6.5a16 16 0 0 1-2.7 3.4", "M6 7.6A16 16 0 0 0 2.5 12S6 18.5 12 18.5a9 9 0 0 0 3.6-.8"],
  info: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 11v5.5", "M12 7.6v.1"],
  live: ["M12 10.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z", "M8 8a5.7 5.7 0 0 0 0 8", "M16 8a5.7 5.7 0 0 1 0 8", "M5 5a10 10 0 0 0 0 14", "M19 5a10 10 0 0 1 0 14"],
  machine: ["M5 9h14v10H5z", "M12 9V5", "M9.5 13v1.5", "M14.5 13v1.5", "M2.5 13v2.5", "M21.5 13v2.5"],
  offline: ["m4 4 16 16", "M8.5 15.5a5 5 0 0 1 7 0", "M5 12a10 10 0 0 1 4-2.3", "M19 12a10 10 0 0 0-4.5-2.5", "M12 19v.1"],
  repeat: ["M4 11a8 8 0 0 1 14-4.5L20 9", "M20 4v5h-5", "M20 13a8 8 0 0 1-14 4.5L4 15", "M4 20v-5h5"],
  search: ["M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z", "m15.5 15.5 5 5"],
  signOut: ["M14 4H5v16h9", "M10 12h11", "m17 8 4 4-4 4"],
  warning: ["M12 3.5 22 20.5H2z", "M12 10v4.5", "M12 17.4v.1"],
};

/** @typedef {keyof typeof PATHS} IconName */

/**
 * A decorative icon; the words beside it carry the meaning, so screen readers skip it.
 * @param {IconName} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  for (const d of PATHS[name]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}
