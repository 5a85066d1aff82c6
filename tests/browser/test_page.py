"""The Messages page in a real browser, against the real API, worker, ESP sandbox and mail server."""

import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from carepost.sandbox import outcomes
from db.accounts import Account, list_accounts
from db.practices import Practice
from tests.support.practice import make_message, make_patient
from tests.support.stack import Stack, token_for

pytestmark = pytest.mark.browser

PATIENCE = 20_000.0  # milliseconds


def _in_order(seed: str) -> bool:
    """Whether the sandbox posts the events of a late bounce in the order in which they happen, if it is its first
    email: out of order they would end the same, but Delivered would never show."""
    plan = outcomes.plan("late-bounce", random.Random(f"{seed}/1"), open_tracking=True)
    posts = [occurrence.posts[0] for occurrence in plan]
    return posts == sorted(posts) and posts[-1] - posts[-2] > 3


_IN_ORDER = next(seed for seed in map(str, itertools.count()) if _in_order(seed))

# Notes every status that a row goes through, in order: a poll from outside could miss one.
_RECORD = """() => {
  window.statuses = [];
  new MutationObserver((changes) => {
    for (const { target } of changes) window.statuses.push([target.dataset.messageId, target.dataset.status]);
  }).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["data-status"] });
}"""


class Site:
    """A signed-in page on a practice of its own."""

    def __init__(self, page: Page, url: str, stack: Stack, practice: Practice) -> None:
        self.page = page
        self.url = url
        self.stack = stack
        self.practice = practice

    async def open(self) -> None:
        await self.page.goto(f"{self.url}/#token={token_for(self.practice)}")
        await expect(self.page.get_by_test_id("practice")).to_have_text(self.practice.name)

    async def choose(self, name: str) -> None:
        await self.page.get_by_test_id("patient").filter(has_text=name).click()
        await expect(self.page.get_by_test_id("patient-name")).to_have_text(name)
        await expect(self.page.get_by_test_id("live")).to_have_attribute("data-state", "live")

    async def write(self, subject: str, account: Account | None = None) -> Locator:
        """Sends an email by the dialog; gives its row."""
        await self.page.get_by_role("button", name="New message").click()
        if account:
            await _choose_account(self.page, account)
        await self.page.get_by_label("Subject").fill(subject)
        await self.page.get_by_label("Message", exact=True).fill("Please call us between 10 and 12.")
        await self.page.get_by_role("button", name="Send", exact=True).click()
        return self.row(subject)

    def row(self, subject: str) -> Locator:
        return self.page.get_by_test_id("message").filter(has_text=subject)

    async def statuses(self, row: Locator) -> list[str]:
        """What the row went through since the recording began, each once."""
        message_id = await row.get_attribute("data-message-id")
        seen: list[list[str]] = await self.page.evaluate("() => window.statuses")
        went_through = [status for key, status in seen if key == message_id]
        return [status for place, status in enumerate(went_through) if [status] != went_through[place - 1 : place]]


@pytest.fixture
async def site(browser: Browser, stack: Stack, practice: Practice) -> AsyncIterator[Site]:
    url = await stack.api()
    await stack.worker()
    await stack.esp(practice, url, seed=_IN_ORDER, max_delay=2.0)
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    page = await context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    site = Site(page, url, stack, practice)
    try:
        yield site
    finally:
        await context.close()


async def test_an_email_rises_to_opened_without_a_reload(site: Site) -> None:
    await make_patient(site.stack.database, site.practice, "opened@sandbox.example", "Ada Opened")
    await site.open()
    await site.choose("Ada Opened")
    await site.page.evaluate(_RECORD)
    await site.page.evaluate("() => { window.neverReloaded = true; }")
    row = await site.write("Your results")
    await expect(row).to_have_attribute("data-status", "OPENED")
    await expect(row.get_by_test_id("status")).to_contain_text("Opened")
    assert await site.page.evaluate("() => window.neverReloaded") is True


async def test_a_late_bounce_shows_not_delivered_after_delivered(site: Site) -> None:
    await make_patient(site.stack.database, site.practice, "late-bounce@sandbox.example", "Hugo Latebounce")
    await site.open()
    await site.choose("Hugo Latebounce")
    await site.page.evaluate(_RECORD)
    row = await site.write("Your referral")
    await expect(row).to_have_attribute("data-status", "NOT_DELIVERED")
    assert (await site.statuses(row))[-2:] == ["DELIVERED", "NOT_DELIVERED"]
    await row.get_by_test_id("message-subject").click()
    panel = site.page.get_by_test_id("message-panel")
    await expect(panel.get_by_test_id("panel-failure")).to_contain_text("5.1.1")
    kinds = await panel.get_by_test_id("event").evaluate_all("all => all.map((one) => one.dataset.kind)")
    assert {"ACCEPTED", "DELIVERED", "BOUNCED"} <= set(kinds)


