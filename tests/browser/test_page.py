"""The Messages page in a real browser, over all of Carepost."""

import itertools
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from api.addresses import webhook_url
from api.graphql.ids import global_id
from api.roles import Role
from carepost.sandbox import outcomes
from db.patients import Patient
from db.practices import Practice
from tests.browser.chromium import Watch
from tests.integration.workers.sending import relay
from tests.support.practice import make_account, make_delivery, make_patient
from tests.support.stack import GraphQLClient, Stack, token_for

pytestmark = pytest.mark.browser

expect.set_options(timeout=20_000)


def in_order(seed: str) -> bool:
    """Whether the sandbox posts the events of its first email in the order in which they happen, with the last well
    after the one before it. Out of order they end the same, but Delivered would never show."""
    for outcome in ("opened", "late-bounce"):
        plan = outcomes.plan(outcome, random.Random(f"{seed}/1"), open_tracking=True)
        posts = [occurrence.posts[0] for occurrence in plan]
        if posts != sorted(posts) or posts[-1] - posts[-2] < 3:
            return False
    return True


SEED = next(seed for seed in map(str, itertools.count()) if in_order(seed))
SEND = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id } errors { field message code } }
}"""
# Notes every status that a message's row is given, from before the row is there.
RECORD = """() => {
  window.seen = {};
  const note = (row) => {
    if (!row?.dataset?.messageId) return;
    const list = (window.seen[row.dataset.messageId] ??= []);
    if (list.at(-1) !== row.dataset.status) list.push(row.dataset.status);
  };
  new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "attributes") note(target);
      else for (const node of addedNodes) note(node);
    }
  }).observe(document.body, { subtree: true, childList: true, attributeFilter: ["data-status", "data-message-id"] });
}"""


@dataclass
class Desk:
    """Somebody at the page."""

    page: Page
    stack: Stack
    practice: Practice
    client: GraphQLClient
    url: str
    esp_account: str = ""

    async def patient(self, name: str, email: str) -> Patient:
        return await make_patient(self.stack.database, self.practice, email, name)

    async def sign_in(self, at: str = "", role: Role = Role.STAFF, **fragment: str) -> None:
        more = "".join(f"&{name}={value}" for name, value in fragment.items())
        await self.page.goto(f"{at or self.url}/#token={token_for(self.practice, role)}{more}")
        await expect(self.page.get_by_test_id("practice")).to_have_text("Northgate Practice")

    async def choose(self, patient: Patient) -> None:
        await self.page.get_by_role("searchbox", name="Search patients").fill(patient.name)
        link = self.page.get_by_test_id("patient").filter(has_text=patient.email)
        await link.click()
        await expect(self.page.get_by_test_id("patient-summary")).to_be_visible()
        await expect(self.page.get_by_test_id("live")).to_have_attribute("data-state", "live")

    async def write(self, subject: str, text: str = "Please call us.", *, account: str = "") -> None:
        await self.page.get_by_role("button", name="New message").click()
        dialog = self.page.get_by_test_id("compose")
        await expect(dialog.get_by_label("Send from").locator("option")).not_to_have_text(["Loading…"])
        if account:
            await dialog.get_by_label("Send from").select_option(label=account)
        await dialog.get_by_label("Subject").fill(subject)
        await dialog.get_by_label("Message", exact=True).fill(text)
        await dialog.get_by_role("button", name="Send", exact=True).click()
        await expect(dialog).to_have_count(0)

    def row(self, subject: str) -> Locator:
        return self.page.get_by_test_id("message").filter(has_text=subject)

    async def sees(self, subject: str, status: str) -> Locator:
        row = self.row(subject)
        await expect(row).to_have_attribute("data-status", status)
        return row

    async def seen(self, row: Locator) -> list[str]:
        message_id = await row.get_attribute("data-message-id")
        statuses: list[str] = await self.page.evaluate("id => window.seen[id] ?? []", message_id)
        return statuses


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    page = await context.new_page()
    watch = Watch(page)
    yield page
    assert watch.wrong == []


@pytest.fixture
async def desk(stack: Stack, practice: Practice, page: Page) -> Desk:
    url = await stack.api()
    await stack.worker()
    await stack.esp(practice, url, max_delay=3, seed=SEED)
    return Desk(page, stack, practice, await stack.client(url, practice), url)


async def test_staff_sign_in_by_a_link_write_an_email_and_see_it_reach_opened_without_a_reload(desk: Desk) -> None:
    ada = await desk.patient("Ada Opened", "opened@sandbox.example")
    await desk.patient("Ben Delivered", "delivered@sandbox.example")
    await desk.sign_in()
    assert "token" not in desk.page.url
    await desk.choose(ada)
    await desk.page.evaluate(RECORD)
    await desk.write("Your results are ready")
    row = await desk.sees("Your results are ready", "OPENED")
    seen = await desk.seen(row)
    order = ["QUEUED", "SENT", "DELIVERED", "OPENED"]
    assert seen == sorted(seen, key=order.index)
    assert seen[-2:] == ["DELIVERED", "OPENED"]
    await expect(row.get_by_test_id("status")).to_have_accessible_name("Status: Opened")
    # Reloaded, it is still there: what was seen was the truth.
    await desk.page.reload()
    await desk.sees("Your results are ready", "OPENED")


async def test_an_email_that_comes_back_after_its_delivery_turns_to_not_delivered(desk: Desk) -> None:
    hugo = await desk.patient("Hugo Latebounce", "late-bounce@sandbox.example")
    await desk.sign_in()
    await desk.choose(hugo)
    await desk.page.evaluate(RECORD)
    await desk.write("Change of opening hours")
    row = await desk.sees("Change of opening hours", "NOT_DELIVERED")
    seen = await desk.seen(row)
    assert seen[-2:] == ["DELIVERED", "NOT_DELIVERED"]
    await expect(row).to_contain_text("What to do: Check the spelling of the address with the patient")
    await row.get_by_test_id("status").hover()
    tip = row.get_by_test_id("explanation")
    await expect(tip).to_be_visible()
    await expect(tip).to_contain_text("It was first reported as delivered, then it came back")
    await expect(desk.page.get_by_test_id("email-health")).to_contain_text(
        re.compile("bounce|came back", re.IGNORECASE)
    )


async def test_an_email_by_the_practices_own_server_stays_sent_and_says_why(desk: Desk) -> None:
    await desk.stack.smtp(desk.practice)
    pat = await desk.patient("Pat Example", "pat@mail.example")
    await desk.sign_in()
    await desk.choose(pat)
    await desk.write("Your referral", account="smtp account <hello@northgate.example>")
    row = await desk.sees("Your referral", "SENT")
    why = "It was accepted by the practice's own mail server, which reports nothing back"
    button, tip = row.get_by_test_id("status"), row.get_by_test_id("explanation")
    await expect(tip).to_be_hidden()
    await button.hover()
    await expect(tip).to_be_visible()
    await expect(tip).to_contain_text(why)
    await desk.page.mouse.move(0, 0)
    await expect(tip).to_be_hidden()
    # By keyboard: Tab to it, Esc takes the explanation away.
    await row.get_by_role("link").focus()
    for _ in range(4):
        await desk.page.keyboard.press("Shift+Tab" if await _is_before(button, row) else "Tab")
        if await button.evaluate("element => element === document.activeElement"):
            break
    await expect(button).to_be_focused()
    await expect(tip).to_be_visible()
    await expect(button).to_have_accessible_description(re.compile(re.escape(why)))
    await desk.page.keyboard.press("Escape")
    await expect(tip).to_be_hidden()
    await expect(button).to_be_focused()


async def _is_before(button: Locator, row: Locator) -> bool:
    """Whether the button stands before the row's link."""
    link = await row.get_by_role("link").element_handle()
    return bool(
        await button.evaluate("(b, l) => !!(b.compareDocumentPosition(l) & Node.DOCUMENT_POSITION_FOLLOWING)", link)
    )


