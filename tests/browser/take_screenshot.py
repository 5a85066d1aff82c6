"""Takes the README's picture of the Messages tab from a running demo.

python -m tests.browser.take_screenshot 'http://127.0.0.1:8000/#token=...' docs/images/messages.png
"""

import asyncio
import shutil
import sys

from playwright.async_api import async_playwright


async def take(link: str, path: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        page = await browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-GB")
        await page.goto(link)
        await page.get_by_test_id("patient").filter(has_text="Ada Opened").click()
        for subject, account in (("Your results are ready", None), ("Your referral", "Reception")):
            await page.get_by_role("button", name="New message").click()
            if account:
                select = page.get_by_label("Send from")
                options = await select.locator("option").evaluate_all("all => all.map((o) => [o.value, o.textContent])")
                await select.select_option(value=next(value for value, label in options if account in label))
            await page.get_by_label("Subject").fill(subject)
            await page.get_by_label("Message", exact=True).fill("Dear Ada,\n\nplease call us between 10 and 12.")
            await page.get_by_role("button", name="Send", exact=True).click()
            await page.locator("[data-status=OPENED], [data-status=SENT]").first.wait_for()
        await page.locator("[data-testid=message][data-status=OPENED]").first.wait_for()
        await page.wait_for_timeout(14_000)
        await page.locator("[data-testid=message][data-status=SENT] [data-testid=status]").first.hover()
        await page.wait_for_timeout(600)
        await page.screenshot(path=path)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1], sys.argv[2]))
