"""Prefixes, links and runbooks; what else the paths answer is in test_cli_routes and test_page."""

from __future__ import annotations

import re
from typing import cast

import pytest
import yaml

from exporter.daemon import Daemon
from exporter.ops.rules import Links, read_rules
from exporter.server.message import Request, Response
from exporter.server.routes import Place, build_application, build_place
from tests.page import FakeDaemon

PATHS = (
    *("/metrics", "/-/healthy", "/-/ready", "/"),
    *("/runbooks", "/runbooks/ChatQueueOldestWait"),
)


def ask(path: str, place: Place) -> Response:
    daemon = cast(Daemon, FakeDaemon())
    application = build_application(daemon, enable_lifecycle=False, place=place)
    return application(Request("GET", path, "", {}, b"", "127.0.0.1"))


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

    assert {"/outer/metrics", "/outer/-/healthy", "/outer/-/ready", "/outer/runbooks"} <= {
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