@pytest.mark.parametrize(("part", "shows"), [("message-subject", "message-panel"), ("status", "explanation")])
async def test_a_press_during_which_a_live_change_comes_is_a_click(desk: Desk, part: str, shows: str) -> None:
    """A browser makes no click of a press on what is replaced before the button is let go."""
    ada = await desk.patient("Ada Opened", "opened@sandbox.example")
    wish = {"patientId": global_id("Patient", ada.id), "subject": "Your invoice", "text": "Hello."}
    wish["sendAt"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    sent = (await desk.client(SEND, input=wish))["sendMessage"]["message"]
    await desk.sign_in()
    await desk.choose(ada)
    row = await desk.sees("Your invoice", "QUEUED")
    await row.get_by_test_id(part).evaluate(
        "element => element.addEventListener('click', () => { window.clicked = true; })"
    )
    await row.get_by_test_id(part).hover()
    await desk.page.mouse.down()
    await desk.client(
        "mutation ($input: CancelMessageInput!) { cancelMessage(input: $input) { errors { code } } }",
        input={"messageId": sent["id"]},
    )
    await desk.sees("Your invoice", "CANCELLED")
    await desk.page.mouse.up()
    await desk.page.wait_for_function("window.clicked")
    await expect(desk.page.get_by_test_id(shows).filter(visible=True)).to_be_visible()


async def test_the_panel_shows_the_evidence_as_it_comes_and_back_closes_it(desk: Desk) -> None:
    ada = await desk.patient("Ada Opened", "opened@sandbox.example")
    await desk.sign_in()
    await desk.choose(ada)
    await desk.write("Your invoice")
    await desk.row("Your invoice").get_by_role("link").click()
    await expect(desk.page).to_have_url(re.compile("message="))
    panel = desk.page.get_by_test_id("message-panel")
    await expect(panel).to_be_visible()
    timeline = panel.get_by_test_id("timeline").get_by_test_id("event")
    await expect(panel.get_by_test_id("panel-status")).to_have_attribute("data-status", "OPENED")
    kinds = ["ACCEPTED", "DELIVERED", "OPENED"]
    for kind in kinds:
        await expect(panel.locator(f"[data-testid=event][data-kind={kind}]").first).to_be_visible()
    shown = await timeline.evaluate_all("events => events.map((event) => event.dataset.kind)")
    assert [kind for kind in shown if kind in kinds[1:]] == kinds[1:]
    await expect(panel.get_by_test_id("body-text")).to_have_text("Please call us.")
    await desk.page.go_back()
    await expect(panel).to_have_count(0)
    await desk.page.go_forward()
    await expect(panel).to_be_visible()
    await panel.get_by_role("button", name="Close").click()
    await expect(panel).to_have_count(0)
    await expect(desk.page).not_to_have_url(re.compile("message="))


async def test_an_email_is_written_and_sent_by_keyboard_alone(desk: Desk) -> None:
    await desk.patient("Ben Delivered", "delivered@sandbox.example")
    await desk.sign_in()
    keyboard = desk.page.keyboard

    async def tab_to(wanted: Locator) -> None:
        for _ in range(30):
            if await wanted.count() and await wanted.first.evaluate("element => element === document.activeElement"):
                return
            await keyboard.press("Tab")
        raise AssertionError(f"Tab never came to {wanted}")

    await tab_to(desk.page.get_by_test_id("patient-search"))
    await keyboard.type("Ben")
    await expect(desk.page.get_by_test_id("patient")).to_have_count(1)
    await keyboard.press("ArrowDown")
    await keyboard.press("Enter")
    await expect(desk.page.get_by_test_id("patient-summary")).to_be_visible()
    await tab_to(desk.page.get_by_role("button", name="New message"))
    await keyboard.press("Enter")
    dialog = desk.page.get_by_test_id("compose")
    await expect(dialog.get_by_label("Subject")).to_be_focused()
    await keyboard.type("Annual check-up due")
    await keyboard.press("Tab")
    await keyboard.type("Please book an appointment.")
    await tab_to(dialog.get_by_role("button", name="Send", exact=True))
    await keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    await desk.sees("Annual check-up due", "DELIVERED")
    # The focus is where it was before the dialog, not lost.
    await expect(desk.page.get_by_role("button", name="New message")).to_be_focused()


async def test_mistakes_stand_at_their_fields_and_nothing_written_is_lost(desk: Desk) -> None:
    ben = await desk.patient("Ben Delivered", "delivered@sandbox.example")
    await desk.sign_in()
    await desk.choose(ben)
    await desk.page.get_by_role("button", name="New message").click()
    dialog = desk.page.get_by_test_id("compose")
    await dialog.get_by_label("Message", exact=True).fill("Kept.")
    await dialog.get_by_role("button", name="Send", exact=True).click()
    await expect(dialog.get_by_test_id("error-subject")).to_contain_text("Write a subject")
    await expect(dialog.get_by_label("Subject")).to_be_focused()
    await expect(dialog.get_by_label("Message", exact=True)).to_have_value("Kept.")
    await desk.page.keyboard.press("Escape")
    await desk.page.get_by_role("button", name="Keep writing").click()
    await expect(dialog.get_by_label("Message", exact=True)).to_have_value("Kept.")


@pytest.mark.parametrize("width", [360, 320])
async def test_a_narrow_screen_never_scrolls_sideways(desk: Desk, width: int) -> None:
    name = "Bartholomew-Maximilian Featherstonehaugh-Cholmondeley"
    long = await desk.patient(name, "opened+a.very.long.address.that.never.ends.anywhere@sandbox.example")
    page = desk.page
    await page.set_viewport_size({"width": width, "height": 740})

    async def fits() -> None:
        measured = await page.evaluate(
            "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert measured[0] <= measured[1], measured

    await desk.sign_in()
    await expect(page.get_by_test_id("patient")).to_have_count(1)
    await fits()
    await page.get_by_test_id("patient").click()
    await expect(page.get_by_test_id("patient-summary")).to_be_visible()
    await fits()
    subject = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft " * 2
    await page.get_by_role("button", name="New message").click()
    await fits()
    dialog = page.get_by_test_id("compose")
    await dialog.get_by_label("Subject").fill(subject)
    await dialog.get_by_label("Message", exact=True).fill("x" * 400)
    await dialog.get_by_role("button", name="Send", exact=True).click()
    await expect(dialog).to_have_count(0)
    row = await desk.sees("Donaudampf", "OPENED")
    await fits()
    await row.get_by_test_id("status").click()
    await expect(row.get_by_test_id("explanation")).to_be_visible()
    await fits()
    await page.keyboard.press("Escape")
    await row.get_by_role("link").click()
    await expect(page.get_by_test_id("message-panel").get_by_test_id("panel-status")).to_be_visible()
    await fits()
    assert long.name == name


async def test_scripts_in_names_subjects_and_bodies_do_not_run(desk: Desk) -> None:
    run = "window.top.pwned = 1; alert(1); new Image().src = 'http://192.0.2.1/pwned'"
    markup = f'<img src=x onerror="{run}"><script>{run}</script><svg onload="{run}"></svg>'
    mallory = await desk.patient(f"Mallory {markup}"[:200], "delivered@sandbox.example")
    html = (
        f'<p>Hello</p>{markup}<a href="javascript:{run}">click</a><iframe srcdoc="<script>{run}</script>"></iframe>'
        f'<form action="http://192.0.2.1/pwned"><button autofocus onfocus="{run}">x</button></form>'
        '<img src="http://192.0.2.1/pixel.gif"><style>@import "http://192.0.2.1/style.css";</style>'
        '<meta http-equiv="refresh" content="0;url=http://192.0.2.1/pwned">'
        f'<details open ontoggle="{run}">x</details></body></html><script>{run}</script>'
    )
    wish = {
        "patientId": global_id("Patient", mallory.id),
        "subject": f"Subject {markup}"[:500],
        "text": f"Text {markup}",
        "html": html,
    }
    answer = (await desk.client(SEND, input=wish))["sendMessage"]
    assert answer["errors"] == []
    await desk.sign_in()
    page = desk.page
    link = page.get_by_test_id("patient")
    await expect(link).to_contain_text("Mallory <img src=x onerror=")
    await link.click()
    row = await desk.sees("Subject <img src=x onerror=", "DELIVERED")
    await row.get_by_test_id("status").hover()
    await expect(row.get_by_test_id("explanation")).to_be_visible()
    await row.get_by_role("link").click()
    panel = page.get_by_test_id("message-panel")
    frame = panel.get_by_test_id("body-html")
    await frame.scroll_into_view_if_needed()
    await expect(frame).to_have_attribute("sandbox", "")
    await expect(panel.frame_locator("[data-testid=body-html]").get_by_text("Hello")).to_be_visible()
    await panel.get_by_role("button", name="Plain text").click()
    await expect(panel.get_by_test_id("body-text")).to_contain_text("Text <img src=x onerror=")
    await panel.get_by_role("button", name="Formatted").click()
    await desk.client("{ viewer { role } }")  # a round trip's worth of time for what would run
    assert await page.evaluate("() => window.pwned") is None
    assert page.url.startswith(desk.url)


async def test_after_its_socket_was_cut_the_page_catches_up_and_is_live_again(desk: Desk) -> None:
    ada = await desk.patient("Ada Opened", "opened@sandbox.example")
    async with relay(int(desk.url.rpartition(":")[2])) as door:
        await desk.sign_in(f"http://127.0.0.1:{door.port}")
        await desk.choose(ada)
        await desk.page.evaluate(
            """() => {
              window.states = [];
              const live = document.querySelector("[data-testid=live]");
              new MutationObserver(() => window.states.push(live.dataset.state))
                .observe(live, { attributeFilter: ["data-state"] });
            }"""
        )
        await door.cut()
        wish = {"patientId": global_id("Patient", ada.id), "subject": "While you were away", "text": "Hello."}
        assert (await desk.client(SEND, input=wish))["sendMessage"]["errors"] == []
        await expect(desk.page.get_by_test_id("live")).to_have_attribute("data-state", "live")
        await desk.sees("While you were away", "OPENED")
        states: list[str] = await desk.page.evaluate("() => window.states")
        assert states[0] == "reconnecting"
        assert states[-1] == "live"
        await desk.write("And now again")
        await desk.sees("And now again", "OPENED")


async def test_an_auditor_reads_and_writes_nothing(desk: Desk) -> None:
    ada = await desk.patient("Ada Opened", "opened@sandbox.example")
    wish = {"patientId": global_id("Patient", ada.id), "subject": "Your results", "text": "Hello."}
    await desk.client(SEND, input=wish)
    await desk.sign_in(role=Role.AUDITOR)
    await desk.choose(ada)
    await desk.sees("Your results", "OPENED")
    await expect(desk.page.get_by_role("button", name="New message")).to_have_count(0)
    await expect(desk.page.get_by_role("button", name="New patient")).to_have_count(0)


async def test_a_token_that_is_not_accepted_is_refused_with_words(desk: Desk) -> None:
    await desk.page.goto(f"{desk.url}/#token=not-a-token")
    await expect(desk.page.get_by_test_id("signin-reason")).to_contain_text("Your sign-in has ended")
    await desk.page.get_by_label("Access token").fill("neither.is.this")
    await desk.page.get_by_role("button", name="Sign in").click()
    await expect(desk.page.get_by_test_id("error-token")).to_contain_text("does not accept this token")
    await desk.page.get_by_label("Access token").fill(token_for(desk.practice))
    await desk.page.get_by_role("button", name="Sign in").click()
    await expect(desk.page.get_by_test_id("practice")).to_have_text("Northgate Practice")


async def test_an_administrator_sees_what_is_wrong_with_an_account_and_what_to_do_at_360_px(desk: Desk) -> None:
    account = await make_account(
        desk.stack.database,
        desk.practice,
        provider="postmark",
        credentials={"server_token": "key"},
        secrets=["carepost:secret"],
    )
    await desk.page.set_viewport_size({"width": 360, "height": 740})
    await desk.sign_in(role=Role.ADMIN, accounts="")
    card = desk.page.get_by_test_id("account").filter(has_text="Postmark")
    await expect(card.get_by_test_id("advice-OK")).to_contain_text("All well: Nothing is wrong that we know of.")
    await card.get_by_text("How it is set up there").click()
    url = webhook_url(desk.url, "postmark", desk.practice.id, account.id)
    async with httpx2.AsyncClient() as http:
        assert (await http.post(url, content=b"{}")).status_code == 401
    advice = card.get_by_test_id("advice-SIGNATURES_REFUSED")
    await expect(advice).to_contain_text("Problem: Postmark's webhooks are refused, once so far")
    await expect(advice).to_contain_text("rotateWebhookSecret")
    await expect(card.locator("details")).to_have_attribute("open", "")
    await expect(card).not_to_contain_text("secret:")
    assert await desk.page.evaluate("document.documentElement.scrollWidth") == 360


async def test_an_administrator_sees_a_webhook_that_could_not_be_read_and_has_it_read_again(desk: Desk) -> None:
    account = await make_account(desk.stack.database, desk.practice)
    await make_delivery(desk.stack.database, desk.practice, account.id, b'[{"canary@mail.example": "noon"}]')
    await desk.sign_in(role=Role.ADMIN)
    await desk.page.get_by_role("link", name="Accounts").click()
    failed = desk.page.get_by_test_id("failed-webhook")
    await expect(failed).to_contain_text("event 0: ")
    await expect(desk.page.get_by_test_id("failed-webhooks")).not_to_contain_text("canary")
    await failed.get_by_role("button", name="Read again").click()
    await expect(desk.page.get_by_text("It is read again")).to_be_visible()
    await expect(failed.get_by_role("button", name="Read again")).to_be_enabled()
