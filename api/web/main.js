/** Puts the page together: signed out, or the practice's patients with one of them shown. */

import { AccountsView } from "./accounts.js";
import { forgetToken, keepToken, takeTokenFromAddress, token } from "./auth.js";
import { refreshTimes, timeZone, useTimeZone } from "./dates.js";
import { fill, h } from "./dom.js";
import { Unauthenticated, wordsOf } from "./graphql.js";
import { icon } from "./icons.js";
import { openPatientForm } from "./patient-form.js";
import { PatientView } from "./patient.js";
import { PatientList } from "./patients.js";
import { go, href, route } from "./route.js";
import { Session } from "./session.js";
import { signIn } from "./signin.js";
import { roleWords } from "./words.js";

const app = document.getElementById("app");

/** @type {{session: Session, render: () => void, dispose: () => void} | null} */
let entered = null;

function leave(reason = "") {
  forgetToken();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.remove();
  entered?.dispose();
  entered = null;
  document.title = "Sign in · Carepost";
  fill(app, signIn({ reason, onToken: enterWith }));
  app.querySelector("textarea").focus();
}

/** Unlike a sign-in that ran out, this isn't to be taken up where it was left. */
function signOut() {
  history.replaceState(null, "", location.pathname + location.search);
  leave();
}

/** @returns {Promise<string>} what is wrong with the token, or "" */
async function enterWith(value) {
  keepToken(value);
  try {
    await enter();
    return "";
  } catch (error) {
    forgetToken();
    return error instanceof Unauthenticated ? `Carepost does not accept this token. ${error.message}` : wordsOf(error);
  }
}

async function enter() {
  const session = await Session.enter(token(), () => leave("Your sign-in has ended: the token is no longer valid. Sign in again."));
  entered?.dispose();
  useTimeZone(session.viewer.practice.timeZone);
  entered = { session, ...shell(session) };
  entered.render();
}

function shell(session) {
  const { viewer, canWrite, isAdmin, api } = session;
  const added = (patient) => {
    patients.reload();
    go({ patient: patient.id });
  };
  const patients = new PatientList({ api, onNew: canWrite ? () => openPatientForm({ api, onSaved: added }) : null });
  const main = h("main", { id: "main", class: "main", tabindex: "-1" });
  const links = {
    patients: h("a", { class: "nav-link", href: href({}) }, "Patients"),
    accounts: isAdmin && h("a", { class: "nav-link", href: href({ view: "accounts" }) }, "Accounts"),
  };
  // A fragment link would be taken for a place in the app.
  const skip = h("button", { type: "button", class: "skip", on: { click: () => main.focus() } }, "Skip to content");
  const header = h(
    "header",
    { class: "topbar" },
    h("a", { class: "brand", href: href({}), "aria-label": "Carepost, all patients" }, icon("envelope"), h("span", {}, "Carepost")),
    isAdmin && h("nav", { class: "topnav", "aria-label": "Main" }, links.patients, links.accounts),
    h(
      "div",
      { class: "who" },
      h("span", { class: "practice", title: `Times are shown in ${timeZone()}`, data: { testid: "practice" } }, viewer.practice.name),
      h("span", { class: "tag role", data: { testid: "role" } }, roleWords(viewer.role)),
    ),
    h("button", { type: "button", class: "button quiet", "aria-label": "Sign out", on: { click: signOut } }, icon("signOut"), h("span", { class: "wide-only" }, "Sign out")),
  );
  const body = h("div", { class: "body" }, patients.element, main);
  fill(app, skip, header, body);

  let shown = { key: "", view: /** @type {any} */ (null) };
  const dispose = () => {
    shown.view?.dispose?.();
    session.leave();
  };
  const render = () => {
    const now = route();
    const accounts = now.view === "accounts" && isAdmin;
    const key = accounts ? "accounts" : (now.patient ?? "");
    body.dataset.shows = accounts ? "accounts" : now.patient ? "patient" : "list";
    links.patients.toggleAttribute("data-current", !accounts);
    if (links.accounts) links.accounts.toggleAttribute("data-current", accounts);
    patients.choose(accounts ? null : now.patient);
    const first = shown.view === null;
    if (key !== shown.key || first) {
      shown.view?.dispose?.();
      const view = accounts ? new AccountsView(session)
        : now.patient ? new PatientView({ session, patientId: now.patient, onPatient: (patient) => patients.update(patient) })
          : nobody();
      shown = { key, view };
      fill(main, view.element);
      // Somebody at a keyboard or a screen reader goes on where the news is.
      if (!first) view.element.querySelector("h1")?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    shown.view.show(now, { first });
  };
  return { render, dispose };
}

function nobody() {
  return {
    element: h("div", { class: "empty tall", data: { testid: "no-patient" } }, icon("envelope"), h("h1", { class: "empty-title", tabindex: "-1" }, "Choose a patient"), h("p", { class: "muted" }, "Their emails, and what became of each, show here.")),
    show: () => {
      document.title = "Patients · Carepost";
    },
  };
}

async function start() {
  takeTokenFromAddress();
  if (!token()) {
    leave();
    return;
  }
  fill(app, h("p", { class: "centred muted", role: "status" }, "Signing in…"));
  try {
    await enter();
  } catch (error) {
    if (error instanceof Unauthenticated) {
      leave("Your sign-in has ended: the token is not valid, or no longer. Sign in again.");
      return;
    }
    fill(app, h("main", { class: "centred", id: "main" }, h("h1", {}, "Carepost can't be reached"), h("p", { class: "muted" }, wordsOf(error)), h("button", { type: "button", class: "button primary", on: { click: start } }, "Try again")));
  }
}

addEventListener("hashchange", () => {
  // A sign-in link pasted into this very tab changes the fragment only.
  if (new URLSearchParams(location.hash.slice(1)).has("token")) start();
  else entered?.render();
});
setInterval(refreshTimes, 30_000);
start();
