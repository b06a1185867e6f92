"""Every scenario of the demo, on a real server, is recognised by the page's words and colours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from exporter.demo.history import compute_minutes
from exporter.demo.scenarios import SCENARIOS
from exporter.demo.simulation import Simulation
from tests.browser.conftest import Tab
from tests.browser.test_live_page import AMBER, GREEN, RED, background, url_of
from tests.page import serve_page
from tests.proxy import Proxy
from tests.servers import Platform
from tests.watch import Watch, run_watch, write_config

# Its colours, and words that name it, in the verdict or beside it.
RECOGNISED = {
    "calm": ((GREEN,), "All is well"),
    "rush": ((RED,), "A user has waited far too long for an operator"),
    "vanished-operators": ((RED,), "The platform's idle detector does not take chats back"),
    "dead-idle-detector": ((RED, AMBER), "The platform's idle detector does not take chats back"),
    "same-chat": ((RED, AMBER), "An operator got the chat they just had while others waited"),
    "invalid-states": ((RED, AMBER), "Chats contradict themselves"),
    "lost-replies": ((RED,), "Users wrote back into chats that no operator will see"),
    "database-down": ((RED,), "The chat platform's database does not answer"),
}


def test_each_scenario_is_among_them() -> None:
    assert set(RECOGNISED) == set(SCENARIOS)


@contextlib.contextmanager
def living(scenario: str, platform: Platform, folder: Path) -> Iterator[Watch]:
    """A watch over the scenario's platform, a minute after it began to look."""
    simulation = Simulation(platform.dsn, scenario=scenario)
    rows = simulation.seed_history()
    lived = compute_minutes(rows, simulation.world.now, 120)
    with contextlib.closing(simulation), Proxy(platform.server.port) as proxy:
        dsn = platform.dsn.replace(str(platform.server.port), str(proxy.port))
        with run_watch(write_config(folder, {"demo": dsn})) as watch:
            watch.daemon.history.fill("demo", lived)
            watch.wait_for_poll("state_clock", "demo")
            simulation.step(simulation.world.now + 60)
            watch.wait_for_poll("assignments", "demo")
            if SCENARIOS[scenario].database_down:
                proxy.swallow()
            yield watch


@pytest.mark.newest
@pytest.mark.parametrize("scenario", RECOGNISED)
def test_a_scenario_is_recognised(
    scenario: str, platform: Platform, tmp_path: Path, new_tab: Callable[..., Tab]
) -> None:
    colours, words = RECOGNISED[scenario]
    with (
        living(scenario, platform, tmp_path) as watch,
        serve_page(watch.daemon) as server,
    ):
        tab = new_tab()
        page = tab.open(url_of(server))
        expect(page.locator("#live")).to_contain_text(words, timeout=30_000)

        assert background(page) in colours
        assert page.locator(".computed").count() >= 4
        assert tab.complaints == []
