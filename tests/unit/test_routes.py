"""The landing page, whatever the databases are called; the other paths are in test_cli_routes."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

from exporter.daemon import Daemon
from exporter.routes import build_application
from exporter.server import Request, Response
from exporter.snapshot import Snapshot


def worker_of(database: str, *, up: bool) -> Any:
    """What the routes look at of a worker that has polled."""
    polled = threading.Event()
    polled.set()
    snapshot = Snapshot(database, (), up, time.monotonic() + 60, None, None, (), (), ())
    return SimpleNamespace(database=database, snapshot=snapshot, first_poll_done=polled)


def landing_of(*workers: Any) -> Response:
    daemon = cast(Daemon, SimpleNamespace(workers=workers))
    application = build_application(daemon, enable_lifecycle=False)
    return application(Request("GET", "/", "", {}, b"", "127.0.0.1"))


def test_the_landing_page_escapes_the_names_of_databases() -> None:
    response = landing_of(worker_of("<script>alert('1')</script>&{0}", up=True))

    page = response.body.decode()
    assert "<td>&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&amp;{0}</td>" in page
    assert "<script" not in page
    assert ("Content-Type", "text/html; charset=utf-8") in response.headers


def test_the_landing_page_lists_every_database_once() -> None:
    page = landing_of(worker_of("one", up=True), worker_of("two", up=False)).body.decode()

    assert page.count("<tr>") == 2
    assert page.index("<td>one</td><td class=up>") < page.index("<td>two</td><td class=down>")
