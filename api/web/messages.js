/** The Messages tab: the list of a patient's emails, live. */

import { announce } from "./announce.js";
import { fill, h } from "./dom.js";
import { followMessages } from "./feed.js";
import { wordsOf } from "./graphql.js";
import { icon } from "./icons.js";
import { MessageRow } from "./message-row.js";
import { PATIENT_MESSAGES } from "./operations.js";
import { NEEDS_ATTENTION, STATUSES } from "./words.js";

const PAGE = 25;
/** Without a socket (a proxy may forbid them) the first page is read again, this often. */
const FALLBACK = 30_000;

export class MessageList extends EventTarget {
  #rows = new Map();
  #after = null;
  /** Ends the following of live changes; null: not begun, or its cursor has expired. */
  #stop = null;
  #running = null;
  /** Counts what arrives, so that an answer that was asked for earlier doesn't undo a change that came since. */
  #tick = 0;
  /**
   * Raises `patient` (detail: the patient, as the server has them now) and `change` (detail: a message).
   * @param {object} options
   * @param {import("./graphql.js").GraphQLClient} options.api
   * @param {import("./live.js").LiveConnection} options.live
   * @param {string} options.patientId
   */
  constructor({ api, live, patientId }) {
    super();
    Object.assign(this, { api, live, patientId });
    this.filter = h(
      "select",
      { "aria-label": "Filter by status", data: { testid: "status-filter" }, on: { change: () => this.load() } },
      h("option", { value: "" }, "All messages"),
      h("option", { value: NEEDS_ATTENTION.join(" ") }, "Needs attention"),
      ...Object.entries(STATUSES).map(([value, label]) => h("option", { value }, label)),
    );
    this.list = h("ul", { class: "messages", role: "list", "aria-label": "Messages", data: { testid: "messages" } });
    this.note = h("div", { class: "list-note", role: "status" });
    this.more = h("button", { type: "button", class: "button wide", hidden: true, data: { testid: "load-more" }, on: { click: () => this.load({ more: true }) } }, "Load more");
    this.element = h("div", { class: "message-list" }, this.list, this.note, this.more);
    this.fallback = setInterval(() => {
      const blind = live.state !== "live" || !this.#stop;
      if (blind && !document.hidden && navigator.onLine) this.#catchUp();
    }, FALLBACK);
    this.load();
  }

  dispose() {
    clearInterval(this.fallback);
    this.#stop?.();
    this.#running?.abort();
  }

  /** @returns {number} give it back with `add` for what is answered later */
  get tick() {
    return this.#tick;
  }

  /**
   * Shows the answer of a mutation: a message that is new or changed.
   * @param {any} message
   * @param {number} askedAt `tick` when it was asked for
   */
  add(message, askedAt) {
    const row = this.#rows.get(message.id);
    if (row && row.tick > askedAt) return;
    this.#put(message, { highlight: true });
  }

  /**
   * @param {object} [options]
   * @param {boolean} [options.more] the next page, else the first anew
   */
  async load({ more = false } = {}) {
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    const askedAt = this.#tick;
    if (!more) this.#skeletons();
    this.list.setAttribute("aria-busy", "true");
    this.more.setAttribute("aria-disabled", "true");
    try {
      const connection = await this.#ask(more ? this.#after : null, running.signal);
      if (!connection) return;
      if (!more) this.#clear(askedAt);
      const before = this.list.children.length;
      for (const message of connection.nodes) this.#merge(message, askedAt);
      this.#after = connection.pageInfo.endCursor;
      this.more.hidden = !connection.pageInfo.hasNextPage;
      this.#count();
      if (!more) this.#follow(connection.liveCursor);
      if (more) {
        announce(`${connection.nodes.length} more messages`);
        // The button may be gone now, and the focus with it.
        if (this.more.hidden) this.list.children[before]?.querySelector("a")?.focus();
      }
    } catch (error) {
      if (running.signal.aborted) return;
      if (!more) this.#clear(askedAt);
      fill(
        this.note,
        h("div", { class: "empty", data: { testid: "messages-error" } }, icon("warning"), h("p", {}, wordsOf(error)),
          h("button", { type: "button", class: "button", on: { click: () => this.load({ more }) } }, "Try again")),
      );
    } finally {
      if (this.#running === running) {
        this.#running = null;
        this.list.removeAttribute("aria-busy");
        this.more.removeAttribute("aria-disabled");
      }
    }
  }

