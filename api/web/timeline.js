/** The evidence about one message, oldest first: what happened, when, and how we know. */

import { exact, timeElement } from "./dates.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { MESSAGE_EVENTS } from "./operations.js";
import { eventWords, sourceOf } from "./words.js";

const PAGE = 50;
/** Pages asked for at once; hardly a message has more than one. */
const PAGES = 4;
/** A report that comes later than this after the event says so. */
const LATE = 120_000;

/** The status whose shape an event has, for the eye. */
const SHAPES = {
  QUEUED: "SENT", ACCEPTED: "SENT", DEFERRED: "QUEUED", DELIVERED: "DELIVERED", OPENED: "OPENED", CLICKED: "OPENED",
  BOUNCED: "NOT_DELIVERED", SOFT_BOUNCED: "NOT_DELIVERED", REJECTED: "NOT_DELIVERED", COMPLAINED: "DELIVERED", UNSUBSCRIBED: "DELIVERED",
  ATTEMPT_DEFERRED: "QUEUED", ATTEMPT_AMBIGUOUS: "QUEUED", FAILED: "FAILED", CANCELLED: "CANCELLED",
};

function lateBy({ occurredAt, receivedAt }) {
  const late = Date.parse(receivedAt) - Date.parse(occurredAt);
  if (late < LATE) return null;
  const minutes = Math.round(late / 60_000);
  if (minutes < 120) return `${minutes} minutes`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} hours` : `${Math.round(hours / 24)} days`;
}

function eventItem(event) {
  const source = sourceOf(event.source);
  const shape = event.machine ? null : SHAPES[event.kind];
  const late = lateBy(event);
  return h(
    "li",
    { class: "event", data: { testid: "event", kind: event.kind, source: event.source, machine: String(event.machine), shape: shape ?? "" } },
    h("span", { class: "event-mark" }, icon(shape ?? (event.machine ? "machine" : "info"))),
    h(
      "div",
      { class: "event-words" },
      h("p", { class: "event-kind" }, eventWords(event), event.machine && h("span", { class: "tag" }, icon("machine"), "By a machine")),
      h(
        "p",
        { class: "event-facts" },
        timeElement(event.occurredAt),
        " · ",
        h("span", { title: source.meaning }, source.label),
        event.detail && [" · ", h("span", { class: "event-detail" }, event.detail)],
        event.failure?.reason && [" · ", h("span", { class: "event-detail" }, [event.failure.smtpCode, event.failure.enhancedCode, event.failure.reason].filter(Boolean).join(" "))],
        late && [" · ", h("span", { title: exact(event.receivedAt) }, `reported ${late} later`)],
      ),
    ),
  );
}

export class Timeline {
  #events = new Map();
  #after = null;
  #items = new Map();
  #loads = 0;

  /**
   * @param {object} options
   * @param {import("./graphql.js").GraphQLClient} options.api
   * @param {string} options.messageId
   */
  constructor({ api, messageId }) {
    this.api = api;
    this.messageId = messageId;
    this.list = h("ol", { class: "timeline", "aria-label": "What happened to this message", data: { testid: "timeline" } });
    this.note = h("p", { class: "muted", hidden: true }, "Nothing has been reported yet.");
    this.more = h("button", { type: "button", class: "button small", hidden: true, on: { click: () => this.load({ more: true }) } }, "Show more events");
    this.element = h("div", {}, this.list, this.note, this.more);
  }

  /**
   * Events are never changed, so asking again only adds; a late one may belong anywhere, so all is asked for.
   * @param {object} [options]
   * @param {boolean} [options.more] the page after the last one
   * @param {boolean} [options.live] highlight what is new
   */
  async load({ more = false, live = false } = {}) {
    this.#loads += 1;
    const load = this.#loads;
    let after = more ? this.#after : null;
    for (let page = 1; page <= PAGES; page += 1) {
      const { message } = await this.api.request(MESSAGE_EVENTS, { id: this.messageId, first: PAGE, after });
      if (!message || load !== this.#loads) return;
      const { nodes, pageInfo } = message.events;
      for (const event of nodes) this.#events.set(event.id, event);
      after = pageInfo.endCursor;
      this.more.hidden = !pageInfo.hasNextPage;
      this.#show(live);
      if (!pageInfo.hasNextPage) break;
    }
    this.#after = after;
  }

  #show(live) {
    const time = ({ occurredAt, receivedAt }) => [Date.parse(occurredAt), Date.parse(receivedAt)];
    const ordered = [...this.#events.values()].sort((one, other) => {
      const [a, b] = [time(one), time(other)];
      return a[0] - b[0] || a[1] - b[1];
    });
    for (const event of ordered) {
      if (this.#items.has(event.id)) continue;
      const item = eventItem(event);
      if (live) item.classList.add("changed");
      this.#items.set(event.id, item);
    }
    // What stands right stays: somebody may be copying the server's reply.
    ordered.forEach(({ id }, place) => {
      const [item, there] = [this.#items.get(id), this.list.children[place] ?? null];
      if (item !== there) this.list.insertBefore(item, there);
    });
    this.note.hidden = ordered.length > 0;
  }
}
