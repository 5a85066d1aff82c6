/** The list of patients to choose from: search, arrow keys, more on demand. */

import { debounce, fill, h, revise } from "./dom.js";
import { wordsOf } from "./graphql.js";
import { icon } from "./icons.js";
import { PATIENTS } from "./operations.js";
import { href } from "./route.js";
import { healthOf } from "./words.js";

const PAGE = 30;

/**
 * Up to two letters to recognise somebody by.
 * @param {string} name
 */
export function initials(name) {
  const words = name.replace(/[^\p{L}\p{N}\s'-]/gu, "").trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words;
  return letters.map((word) => [...word][0].toUpperCase()).join("") || "?";
}

export class PatientList {
  #search = "";
  #after = null;
  #running = null;
  #current = null;
  #links = new Map();

  /**
   * @param {object} options
   * @param {import("./graphql.js").GraphQLClient} options.api
   * @param {(() => void) | null} options.onNew null where the viewer may not
   */
  constructor({ api, onNew }) {
    this.api = api;
    this.input = h("input", {
      type: "search", placeholder: "Name or email", autocomplete: "off", spellcheck: "false", "aria-label": "Search patients", data: { testid: "patient-search" },
    });
    this.list = h("ul", { class: "patient-list", role: "list", "aria-label": "Patients", data: { testid: "patients" } });
    this.more = h("button", { type: "button", class: "button quiet wide", hidden: true, on: { click: () => this.#load(true) } }, "Show more patients");
    this.note = h("div", { class: "list-note", role: "status" });
    this.element = h(
      "nav",
      { class: "sidebar", "aria-label": "Patients" },
      h(
        "div",
        { class: "sidebar-head" },
        h(
          "div",
          { class: "sidebar-title" },
          h("h2", {}, "Patients"),
          onNew && h("button", { type: "button", class: "button small", on: { click: onNew } }, icon("add"), "New patient"),
        ),
        h("div", { class: "search" }, icon("search"), this.input),
      ),
      h("div", { class: "sidebar-body" }, this.list, this.note, this.more),
    );
    const search = debounce(() => this.reload(), 200);
    this.input.addEventListener("input", () => search());
    this.element.addEventListener("keydown", (event) => this.#walk(event));
    this.reload();
  }

  reload() {
    this.#search = this.input.value.trim();
    return this.#load(false);
  }

  /** @param {string | null} id the patient now shown */
  choose(id) {
    this.#current = id;
    for (const [each, link] of this.#links) {
      if (each === id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  /** @param {any} patient as changed elsewhere on the page */
  update(patient) {
    const link = this.#links.get(patient.id);
    if (link) revise(link, this.#inside(patient));
  }

  async #load(more) {
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    const first = !more && this.#links.size === 0;
    if (first) fill(this.list, ...Array.from({ length: 6 }, () => h("li", { class: "skeleton-patient", "aria-hidden": "true" }, h("span", { class: "skeleton" }))));
    this.list.setAttribute("aria-busy", "true");
    try {
      const data = await this.api.request(
        PATIENTS,
        { search: this.#search, first: PAGE, after: more ? this.#after : null },
        { signal: running.signal },
      );
      this.#show(data.patients, more);
    } catch (error) {
      if (running.signal.aborted) return;
      if (first) fill(this.list);
      fill(this.note, h("p", {}, wordsOf(error)), h("button", { type: "button", class: "button small", on: { click: () => this.#load(more) } }, "Try again"));
    } finally {
      if (this.#running === running) this.list.removeAttribute("aria-busy");
    }
  }

  #show({ nodes, pageInfo }, more) {
    if (!more) {
      this.#links.clear();
      fill(this.list);
    }
    for (const patient of nodes) {
      if (this.#links.has(patient.id)) continue;
      const link = h("a", { class: "patient-link", href: href({ patient: patient.id }), data: { testid: "patient" } }, this.#inside(patient));
      this.#links.set(patient.id, link);
      this.list.append(h("li", {}, link));
    }
    this.choose(this.#current);
    this.#after = pageInfo.endCursor;
    this.more.hidden = !pageInfo.hasNextPage;
    if (this.#links.size > 0) fill(this.note);
    else fill(this.note, h("p", {}, this.#search ? `No patient matches “${this.#search}”.` : "No patients yet."));
  }

  #inside(patient) {
    const health = healthOf(patient.emailHealth);
    const worrying = health.tone === "bad" || health.tone === "caution";
    return [
      h("span", { class: "avatar", "aria-hidden": "true" }, initials(patient.name)),
      h("span", { class: "patient-words" }, h("span", { class: "patient-name" }, patient.name), h("span", { class: "patient-email" }, patient.email)),
      worrying && h("span", { class: `health-mark tone-${health.tone}`, title: health.label }, icon("warning"), h("span", { class: "visually-hidden" }, health.label)),
    ];
  }

  /** Up and down walk through the list, from the search field too. */
  #walk(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const stops = [this.input, ...this.#links.values()];
    const at = stops.indexOf(document.activeElement);
    if (at < 0) return;
    const next = stops[at + (event.key === "ArrowDown" ? 1 : -1)];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }
}