  get #statuses() {
    return this.filter.value ? this.filter.value.split(" ") : null;
  }

  async #ask(after, signal) {
    const statuses = this.#statuses;
    const { patient } = await this.api.request(
      PATIENT_MESSAGES,
      { id: this.patientId, filter: statuses && { statuses }, first: PAGE, after },
      { signal },
    );
    this.dispatchEvent(new CustomEvent("patient", { detail: patient }));
    return patient?.messages;
  }

  #follow(since) {
    this.#stop ??= followMessages({
      live: this.live,
      patientId: this.patientId,
      since,
      onChange: (message) => this.#changed(message),
      onExpired: () => {
        this.#stop = null;
        this.#catchUp();
      },
    });
  }

  /** Quietly: what is shown stays, and gets what was missed. */
  async #catchUp() {
    if (this.#running) return;
    const askedAt = this.#tick;
    const asked = this.filter.value;
    try {
      const connection = await this.#ask(null, undefined);
      if (!connection || asked !== this.filter.value || this.#running) return;
      for (const message of connection.nodes) {
        const row = this.#rows.get(message.id);
        if (row && row.tick > askedAt) continue;
        if (!row || row.message.status !== message.status) this.#changed(message);
        else this.#merge(message, askedAt);
      }
      this.#follow(connection.liveCursor);
    } catch {
      // It is tried again soon.
    }
  }

  #changed(message) {
    const before = this.#rows.get(message.id)?.message;
    const news = !before || before.status !== message.status;
    this.#put(message, { highlight: news });
    if (news) announce(`${message.subject}: ${message.statusLabel}`, message.id);
    this.dispatchEvent(new CustomEvent("change", { detail: message }));
  }

  #merge(message, askedAt) {
    const row = this.#rows.get(message.id);
    if (row && row.tick > askedAt) return;
    this.#place(message, askedAt);
  }

  #put(message, { highlight }) {
    this.#tick += 1;
    const row = this.#rows.get(message.id);
    const matches = this.#statuses?.includes(message.status) ?? true;
    // A row that somebody is at stays where it is until the next look, though the filter no longer takes it.
    if (row && !matches && !row.element.matches(":hover, :focus-within")) {
      this.#rows.delete(message.id);
      row.element.remove();
    } else if (row || (matches && !this.#isBeyond(message))) {
      const shown = this.#place(message, this.#tick);
      if (highlight) shown.highlight();
    }
    this.#count();
  }

  /** Older than all that is loaded: "Load more" will bring it, in its place. */
  #isBeyond(message) {
    return !this.more.hidden && this.#rows.size > 0 && this.#firstOlderThan(message) === null;
  }

  #firstOlderThan({ queuedAt }) {
    const time = Date.parse(queuedAt);
    let first = null;
    for (const row of this.#rows.values()) if (row.queuedAt < time && (!first || row.queuedAt > first.queuedAt)) first = row;
    return first;
  }

  /** Newest first. */
  #place(message, tick) {
    let row = this.#rows.get(message.id);
    if (row) {
      row.update(message);
    } else {
      const next = this.#firstOlderThan(message);
      row = new MessageRow(message, this.patientId);
      this.#rows.set(message.id, row);
      this.list.insertBefore(row.element, next?.element ?? null);
    }
    row.tick = tick;
    return row;
  }

  #skeletons() {
    if (this.#rows.size > 0) return;
    fill(this.note);
    fill(this.list, ...Array.from({ length: 5 }, () =>
      h("li", { class: "message skeleton-message", "aria-hidden": "true" }, h("span", { class: "skeleton pill" }), h("span", { class: "skeleton" }), h("span", { class: "skeleton short" }))));
  }

  /** Keeps the rows that came by themselves since `askedAt`. */
  #clear(askedAt) {
    for (const [id, row] of this.#rows) if (row.tick <= askedAt) this.#rows.delete(id);
    const kept = new Set([...this.#rows.values()].map(({ element }) => element));
    for (const child of [...this.list.children]) if (!kept.has(child)) child.remove();
  }

  #count() {
    if (this.#rows.size > 0) {
      fill(this.note);
      return;
    }
    const filtered = this.filter.value !== "";
    fill(this.note, h("div", { class: "empty", data: { testid: "messages-empty" } }, icon("envelope"),
      h("p", { class: "empty-title" }, filtered ? "No messages with this status" : "No messages yet"),
      h("p", { class: "muted" }, filtered ? "Choose another filter to see the rest." : "An email to this patient will show here, with what became of it.")));
  }
}
