"""What each path answers, without a server or a database."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.daemon import Daemon
from exporter.server.message import Request, Response
from exporter.server.routes import build_application

DATABASES = "databases: {main: {dsn: 'host=127.0.0.1 port=1'}}\n"


def make_daemon(tmp_path: Path) -> Daemon:
    """A daemon that has not begun to poll."""
    file = tmp_path / "chatqueue.yaml"
    file.write_text(DATABASES)
    return Daemon(file)


def request(method: str, path: str, headers: Mapping[str, str]) -> Request:
    """A request as the server hands it on."""
    return Request(method, path, "", headers, b"", "127.0.0.1")


Ask = Callable[..., Response]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = make_daemon(tmp_path)
    yield daemon
    daemon.stop(5)  # a reload starts what was not running


@pytest.fixture
def ask(daemon: Daemon) -> Ask:
    application = build_application(daemon, enable_lifecycle=True)

    def ask(path: str, method: str = "GET", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return application(request(method, path, named))

    return ask


def header(response: Response, name: str) -> str | None:
    """The one header of that name."""
    return dict(response.headers).get(name)


def test_an_unknown_path_points_to_the_figures(ask: Ask) -> None:
    response = ask("/nothing")

    assert (response.status, response.body) == (404, b"not found, the metrics are at /metrics\n")


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
def test_pages_are_only_read(path: str, ask: Ask) -> None:
    response = ask(path, "POST")

    assert response.status == 405
    assert header(response, "Allow") == "GET, HEAD"
    assert ask(path, "HEAD").status == ask(path).status


@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("*;q=0, gzip", True),
        ("gzip;q=0, *", False),
        ("gzip; q=0.000", False),
        ("*", True),
        ("br", False),
    ],
)
def test_figures_are_gzipped_for_who_takes_it(
    accept_encoding: str, is_compressed: bool, ask: Ask
) -> None:
    response = ask("/metrics", accept_encoding=accept_encoding)

    assert response.status == 200
    assert header(response, "Vary") == "Accept, Accept-Encoding"
    assert (header(response, "Content-Encoding") == "gzip") is is_compressed
    body = gzip.decompress(response.body) if is_compressed else response.body
    assert b"chatqueue_exporter_build_info" in body


def test_figures_come_as_openmetrics_for_who_asks(ask: Ask) -> None:
    response = ask("/metrics", accept="application/openmetrics-text;version=1.0.0")

    assert (header(response, "Content-Type") or "").startswith("application/openmetrics-text")
    assert response.body.endswith(b"# EOF\n")


def test_before_the_first_poll_it_is_not_ready_and_says_so(ask: Ask) -> None:
    response = ask("/-/ready")
    landing = ask("/").body.decode()

    assert (response.status, response.body) == (503, b"the first poll has not finished\n")
    assert "Not polled yet" in landing


def test_pollers_that_do_not_turn_are_named(daemon: Daemon, ask: Ask) -> None:
    response = ask("/-/healthy")  # never started, so no thread is alive

    words = b"stalled: main, logs, page, history, digests\n"
    assert (response.status, response.body) == (503, words)
    daemon.start()
    assert ask("/-/healthy").body == b"chatqueue-exporter is healthy.\n"
    assert daemon.stop(5)


def test_a_database_that_does_not_answer_is_shown_to_people(daemon: Daemon, ask: Ask) -> None:
    daemon.start()
    assert daemon.workers[0].first_poll_done.wait(10)
    landing = ask("/")

    assert header(landing, "Cache-Control") == "no-store"
    assert "database does not answer" in landing.body.decode()
    assert ask("/-/ready").status == 200
    assert daemon.stop(5)


def test_an_answer_that_is_too_old_is_none(daemon: Daemon) -> None:
    (worker,) = daemon.workers
    worker.first_poll_done.set()
    pages = []
    for up_for_s in (60, 0):
        until = time.monotonic() + up_for_s
        worker.snapshot = replace(worker.snapshot, up=True, up_until=until)
        application = build_application(daemon, enable_lifecycle=True)
        pages.append(application(request("GET", "/", {})).body.decode())

    assert ["database does not answer" in page for page in pages] == [False, True]


def test_a_reload_is_refused_without_the_flag(daemon: Daemon) -> None:
    response = build_application(daemon, enable_lifecycle=False)(request("POST", "/-/reload", {}))

    assert response.status == 403
    assert response.body == (b"lifecycle API is not enabled, expected --web.enable-lifecycle\n")


def test_a_reload_is_posted_and_its_faults_are_told(
    daemon: Daemon, ask: Ask, tmp_path: Path
) -> None:
    assert ask("/-/reload").status == 405
    assert header(ask("/-/reload"), "Allow") == "POST, PUT"
    assert ask("/-/reload", "PUT").status == 200
    (tmp_path / "chatqueue.yaml").write_text("databases: {}\n")
    response = ask("/-/reload", "POST")

    assert response.status == 500
    assert response.body.startswith(
        f"failed to reload configuration:\n{tmp_path}/chatqueue.yaml:1: databases: ".encode()
    )
    assert b"chatqueue_exporter_config_last_reload_successful 0.0" in ask("/metrics").body
