"""The live page in a browser: in place, by keyboard, for a screen reader, and when all is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from exporter.release.families import Gauges
from exporter.release.state import ReleaseEvent, ReleaseState
from exporter.server.http_server import HttpServer
from tests.browser.conftest import Tab
from tests.page import CALM, FakeDaemon, serve_page

NewTab = Callable[..., Tab]
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
RED, GREEN, AMBER = "rgb(179, 38, 30)", "rgb(231, 244, 236)", "rgb(255, 197, 61)"


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.record([CALM] * 600 + [{}] * 240 + [CALM] * 600)
    return daemon


@pytest.fixture
def server(daemon: FakeDaemon) -> Iterator[HttpServer]:
    with serve_page(daemon) as server:
        yield server


def url_of(server: HttpServer, path: str = "/") -> str:
    return f"http://{server.addresses[0]}{path}"


def background(page: Page) -> str:
    script = "getComputedStyle(document.getElementById('summary')).backgroundColor"
    return str(page.evaluate(script))


def find_violations(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core finds; evaluated by the debugger, which the page's policy does not bind."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(each["id"], [n["html"][:200] for n in each["nodes"]]) for each in found["violations"]]


def test_a_day_with_a_gap_is_drawn_and_said(server: HttpServer, new_tab: NewTab) -> None:
    tab = new_tab()
    page = tab.open(url_of(server))

    expect(page.get_by_role("heading", name="OK All is well")).to_be_visible()
    assert background(page) == GREEN
    assert page.locator("#database-1-oldest polyline").count() == 2
    assert page.locator("#database-1-oldest td", has_text="no data").count() >= 0
    assert page.title() == "OK · All is well · chat queue"
    assert tab.complaints == []


def test_it_changes_in_place_and_keeps_scroll_focus_and_what_is_unfolded(
    daemon: FakeDaemon, server: HttpServer, new_tab: NewTab
) -> None:
    tab = new_tab(viewport={"width": 500, "height": 500})
    page = tab.open(url_of(server))
    page.evaluate("window.witness = document.getElementById('main')")
    page.locator("#database-1-oldest summary").click()
    page.locator("#database-1-oldest .plot").focus()
    page.keyboard.press("End")
    page.evaluate("window.scrollTo(0, 700)")
    before = page.evaluate("window.scrollY")
    daemon.show({**CALM, "oldest_waiting": 400.0})
    expect(page.locator("#summary")).to_contain_text("far too long for an operator")

    assert background(page) == RED
    assert page.title().startswith("CRITICAL · ")
    assert (page.locator("#icon").get_attribute("href") or "").endswith("/page/critical.svg")
    assert page.evaluate("window.witness === document.getElementById('main')")
    assert page.evaluate("document.activeElement.closest('figure').id") == "database-1-oldest"
    assert page.locator("#database-1-oldest details").get_attribute("open") == ""
    expect(page.locator("#database-1-oldest .reading")).to_be_visible()
    # What came in above pushes nothing away from under the reader, or only where it must.
    assert page.evaluate("window.scrollY") >= before
    expect(page.locator("#news")).to_contain_text("Critical")
    daemon.show(CALM)
    expect(page.locator("#summary")).to_contain_text("All is well")
    assert tab.complaints == []


def test_what_did_not_change_is_not_touched(
    daemon: FakeDaemon, server: HttpServer, new_tab: NewTab
) -> None:
    page = new_tab().open(url_of(server))
    page.evaluate("window.kept = document.querySelector('#database-1-release p')")
    daemon.show({**CALM, "waiting": 77.0})
    expect(page.locator("#database-1-values")).to_contain_text("77")

    assert page.evaluate("document.contains(window.kept)")


def test_text_that_is_selected_stays_so(
    daemon: FakeDaemon, server: HttpServer, new_tab: NewTab
) -> None:
    page = new_tab().open(url_of(server))
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#database-1-values'))")
    daemon.show({**CALM, "waiting": 77.0, "invalid": 1.0})
    expect(page.locator("#summary")).to_contain_text("contradict")

    assert "Chats waiting" in page.evaluate("getSelection().toString()")


def test_values_are_read_under_the_pointer_and_by_keyboard(
    server: HttpServer, new_tab: NewTab
) -> None:
    tab = new_tab()
    page = tab.open(url_of(server))
    plot = page.locator("#database-1-operators .plot")
    plot.hover()
    expect(plot.locator(".reading")).to_contain_text("no data")  # the gap is in the middle
    page.mouse.move(0, 0)
    expect(plot.locator(".reading")).to_have_count(0)
    plot.focus()
    page.keyboard.press("Home")
    first = plot.locator(".reading").inner_text()
    page.keyboard.press("ArrowRight")
    second = plot.locator(".reading").inner_text()
    page.keyboard.press("Escape")

    assert "available 5 · busy 4 · stale 0" in first
    assert first != second
    assert plot.locator(".reading").count() == 0
    assert tab.complaints == []


def test_every_control_is_reached_by_keyboard(server: HttpServer, new_tab: NewTab) -> None:
    page = new_tab().open(url_of(server))
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.className || document.activeElement.tagName")
        )

    assert {"skip", "A", "plot", "SUMMARY"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(scheme: str, width: int, new_tab: NewTab) -> None:
    watch = {"started_at": "2026-01-01T00:00:00Z", "for": "90d", "rollback_within": "1h"}
    daemon = FakeDaemon("main", "other", "third", "fourth", watch=watch)
    daemon.record([CALM] * 100)
    daemon.show({**CALM, "oldest_waiting": 400.0, "customer_wait": 400.0, "invalid": 2.0}, "main")
    daemon.show({**CALM, "customer_wait": 400.0}, "other", labels=(("env", "production"),))
    daemon.workers[2].first_poll_done.clear()
    event = ReleaseEvent(1.8e9, "released", "requeued")
    paused = ReleaseState("enforce", "enforce", None, 4e9, "a drill", "anna", (event,))
    daemon.releasers[0].state = paused
    with serve_page(daemon) as server:
        viewport = {"width": width, "height": 900}
        page = new_tab(viewport=viewport, color_scheme=scheme).open(url_of(server))
        page.locator("summary").first.click()
        violations = find_violations(page)
        scrolls = page.evaluate("document.documentElement.scrollWidth > innerWidth")

    assert violations == []
    assert not scrolls


@pytest.mark.parametrize("tone", ["calm", "warning", "critical", "unknown"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_verdict_has_its_contrast(
    tone: str, scheme: str, daemon: FakeDaemon, server: HttpServer, new_tab: NewTab
) -> None:
    if tone == "unknown":
        daemon.workers[0].first_poll_done.clear()
    elif tone != "calm":
        daemon.show({**CALM, "oldest_waiting": 400.0 if tone == "critical" else 130.0})

    assert find_violations(new_tab(color_scheme=scheme).open(url_of(server))) == []


def test_a_screen_reader_finds_its_way(server: HttpServer, new_tab: NewTab) -> None:
    page = new_tab().open(url_of(server))

    assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName)")
    assert levels[:3] == ["H1", "H2", "H2"]
    for image in page.get_by_role("img").all():
        assert (image.get_attribute("aria-label") or "").count(" now ") >= 1
    expect(page.get_by_role("status")).to_have_count(1)


def test_when_the_daemon_is_gone_the_page_says_so_in_red(
    daemon: FakeDaemon, new_tab: NewTab
) -> None:
    with serve_page(daemon) as server:
        port = int(server.addresses[0].rpartition(":")[2])
        page = new_tab().open(url_of(server))
        expect(page.locator("#summary")).to_contain_text("All is well")
    # The interval is a second here; two of them, and what a busy machine takes.
    expect(page.get_by_role("alert")).to_contain_text("does not answer", timeout=10_000)

    assert page.evaluate("getComputedStyle(document.getElementById('gone')).backgroundColor") == RED
    assert "grayscale" in page.evaluate("getComputedStyle(document.querySelector('main')).filter")
    assert page.title() == "No answer · chat queue"
    with serve_page(daemon, port=port):
        expect(page.locator("#gone")).to_be_hidden(timeout=10_000)
        assert page.title() == "OK · All is well · chat queue"


def test_the_banner_comes_within_two_intervals(new_tab: NewTab) -> None:
    daemon = FakeDaemon()
    tab = new_tab()
    tab.page.clock.install()
    with serve_page(daemon) as server:
        page = tab.open(url_of(server))
    page.clock.run_for(2_000)

    expect(page.locator("#gone")).to_be_visible()


def test_without_a_script_it_is_whole(
    daemon: FakeDaemon, server: HttpServer, new_tab: NewTab
) -> None:
    page = new_tab(java_script_enabled=False).open(url_of(server))

    expect(page.get_by_role("heading", name="OK All is well")).to_be_visible()
    expect(page.locator("#rendered")).to_contain_text("UTC")
    daemon.show({**CALM, "waiting": 77.0})
    expect(page.locator("#database-1-values")).to_contain_text("77")  # it refreshes itself


@pytest.mark.parametrize("name", ["<b onclick=x>", "\u202eevil", "x" * 5000, "{{ 7*7 }}"])
def test_a_hostile_name_is_text_and_widens_nothing(name: str, new_tab: NewTab) -> None:
    daemon = FakeDaemon(name)
    daemon.show({**CALM, "invalid": 1.0}, labels=(("env", name),))
    daemon.releasers[0].state = ReleaseState("observe", "observe", None, 4e9, name, name)
    with serve_page(daemon) as server:
        tab = new_tab(viewport={"width": 360, "height": 700})
        page = tab.open(url_of(server))
        title = page.locator("#database-1-title bdi").first

        assert title.inner_text() == name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.getElementById('database-1-head').offsetHeight") < 200
        assert tab.complaints == []


@pytest.mark.parametrize("size", [(360, 740), (768, 1024), (1920, 1080), (3840, 2160)])
def test_no_width_scrolls_sideways(
    size: tuple[int, int], server: HttpServer, new_tab: NewTab
) -> None:
    viewport = {"width": size[0], "height": size[1]}
    page = new_tab(viewport=viewport).open(url_of(server))

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160)])
def test_a_wall_screen_shows_everything_without_scrolling(
    size: tuple[int, int], daemon: FakeDaemon, server: HttpServer, new_tab: NewTab
) -> None:
    bad = {"oldest_waiting": 400.0, "customer_wait": 700.0, "invalid": 2.0, "idle_overdue": 3.0}
    daemon.show({**CALM, **bad})
    events = tuple(ReleaseEvent(1.8e9, "would_release", "") for _ in range(8))
    gauges = Gauges(3, 2, False, False, 5.0, {})
    state = ReleaseState("observe", "observe", gauges, events=events)
    daemon.releasers[0].state = state
    viewport = {"width": size[0], "height": size[1]}
    page = new_tab(viewport=viewport).open(url_of(server, "/?wall"))

    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


def test_it_prints_on_one_sheet(daemon: FakeDaemon, server: HttpServer, new_tab: NewTab) -> None:
    daemon.show({**CALM, "oldest_waiting": 400.0, "customer_wait": 700.0, "invalid": 2.0})
    page = new_tab().open(url_of(server))
    sheet: Any = page.pdf(prefer_css_page_size=True)

    assert sheet.count(b"/Type /Page\n") == 1