async def test_an_email_by_the_own_server_stays_sent_and_explains_itself(site: Site) -> None:
    account, _ = await site.stack.smtp(site.practice)
    await make_patient(site.stack.database, site.practice, "pat@mail.example", "Pat Example")
    await site.open()
    await site.choose("Pat Example")
    row = await site.write("From reception", account)
    await expect(row).to_have_attribute("data-status", "SENT")
    chip = row.get_by_test_id("status")
    await chip.hover()
    await expect(site.page.get_by_test_id("explanation").filter(has_text="own mail server").first).to_be_visible()
    await site.page.keyboard.press("Escape")
    await site.page.mouse.move(0, 0)
    await chip.focus()
    await expect(site.page.get_by_test_id("explanation").filter(has_text="own mail server").first).to_be_visible()
    await expect(row).to_have_attribute("data-status", "SENT")


async def test_an_email_can_be_written_and_sent_by_keyboard_alone(site: Site) -> None:
    await make_patient(site.stack.database, site.practice, "delivered@sandbox.example", "Ben Delivered")
    await site.open()
    page = site.page
    await page.get_by_test_id("patient").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("patient-name")).to_have_text("Ben Delivered")
    await page.get_by_role("button", name="New message").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("compose")).to_be_visible()
    await _tab_to(page, page.get_by_label("Subject"))
    await page.keyboard.type("By keyboard")
    await _tab_to(page, page.get_by_label("Message", exact=True))
    await page.keyboard.type("No mouse was moved.")
    await _tab_to(page, page.get_by_role("button", name="Send", exact=True))
    await page.keyboard.press("Enter")
    await expect(site.row("By keyboard")).to_have_attribute("data-status", "DELIVERED")


async def test_mistakes_stand_at_their_fields_and_nothing_is_lost(site: Site) -> None:
    await make_patient(site.stack.database, site.practice, "delivered@sandbox.example", "Ben Delivered")
    await site.open()
    await site.choose("Ben Delivered")
    page = site.page
    await page.get_by_role("button", name="New message").click()
    await page.get_by_label("Message", exact=True).fill("Kept.")
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.get_by_test_id("error-subject")).to_be_visible()
    await expect(page.get_by_label("Message", exact=True)).to_have_value("Kept.")


async def test_scripts_in_names_subjects_and_bodies_do_not_run(site: Site, practice: Practice) -> None:
    attack = "<img src=x onerror=\"window.pwned='yes'\"><script>window.pwned='yes'</script>"
    patient = await make_patient(site.stack.database, practice, "pat@mail.example", f"Eve {attack}"[:190])
    accounts = await _accounts(site)
    await make_message(site.stack.database, practice, patient, accounts, subject=attack, text=attack)
    await site.open()
    await site.page.get_by_test_id("patient").first.click()
    row = site.page.get_by_test_id("message").first
    await row.get_by_test_id("message-subject").click()
    await expect(site.page.get_by_test_id("body-text")).to_contain_text("<script>")
    assert await site.page.evaluate("() => window.pwned ?? 'no'") == "no"


async def test_a_narrow_screen_needs_no_sideways_scrolling(site: Site) -> None:
    await make_patient(site.stack.database, site.practice, "delivered@sandbox.example", "Ben Delivered")
    await site.page.set_viewport_size({"width": 360, "height": 740})
    await site.open()
    await site.choose("Ben Delivered")
    await expect(await site.write("Narrow")).to_have_attribute("data-status", "DELIVERED")
    widths: Any = await site.page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]


async def _accounts(site: Site) -> Account:
    return (await list_accounts(site.stack.database.app, site.practice.id))[0]


async def _choose_account(page: Page, account: Account) -> None:
    select = page.get_by_label("Send from")
    values = await select.locator("option").evaluate_all("all => all.map((one) => [one.value, one.textContent])")
    value = next(value for value, label in values if account.name in label)
    await select.select_option(value=value)


async def _tab_to(page: Page, wanted: Locator) -> None:
    """Presses Tab until `wanted` has the focus."""
    for _ in range(30):
        if await wanted.evaluate("one => one === document.activeElement"):
            return
        await page.keyboard.press("Tab")
    raise AssertionError("never reached by Tab")
