"""The list of chats on the live page, in a browser: unfolded, kept up to date, hostile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import expect

from exporter.ops.chats.listing import Chat, Listing
from exporter.server.http_server import HttpServer
from exporter.server.page.chats import ChatsPage
from tests.browser.conftest import Tab
from tests.browser.test_live_page import find_violations, url_of
from tests.page import FakeDaemon, serve_page

NewTab = Callable[..., Tab]
NAME = "<img src=x onerror=alert(1)>\u202e" + "n" * 4900


class Platform:
    """What the database would answer; a test changes it."""

    def __init__(self) -> None:
        self.chats = [self.make_chat(1)]
        self.asked = 0

    @staticmethod
    def make_chat(number: int) -> Chat:
        reasons = ("overdue:critical", "unanswered")
        return Chat(UUID(int=number), "assigned", reasons, 900.0, 950.0, UUID(int=7), NAME)

    def read(self, plan: Any, *_: object) -> Listing:
        self.asked += 1
        return Listing(plan.database, datetime.now(UTC), tuple(self.chats))


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def server(platform: Platform) -> Iterator[HttpServer]:
    daemon: Any = FakeDaemon(poll={"interval": "1s", "timeout": "1s"})
    with serve_page(daemon, chats=ChatsPage(daemon, "", read=platform.read)) as server:
        yield server


def test_a_list_is_asked_for_when_it_is_unfolded_and_kept_up_to_date(
    server: HttpServer, platform: Platform, new_tab: NewTab
) -> None:
    tab = new_tab()
    page = tab.open(url_of(server))
    assert platform.asked == 0

    page.get_by_text("The chats of main").click()
    expect(page.get_by_role("rowheader", name=str(UUID(int=1)))).to_be_visible()

    platform.chats.append(Platform.make_chat(2))
    expect(page.get_by_role("rowheader", name=str(UUID(int=2)))).to_be_visible(timeout=30_000)
    assert tab.complaints == []


def test_an_alerts_link_opens_the_list(server: HttpServer, new_tab: NewTab) -> None:
    tab = new_tab()

    page = tab.open(url_of(server, "/#chats-main"))

    expect(page.get_by_role("rowheader", name=str(UUID(int=1)))).to_be_visible()


def test_without_a_script_the_list_is_a_page_of_its_own(
    server: HttpServer, new_tab: NewTab
) -> None:
    page = new_tab(java_script_enabled=False).open(url_of(server))

    page.get_by_text("The chats of main").click()
    page.get_by_role("link", name="Open the list").click()

    expect(page.get_by_role("rowheader", name=str(UUID(int=1)))).to_be_visible()


@pytest.mark.parametrize("path", ["/#chats-main", "/chats"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_hostile_name_is_text_and_axe_finds_nothing(
    server: HttpServer, new_tab: NewTab, path: str, width: int
) -> None:
    tab = new_tab(viewport={"width": width, "height": 800})

    page = tab.open(url_of(server, path))

    expect(page.get_by_role("rowheader", name=str(UUID(int=1)))).to_be_attached()
    assert page.locator("main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert find_violations(page) == []
    assert tab.complaints == []
