/** For administrators: webhooks that could not be read, and reading one again. Never what is in them. */

import { notify } from "./announce.js";
import { timeElement } from "./dates.js";
import { debounce, fill, h } from "./dom.js";
import { wordsOf } from "./graphql.js";
import { FAILED_WEBHOOKS, REPLAY_WEBHOOK } from "./operations.js";

export class FailedWebhooks {
  #shown = 0;

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.list = h("ul", { class: "stack" });
    this.element = h("section", { class: "card", hidden: true, data: { testid: "failed-webhooks" } },
      h("h2", {}, "Webhooks that could not be read"),
      h("p", { class: "muted small" }, "They are kept, and read again by themselves after an upgrade. Tell your operator their errors."), this.list);
    /** To be called whenever something may have changed. */
    this.look = debounce(() => this.#load(), 300);
    this.#load();
  }

  async #load() {
    const turn = ++this.#shown;
    try {
      const { webhookDeliveries } = await this.session.api.request(FAILED_WEBHOOKS, { first: 20 });
      if (turn !== this.#shown) return;
      const { nodes, pageInfo } = webhookDeliveries;
      this.element.hidden = nodes.length === 0;
      fill(this.list, nodes.map((delivery) => this.#row(delivery)), pageInfo.hasNextPage && h("li", { class: "muted small" }, "There are more."));
    } catch (error) {
      if (turn !== this.#shown) return;
      this.element.hidden = false;
      fill(this.list, h("li", {}, wordsOf(error)));
    }
  }

  #row(delivery) {
    const again = h("button", { type: "button", class: "button small", disabled: delivery.state === "PENDING", on: { click: () => this.#replay(delivery, again) } }, "Read again");
    return h("li", { class: "webhook", data: { testid: "failed-webhook" } },
      h("div", { class: "webhook-label" }, delivery.account.name, " · ", timeElement(delivery.receivedAt), ` · ${delivery.events} read`),
      h("div", { class: "webhook-line" }, h("code", {}, delivery.error), again));
  }

  async #replay(delivery, button) {
    button.disabled = true;
    try {
      const { replayWebhookDelivery } = await this.session.api.request(REPLAY_WEBHOOK, { input: { deliveryId: delivery.id } });
      notify(replayWebhookDelivery.errors[0]?.message ?? "It is read again");
      this.look();
    } catch (error) {
      button.disabled = false;
      notify(wordsOf(error));
    }
  }
}
