"""GraphiQL in a real browser: what a front-end developer sees first."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, expect

from api.graphql.ids import global_id
from db.patients import Patient
from db.practices import Practice
from mail.status import AccountKind
from tests.browser.chromium import Watch
from tests.support.practice import make_account, make_patient
from tests.support.stack import Stack, token_for

pytestmark = pytest.mark.browser

expect.set_options(timeout=20_000)


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    page = await context.new_page()
    watch = Watch(page)
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            said.append(message.text)

    page.on("console", note)
    yield page
    assert watch.wrong == []
    # The page's policy forbids nothing that it needs.
    assert said == []


SEND = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { message { id } errors { code } } }"


def letter(patient: Patient, subject: str) -> dict[str, str]:
    return {
        "patientId": global_id("Patient", patient.id),
        "subject": subject,
        "text": "Please call us.",
        "idempotencyKey": subject,
    }


def answer(page: Page) -> Locator:
    return page.get_by_role("region", name="Result Window")


async def run(page: Page, operation: str) -> None:
    await page.get_by_role("tab", name=operation).click()
    # GraphiQL looks a moment later which operation a tab has.
    await page.wait_for_function("name => sessionStorage['graphiql:operationName'] === name", arg=operation)
    await page.get_by_role("button", name="Execute query").click()


async def test_it_asks_follows_and_shows_the_schema_of_this_server_alone(
    stack: Stack, practice: Practice, page: Page
) -> None:
    patient = await make_patient(stack.database, practice, "ada@mail.example", "Ada Example")
    await make_account(stack.database, practice, kind=AccountKind.SMTP)
    url = await stack.api(graphiql=True)
    await page.goto(f"{url}/graphiql#token={token_for(practice)}")
    await run(page, "FirstLook")
    await expect(answer(page)).to_contain_text("Northgate Practice")
    await expect(answer(page)).to_contain_text("Ada Example")
    assert "token" not in page.url

    await run(page, "Live")
    await expect(page.get_by_role("button", name="Stop query")).to_be_visible()
    client = await stack.client(url, practice)
    # Again and again, as nothing tells when the server has begun to follow.
    for number in range(100):
        await client(SEND, input=letter(patient, f"Your results, part {number}"))
        try:
            await expect(answer(page)).to_contain_text("Your results, part", timeout=500)
            break
        except AssertionError:
            continue
    await expect(answer(page)).to_contain_text("Queued")
    await page.get_by_role("button", name="Stop query").click()

    await page.get_by_role("button", name="Show Documentation Explorer").click()
    await page.get_by_role("link", name="Mutation").click()
    await expect(page.get_by_role("link", name="sendMessage", exact=True)).to_be_visible()


async def test_what_was_typed_outlives_a_reload_but_not_the_tab(stack: Stack, practice: Practice, page: Page) -> None:
    url = await stack.api(graphiql=True)
    await page.goto(f"{url}/graphiql#token={token_for(practice)}")
    await expect(page.get_by_role("region", name="Query Editor")).to_contain_text("FirstLook")
    await page.reload()
    await run(page, "FirstLook")
    await expect(answer(page)).to_contain_text("Northgate Practice")
    assert await page.evaluate("localStorage.length") == 0
    kept = await page.evaluate("JSON.stringify({...sessionStorage})")
    assert "FirstLook" in kept


async def test_a_browser_that_opens_the_endpoint_is_led_there_where_it_is_on(stack: Stack, practice: Practice) -> None:
    as_browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with httpx2.AsyncClient(base_url=await stack.api(graphiql=True)) as http:
        led = await http.get("/graphql", headers=as_browser)
        assert (led.status_code, led.headers["location"]) == (303, "graphiql")
        assert (await http.get("/graphql")).status_code == 405
        page = await http.get("/graphiql")
        assert page.status_code == 200
        policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
        assert not re.search(r"https?://", page.text)
    async with httpx2.AsyncClient(base_url=await stack.api()) as http:
        assert (await http.get("/graphql", headers=as_browser)).status_code == 405
        for path in ("/graphiql", "/graphiql/start.js", "/graphiql/vendor/graphiql.min.js"):
            assert (await http.get(path)).status_code == 404
