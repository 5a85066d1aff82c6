"""The Chromium that drives the page: the machine's own, else Playwright's."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Dialog, Page, Request, async_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOW_TO = "NO CHROMIUM, so the page is not tested. Get one: make browser (as root: apt install chromium)"


def installed() -> str | None:
    """The path of the machine's own."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A browser; skips the test where there is none, and fails it in CI."""
    async with async_playwright() as playwright:
        path = installed() or playwright.chromium.executable_path
        if not Path(path).exists():
            if os.environ.get("CI"):
                pytest.fail(HOW_TO)
            pytest.skip(HOW_TO)
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


class Watch:
    """What a page must never do: raise, show a dialog, or get through to anybody but its own server."""

    def __init__(self, page: Page) -> None:
        self.wrong: list[str] = []
        self._page = page
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("requestfinished", self._request)
        page.on("requestfailed", self._request)

    async def _dialog(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        own = "/".join(self._page.url.split("/")[:3])
        # A request that the page's policy forbids is announced, and fails before it leaves.
        if not request.url.startswith((own, "data:", "about:", "blob:")) and request.failure != "csp":
            self.wrong.append(f"request: {request.url}: {request.failure or 'answered'}")
