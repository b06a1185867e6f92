"""One Chromium for all tests of the live page, Debian's, driven by playwright."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.servers import require_tool

# A busy machine polls and draws late; what never comes still fails.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = require_tool("chromium", "chromium")
    with sync_playwright() as driver:
        # As root, as in CI, Chromium runs without its sandbox only; it opens loopback alone.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page in the browser.

    Attributes:
        page: Playwright's.
        complaints: What the console said, and requests that left the origin.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, url: str) -> Page:
        """Go to a URL; requests to another origin than its are complaints from then on."""
        origin = urlsplit(url).netloc

        def judge(request: Request) -> None:
            if urlsplit(request.url).netloc != origin:
                self.complaints.append(f"request to {request.url}")

        def listen(message: ConsoleMessage) -> None:
            self.complaints.append(f"{message.type}: {message.text}")

        self.page.on("request", judge)
        self.page.on("console", listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)
        return self.page


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Open a tab with options of a context: `viewport`, `color_scheme`, `java_script_enabled`."""
    contexts = []

    def open_tab(**options: Any) -> Tab:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(20_000)
        contexts.append(context)
        return Tab(context.new_page())

    yield open_tab
    for context in contexts:
        context.close()
