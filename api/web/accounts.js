/** For administrators: the sending accounts, how they are doing, and where their email service must report to. */

import { notify } from "./announce.js";
import { timeElement } from "./dates.js";
import { FailedWebhooks } from "./deliveries.js";
import { fill, h } from "./dom.js";
import { wordsOf } from "./graphql.js";
import { icon } from "./icons.js";
import { indicator } from "./indicator.js";
import { ACCOUNT_HEALTH, ACCOUNT_HEALTH_CHANGED } from "./operations.js";
import { accountKind } from "./words.js";

/** Numbers that mean that somebody should look, and why. */
const NUMBERS = [
  { key: "unconfirmed", label: "Not confirmed", meaning: "Sent, and no answer came in the time in which answers come." },
  { key: "signatureFailures", label: "Wrong signatures", meaning: "Webhooks refused because their signature did not hold: check the webhook's secret." },
  { key: "unreadable", label: "Unreadable", meaning: "Rightly signed webhooks that could not be read; they are kept." },
  { key: "parked", label: "Parked", meaning: "Events that match no message yet; they are joined later." },
];

function copyButton(url) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(url);
      notify("Webhook address copied");
    } catch {
      notify("It could not be copied; select the address instead");
    }
  };
  return h("button", { type: "button", class: "button small", "aria-label": "Copy webhook address", on: { click: copy } }, icon("copy"), "Copy");
}

/** How a piece of advice looks; told by word and icon, colour only comes on top. */
const SEVERITIES = {
  OK: { word: "All well", icon: "check" },
  NOTE: { word: "Note", icon: "info" },
  WARNING: { word: "Warning", icon: "warning" },
  PROBLEM: { word: "Problem", icon: "FAILED" },
};

function adviceList(advice) {
  return h("ul", { class: "advice-list", "aria-label": "What is wrong and what to do" }, advice.map(({ code, severity, text, nextStep }) => {
    const shown = SEVERITIES[severity] ?? SEVERITIES.NOTE;
    return h("li", { class: "advice", data: { severity, testid: `advice-${code}` } },
      h("p", {}, icon(shown.icon), h("strong", {}, `${shown.word}: `), text),
      nextStep && h("p", { class: "next-step" }, nextStep));
  }));
}

function setUp(steps) {
  if (!steps?.length) return false;
  return h("details", { class: "set-up" }, h("summary", {}, "How it is set up there"), h("ol", {}, steps.map((step) => h("li", {}, step))));
}

function accountCard(account) {
  const { health } = account;
  return h(
    "article",
    { class: "card account", "aria-label": account.name, data: { testid: "account" } },
    h(
      "header",
      { class: "account-head" },
      h("div", {}, h("h2", {}, account.name, account.isDefault && h("span", { class: "tag" }, "Default")), h("p", { class: "muted" }, account.fromAddress)),
      h("span", { class: "tag" }, accountKind(account)),
    ),
    account.tracked
      ? h("dl", { class: "numbers" }, NUMBERS.map(({ key, label, meaning }) =>
          h("div", { title: meaning, class: health[key] > 0 ? "number raised" : "number" }, h("dt", {}, label), h("dd", { data: { testid: `health-${key}` } }, String(health[key])))))
      : h("p", { class: "muted" }, "Sends through the practice's own server, which reports nothing back: its messages show at most Sent."),
    adviceList(health.advice),
    account.tracked && h("p", { class: "muted small" }, "Last event: ", health.lastEventAt ? timeElement(health.lastEventAt) : "none yet",
      health.credentialsCheckedAt && [" · Key checked: ", timeElement(health.credentialsCheckedAt)],
      health.credentialsExpireAt && [" · Key ends: ", timeElement(health.credentialsExpireAt)]),
    account.webhookUrl && h(
      "div",
      { class: "webhook" },
      h("div", { class: "webhook-label" }, "Webhook address"),
      h("div", { class: "webhook-line" }, h("code", { data: { testid: "webhook-url" } }, account.webhookUrl), copyButton(account.webhookUrl)),
    ),
    setUp(account.setUpSteps),
  );
}

export class AccountsView {
  #cards = new Map();

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.list = h("div", { class: "accounts" }, h("span", { class: "skeleton" }), h("span", { class: "skeleton short" }));
    const failed = new FailedWebhooks(session);
    const live = indicator(session.live);
    // It tells all of them first, so a reconnection needs no reading anew.
    const stop = session.live.subscribe({
      query: ACCOUNT_HEALTH_CHANGED,
      variables: () => ({}),
      onNext: ({ accountHealthChanged }) => {
        this.#show(accountHealthChanged);
        failed.look();
      },
    });
    this.dispose = () => {
      stop();
      live.stop();
      failed.look.cancel();
    };
    this.element = h("div", { class: "accounts-view", data: { testid: "accounts" } },
      h("div", { class: "view-head" }, h("h1", { tabindex: "-1" }, "Sending accounts"), live.element), this.list, failed.element);
    this.#load();
  }

  show() {
    document.title = "Sending accounts · Carepost";
  }

  async #load() {
    try {
      const { sendingAccounts } = await this.session.api.request(ACCOUNT_HEALTH);
      this.#cards.clear();
      fill(this.list, sendingAccounts.length === 0 && h("p", { class: "empty" }, "No sending account has been set up."));
      for (const account of sendingAccounts) this.#show(account);
    } catch (error) {
      fill(this.list, h("div", { class: "empty" }, icon("warning"), h("p", {}, wordsOf(error)), h("button", { type: "button", class: "button", on: { click: () => this.#load() } }, "Try again")));
    }
  }

  #show(account) {
    const card = accountCard(account);
    const former = this.#cards.get(account.id);
    if (former?.querySelector("details[open]")) card.querySelector("details")?.setAttribute("open", "");
    // Told first as it stands: a card that says the same stays under the pointer.
    if (former?.isEqualNode(card)) return;
    if (former) former.replaceWith(card);
    else this.list.append(card);
    this.#cards.set(account.id, card);
  }
}
