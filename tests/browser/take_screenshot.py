"""Takes docs/images/messages.png: the Messages tab of a patient of the demo, with an explanation open.

    .venv/bin/python -m tests.browser.take_screenshot

Starts a demo in a folder of its own, and stops it.
"""

import asyncio
import re
import signal
import tempfile
from pathlib import Path
from urllib.parse import unquote

import httpx2
from playwright.async_api import expect

from tests.acceptance.processes import free_port, program
from tests.browser.chromium import launched

NEWEST = "{ patients(first: 50) { nodes { id messages(first: 6) { nodes { status } } } } }"
IMAGE = Path(__file__).parents[2] / "docs" / "images" / "messages.png"


async def most_varied(url: str, token: str) -> str:
    """The patient whose newest emails have the most kinds of status, one that came back among them."""
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{url}/graphql", json={"query": NEWEST}, headers=headers)
    found: list[tuple[int, str]] = []
    for patient in answer.json()["data"]["patients"]["nodes"]:
        statuses = [message["status"] for message in patient["messages"]["nodes"]]
        if "NOT_DELIVERED" in statuses[1:4]:
            found.append((len(set(statuses)), patient["id"]))
    return max(found)[1]


async def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="carepost-demo-", ignore_cleanup_errors=True) as name,
        program(Path(name), "demo", "--quiet", CAREPOST_PORT=str(free_port())) as demo,
    ):
        printed = await demo.says("Ctrl-C stops it.")
        link = re.search(r"http://\S+/#token=\S+", printed)
        assert link
        async with launched() as browser:
            page = await browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light", locale="en-GB")
            await page.goto(link[0])
            await expect(page.get_by_test_id("practice")).to_be_visible()
            url, _, fragment = link[0].partition("/#token=")
            await page.goto(f"{url}/#patient={await most_varied(url, unquote(fragment))}")
            await expect(page.get_by_test_id("live")).to_have_attribute("data-state", "live")
            returned = page.locator("[data-testid=message][data-status=NOT_DELIVERED]").first
            await returned.get_by_test_id("status").hover()
            await expect(returned.get_by_test_id("explanation")).to_be_visible()
            IMAGE.parent.mkdir(parents=True, exist_ok=True)
            await page.screenshot(path=IMAGE, animations="disabled")
        demo.tell(signal.SIGINT)
        await demo.ends()
    print(f"{IMAGE.stat().st_size // 1024} KB in {IMAGE.name}")


if __name__ == "__main__":
    asyncio.run(main())
