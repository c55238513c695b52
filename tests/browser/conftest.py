"""A real Chromium on the running local cloud."""

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from local.cloud import ROOT, LocalCloud
from tests.requires import require

ARGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 20
"""To wait for what a page shall show, on a machine that does other work too."""
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
async def browser() -> AsyncGenerator[Browser]:
    program = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    require(program, "Browser tests need Chromium: `apt-get install chromium`, or set CHROMIUM to its path.")
    require((ROOT / "static_web/dist/index.html").is_file(), "The web app is not built: run `make setup`.")
    expect.set_options(timeout=SECONDS * 1000)
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=program, args=ARGS)


class Visitor:
    """A person's browser window, with what its console complained of."""

    def __init__(self, page: Page, cloud: LocalCloud) -> None:
        self.page, self.cloud = page, cloud
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)
        page.set_default_timeout(SECONDS * 1000)

    def _heard(self, message: Any) -> None:
        # An answer of 4xx is shown to the person; the console repeats it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    async def sign_in(self, name: str) -> None:
        """From the sign-in page through Entra's account page and back."""
        await self.page.get_by_test_id("sign-in").click()
        await self.page.get_by_role("button", name=name).click()
        await self.page.get_by_role("button", name="User menu").wait_for()

    def column(self, name: str) -> Any:
        return self.page.get_by_role("region", name=name, exact=True)

    def card(self, column: str, title: str) -> Any:
        return self.column(column).get_by_role("article", name=title, exact=True)


@pytest.fixture
def visit(browser: Browser, cloud: LocalCloud, request: pytest.FixtureRequest) -> Any:
    """`async with visit() as visitor`: a window of its own, at the web app. A failure leaves a picture behind."""

    @asynccontextmanager
    async def window(path: str = "/", **options: Any) -> AsyncGenerator[Visitor]:
        context = await browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        visitor = Visitor(await context.new_page(), cloud)
        await visitor.page.goto(cloud.web_url + path)
        try:
            yield visitor
        except BaseException:
            folder = Path("test-results")
            folder.mkdir(exist_ok=True)
            await visitor.page.screenshot(path=folder / f"{request.node.name}.png")
            raise
        finally:
            await context.close()

    return window
