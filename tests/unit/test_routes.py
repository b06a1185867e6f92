"""The landing page, whatever the databases are called; the other paths are in test_cli_routes."""

from __future__ import annotations

import re
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from exporter.daemon import Daemon
from exporter.metrics.exposition import Page
from exporter.metrics.snapshot import Snapshot
from exporter.ops.rules import Links, read_rules
from exporter.server.message import Request, Response
from exporter.server.routes import Place, build_application, build_place

PATHS = (
    *("/metrics", "/-/healthy", "/-/ready", "/"),
    *("/runbooks", "/runbooks/ChatQueueOldestWait"),
)


def worker_of(database: str, *, up: bool) -> Any:
    """What the routes look at of a worker that has polled."""
    polled = threading.Event()
    polled.set()
    snapshot = Snapshot(database, (), up, time.monotonic() + 60, None, None, (), (), ())
    return SimpleNamespace(database=database, snapshot=snapshot, first_poll_done=polled)


def landing_of(*workers: Any) -> Response:
    return ask("/", Place(), *workers)


def ask(path: str, place: Place, *workers: Any) -> Response:
    daemon = SimpleNamespace(
        workers=workers,
        is_ready=lambda: True,
        is_healthy=lambda: (),
        exposition=SimpleNamespace(page=lambda _: Page("text/plain", b"figures", b"")),
    )
    application = build_application(cast(Daemon, daemon), enable_lifecycle=False, place=place)
    return application(Request("GET", path, "", {}, b"", "127.0.0.1"))


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


@pytest.mark.parametrize(
    ("external_url", "route_prefix", "prefix", "links"),
    [
        (None, None, "", ""),
        ("https://example.org", None, "", ""),
        ("https://example.org/chat/queue/", None, "/chat/queue", "/chat/queue"),
        ("/chat", None, "/chat", "/chat"),
        ("https://example.org/chat", "/", "", "/chat"),
        ("https://example.org/chat", "inner/", "/inner", "/chat"),
        (None, "/inner", "/inner", "/inner"),
    ],
)
def test_the_prefix_is_the_external_urls_unless_given(
    external_url: str | None, route_prefix: str | None, prefix: str, links: str
) -> None:
    assert build_place(external_url, route_prefix) == Place(prefix, links)


@pytest.mark.parametrize("url", ["example.org", "ftp://h/x", "https:///x", "/a b", "/<script>"])
def test_an_external_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        build_place(url, None)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prefix", ["", "/chat", "/a/b"])
def test_every_path_is_served_below_the_prefix_and_only_there(path: str, prefix: str) -> None:
    place = Place(prefix, prefix)

    assert ask(f"{prefix}{path}", place).status == 200
    if prefix and path != "/":
        assert ask(path, place).status == 404
        assert ask(f"{prefix}x{path}", place).status == 404


def test_links_and_redirects_follow_the_external_url() -> None:
    place = Place("/inner", "/outer")
    page = ask("/inner/", place).body.decode()

    assert {"/outer/metrics", "/outer/-/healthy", "/outer/-/ready", "/outer/runbooks"} == {
        part.split('"')[0] for part in page.split('href="')[1:]
    }
    for path, location in (("/", "/inner/"), ("/inner", "/outer/")):
        found = ask(path, place)
        assert (found.status, dict(found.headers)["Location"]) == (302, location)
    assert "/outer/metrics" in ask("/inner/absent", place).body.decode()


ALERTS = sorted(
    {
        rule["alert"]
        for text in read_rules(Links()).values()
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    }
)


def test_a_page_that_links_to_the_daemon_opens_at_its_runbook() -> None:
    fitted = read_rules(Links(runbooks="http://watch.example.com:10847/chat/runbooks"))
    urls = re.findall(r"runbook_url: (\S+)", "".join(fitted.values()))
    page = ask("/chat/runbooks", Place("/chat", "/chat")).body.decode()

    assert {url.partition("#")[0] for url in urls} == {
        "http://watch.example.com:10847/chat/runbooks"
    }
    assert {url.partition("#")[2] for url in urls} <= set(re.findall(r'id="(\w+)"', page))
    # Every link of the page leads somewhere, and none to a document that is not served.
    anchors = set(re.findall(r'href="/chat/runbooks#(\w+)"', page))
    assert anchors <= set(re.findall(r'id="(\w+)"', page))
    assert ".md" not in "".join(re.findall(r'href="([^"]*)"', page))


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_page_of_its_own(alert: str) -> None:
    for spelt in (alert, alert.lower()):
        response = ask(f"/runbooks/{spelt}", Place())

        assert response.status == 200
        assert ("Content-Type", "text/html; charset=utf-8") in response.headers
        text = response.body.decode()
        assert f'<h2 id="{alert.lower()}">{alert}</h2>' in text
        assert "<b>Sleep again:</b>" in text or "<b>First:</b>" in text
        # Nothing of the Markdown is left over.
        assert not re.search(r"\*\*|\]\(|`", text)


@pytest.mark.parametrize("path", ["/runbooks/", "/runbooks/ChatQueueNone", "/runbooksx"])
def test_what_is_no_alert_has_no_runbook(path: str) -> None:
    assert ask(path, Place()).status == 404
