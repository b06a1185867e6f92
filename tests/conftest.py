"""Fixtures every folder of tests may use; `servers.py` and `builders.py` hold what they do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from exporter.demo.postgres import LocalServer
from tests.servers import PgBouncer, Platform, clone_platform, run_pgbouncer, run_server

# A machine may be slow, and a change must not fail for what another one wrote.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")

SERVER_IDS = ("pg15", "pg18")


def pytest_configure() -> None:
    """Take SIGINT again: a shell ignores it for what runs in the background, children included."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let everything run on both servers, and let the promise of the page be written anew."""
    parser.addoption("--every-server", action="store_true", help="not only on the newest")
    parser.addoption("--write-exported-metrics", action="store_true", help="as they are now")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that at the end no worker is alone with it.

    Coverage, which doubles the time of much of it, is taken neither there nor on the older server,
    where the same code runs once more.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    twice = [item for item in items if _is_on_the_older_server(item)]
    for item in (*twice, *filter(lambda item: item.get_closest_marker("slow"), items)):
        item.add_marker("no_cover")
    if config.getoption("--every-server"):
        return
    needless = {item for item in twice if item.get_closest_marker("newest")}
    config.hook.pytest_deselected(items=list(needless))
    items[:] = [item for item in items if item not in needless]


def _is_on_the_older_server(item: pytest.Item) -> bool:
    return hasattr(item, "callspec") and SERVER_IDS[0] in item.callspec.params.values()


@pytest.fixture(autouse=True)
def _unmeasured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no coverage in other processes where none is taken in this one."""
    if request.node.get_closest_marker("no_cover"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session", params=SERVER_IDS)
def postgres_server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """One server a version and test process; shared, so stop or crash it never."""
    with run_server(request.param) as server:
        yield server


@pytest.fixture
def platform(postgres_server: LocalServer) -> Iterator[Platform]:
    """A fresh database with the platform, on each version; dropped afterwards."""
    with clone_platform(postgres_server) as platform:
        yield platform


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    """A server of the test's own, newest version, to be stopped and crashed at will."""
    with run_server("pg18") as server:
        yield server


@pytest.fixture
def own_platform(own_server: LocalServer) -> Iterator[Platform]:
    """A platform database on `own_server`; start the server again before the test ends."""
    with clone_platform(own_server) as platform:
        yield platform


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: LocalServer) -> Iterator[PgBouncer]:
    """A real PgBouncer in transaction mode: `pgbouncer.dsn(platform.database)`."""
    with run_pgbouncer(postgres_server) as pooler:
        yield pooler
